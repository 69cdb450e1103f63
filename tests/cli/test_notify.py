"""`daypass notify`: a test that arrives or says why not; how each sink stands; no secret on the screen."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from proxy.access.outbox import Outbox
from proxy.cli.main import app
from proxy.cli.options import load_config
from proxy.cli.state import Access, with_access
from tests.access.wishes import wish
from tests.server.sinks import Hook

runner = CliRunner()


def run(house: Path, *words: str) -> Result:
    return runner.invoke(app, ["-c", str(house / "config.yaml"), *words])


def tell(house: Path, **sinks: dict[str, Any]) -> None:
    config = house / "config.yaml"
    config.write_text(config.read_text() + f"\nnotify: {json.dumps(sinks)}\n")


def test_it_arrives(house: Path) -> None:
    with Hook() as hook:
        tell(house, chat={"webhook": hook.url + "/hush"}, page={"command": ["cat"]})
        result = run(house, "notify", "test", "--by", "ann", "-o", "json")
        assert result.exit_code == 0, result.output
        one = run(house, "notify", "test", "chat", "-o", "table")
    first, second = json.loads(result.stdout)
    assert (first["sink"], first["ok"], first["said"]) == ("chat", True, "200 OK")
    assert (second["kind"], second["ok"]) == ("command", True)
    assert one.stdout == f"ok    chat: http://127.0.0.1:{hook.port}/…: 200 OK\n"
    assert "hush" not in result.output + one.output
    told, again = (got.data for got in hook.got)
    assert (told["action"], told["detail"]["by"]) == ("notify.test", "ann")
    assert told["id"] != again["id"]


def test_it_does_not_arrive(house: Path) -> None:
    with Hook(answer=403, text=b"who are you") as hook:
        tell(house, chat={"webhook": hook.url}, page={"command": ["true"]})
        result = run(house, "notify", "test", "-o", "table")
    assert result.exit_code == 1
    assert "FAIL  chat:" in result.stdout
    assert "403 Forbidden: who are you" in result.stdout
    assert "ok    page: true: exit code 0" in result.stdout
    assert result.stderr == "error: not reached: chat\n"


def test_nobody_and_nobody_of_that_name(house: Path) -> None:
    result = run(house, "notify", "test")
    assert (result.exit_code, result.stderr.splitlines()[0]) == (2, "error: config.yaml has no notify")
    listed = run(house, "notify", "list", "-o", "table")
    assert (listed.exit_code, listed.stderr) == (0, "Nobody is told: config.yaml has no notify.\n")
    tell(house, chat={"command": ["true"]})
    assert "did you mean chat?" in run(house, "notify", "test", "chatt").stderr


@pytest.mark.parametrize("output", ["json", "table"])
def test_how_each_stands(house: Path, output: str) -> None:
    tell(house, chat={"webhook": "https://chat.example/T0/hush", "events": ["request.*"]}, page={"command": ["page"]})

    async def happen(access: Access) -> None:
        outbox = Outbox(access.store, access.clock)
        await outbox.due("chat", ["*"])
        for name in ("a", "b"):
            await access.requests.create(wish(person=name), by="sam", lapse=timedelta(days=1))
        first, second = await outbox.due("chat", ["*"])
        await outbox.delivered(first, "chat")
        await outbox.failed(second, "chat", "503 busy")

    with_access(load_config(house / "config.yaml"), happen)
    result = run(house, "notify", "list", "-o", output)
    assert result.exit_code == 0, result.output
    assert "hush" not in result.stdout
    if output == "json":
        chat, page = json.loads(result.stdout)
        assert (chat["backlog"], chat["given_up"], chat["error"]) == (1, 0, "503 busy")
        assert chat["last"].endswith("Z")
        assert (page["last"], page["backlog"], page["target"]) == (None, 0, "page")
    else:
        assert "503 busy" in result.stdout
        assert "never" in result.stdout
