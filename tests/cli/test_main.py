"""The frame of the command line: help with examples, options before and after, exit codes, one form of errors.

Covers proxy/cli/options.py and proxy/cli/output.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.core import TyperGroup
from typer.main import get_command, get_group
from typer.testing import CliRunner

from proxy.cli.main import NOUNS, app

runner = CliRunner()


def commands() -> dict[str, Any]:
    """Every command that can be run, by its words."""
    root = get_command(app)
    assert isinstance(root, TyperGroup)
    found: dict[str, Any] = {}

    def walk(group: TyperGroup, words: str) -> None:
        for name in group.list_commands(None):  # type: ignore[arg-type]  # ours and Typer's need no context
            command = group.get_command(None, name)  # type: ignore[arg-type]
            here = f"{words} {name}".strip()
            assert command is not None, f"{here} is listed and cannot be loaded"
            if isinstance(command, TyperGroup):
                walk(command, here)
            else:
                found[here] = command

    walk(root, "")
    return found


COMMANDS = commands()


def test_the_interface_is_there() -> None:
    wanted = """demo, init, serve, config check, config schema, config show, policy check, policy list, policy show,
        policy explain, policy test, grant create, grant list, grant show, grant token, grant revoke, session list,
        session show, recording verify, recording replay, recording export, health, doctor"""
    assert {" ".join(words.split()) for words in wanted.split(",")} <= set(COMMANDS)


@pytest.mark.parametrize("words", sorted(COMMANDS))
def test_every_help_shows_an_example(words: str) -> None:
    answer = runner.invoke(app, [*words.split(), "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert answer.exit_code == 0
    text = " ".join(answer.output.split())
    assert "Example" in text
    assert f"daypass {words}" in text.split("Example", 1)[1] or "daypass -c" in text.split("Example", 1)[1]


@pytest.mark.parametrize("words", sorted(COMMANDS))
def test_every_command_stands_in_the_reference(words: str) -> None:
    reference = (Path(__file__).parents[2] / "docs" / "reference" / "cli.md").read_text()
    assert f"`daypass {words}" in reference
    for parameter in COMMANDS[words].params:
        for option in parameter.opts:
            if option.startswith("--") and option not in {"--help", "--config", "--output"}:
                assert f"`{option}" in reference, f"{option} of {words} is not in docs/reference/cli.md"


def test_every_noun_is_in_the_help() -> None:
    answer = runner.invoke(app, ["--help"])
    assert answer.exit_code == 0
    assert all(noun in answer.output for noun in NOUNS)


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("grnt", "there is no command 'grnt'", "did you mean grant?"),
        ("zzz", "there is no command 'zzz'", "there are: demo, init"),
        ("grant lst", "no such command 'lst'", ""),
        ("grant create", "missing option '--person'", "daypass grant create --help"),
        ("config show --nonsense", "no such option: --nonsense", "daypass config show --help"),
        ("config show -o xml", "invalid value for '--output' / '-o'", ""),
        ("health --timeout never", "invalid value for '--timeout'", ""),
    ],
)
def test_usage_errors_have_one_form_and_exit_2(words: str, message: str, hint: str) -> None:
    answer = runner.invoke(app, words.split())
    assert answer.exit_code == 2
    assert answer.stdout == ""
    assert f"error: {message}".lower() in answer.stderr.lower()
    assert hint in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_noun_alone_shows_its_help() -> None:
    for words in ([], ["grant"]):
        answer = runner.invoke(app, words)
        assert answer.exit_code == 2
        assert "Usage:" in answer.output
        assert "error: a command is missing" in answer.stderr


def test_no_config_says_where_one_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAYPASS_CONFIG", raising=False)
    answer = runner.invoke(app, ["config", "show"])
    assert answer.exit_code == 2
    assert "there is no config.yaml here" in answer.stderr
    assert "DAYPASS_CONFIG" in answer.stderr


def test_options_before_and_after_the_command(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(house / "config.yaml")
    for words in (
        ["-c", path, "-o", "json", "config", "show"],
        ["config", "show", "--config", path, "--output", "json"],
        ["-c", "nowhere.yaml", "-o", "table", "config", "show", "-c", path, "-o", "json"],
    ):
        answer = runner.invoke(app, words)
        assert answer.exit_code == 0, answer.output
        assert json.loads(answer.stdout)["listen"]["port"] == 6432
    monkeypatch.setenv("DAYPASS_CONFIG", path)
    assert json.loads(runner.invoke(app, ["config", "show", "-o", "json"]).stdout)
    monkeypatch.delenv("DAYPASS_CONFIG")
    monkeypatch.chdir(house)
    assert runner.invoke(app, ["config", "show"]).exit_code == 0


def daypass(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "proxy.cli.main", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_the_real_command() -> None:
    assert daypass("--version").stdout.startswith("daypass ")
    assert daypass("nonsense").returncode == 2


def test_no_colour_where_none_is_wanted() -> None:
    coloured = daypass("nonsense", FORCE_COLOR="1", TERM="xterm").stderr
    assert "\x1b[" in coloured
    assert "\x1b[" not in daypass("nonsense", NO_COLOR="1", TERM="xterm").stderr
    assert "\x1b[" not in daypass("nonsense").stderr


def test_a_reader_that_has_enough_is_no_error(house: Path) -> None:
    command = f"{sys.executable} -m proxy.cli.main config schema | head -c 10"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


@pytest.mark.thorough
def test_completion_knows_the_commands() -> None:
    done = daypass(_DAYPASS_COMPLETE="complete_bash", COMP_WORDS="daypass gr", COMP_CWORD="1")
    assert "grant" in done.stdout


@pytest.mark.parametrize(
    ("words", "module", "heavy"),
    [
        (["health"], "proxy.cli.health", {"sqlglot", "sqlalchemy", "asyncpg", "alembic", "cryptography"}),
        (["grant", "list"], "proxy.cli.grant", {"sqlglot", "postgast", "proxy.cli.grant_role"}),
        (["request", "list"], "proxy.cli.request", {"sqlglot", "postgast"}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_light_commands_do_not_load_heavy_libraries(
    house: Path, words: list[str], module: str, heavy: set[str]
) -> None:  # fmt: skip
    code = "import sys; from proxy.cli.main import app\ntry: app()\nfinally: print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code, "-c", str(house / "config.yaml"), *words],
        capture_output=True,
        text=True,
        check=False,
    )
    loaded = set(done.stderr.split())
    assert module in loaded
    assert not loaded & heavy


def test_what_is_logged_stays_out_of_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    get_group(app).get_command(None, "policy")  # type: ignore[arg-type]
    structlog.get_logger().warning("policy_problem", policy="a")
    said = capsys.readouterr()
    assert said.out == ""
    assert json.loads(said.err) == {"policy": "a", "event": "policy_problem", "level": "warning"}
