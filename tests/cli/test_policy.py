"""`daypass policy`, as a person calls it: on a folder of its own, a real database and real recordings.

Covers proxy/cli/policy_show.py, policy_check.py, policy_diff.py, policy_backtest.py, policy_suggest.py and
policy_load.py.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from proxy.access.grants import Grants
from proxy.access.store import Store
from proxy.cli import policy_backtest, policy_check, policy_diff, policy_load, policy_show, policy_suggest
from proxy.cli.main import app
from proxy.clock import SystemClock
from proxy.demo.postgres import PostgresServer
from proxy.policy.load import parse
from recorder.events import Outcome
from recorder.journal import Recorder
from tests.recorder.support import Ticker, end, start, statement
from tests.support.postgres import load_shop

SINCE = "2026-11-23T00:00:00Z"
POLICY = """\
# what the vendor sees
name: reader
databases: [shop]
search_path: [app]
tables:
  app.customers: {deny: [ssn], mask: {email: email}}
  app.orders: {}
  app.products: {}
functions: {allow: [app.vat]}
tests:
  - {sql: select id from orders, verdict: allow}
"""
NEXT = POLICY.replace("name: reader", "name: next").replace("deny: [ssn]", "deny: [ssn, name]").replace(
    "  app.products: {}\n", ""
)  # fmt: skip
WATCH = "name: watcher\nmode: observe\ndatabases: [shop]\n"


@pytest.fixture
def folder(tmp_path: Path, pg: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    entry = {
        "host": pg.host, "port": pg.port, "dbname": load_shop(pg), "tls": "disable",
        "credential": {"mode": "shared", "user": pg.user, "password_env": "SHOP_PASSWORD"},
    }  # fmt: skip
    config = {"databases": {"shop": entry}, "listen": {"tls": {"mode": "disable"}}}
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "reader.yaml").write_text(POLICY)
    monkeypatch.setenv("SHOP_PASSWORD", pg.password)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["policy", *words], input=stdin)


def answer(*words: str, code: int = 0) -> Any:
    result = run(*words, "-o", "json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


Session = Callable[..., str]


@pytest.fixture
def session(folder: Path) -> Session:
    """Records a session of a new grant; returns the grant's id. A statement is SQL, or SQL and its verdict."""
    made: list[str] = []

    def record(policy: str, *sqls: str | tuple[str, str], sealed: bool = True) -> str:
        if policy == "watcher":
            (folder / "policies" / "watcher.yaml").write_text(WATCH)
        text = (folder / "policies" / f"{policy}.yaml").read_text()
        grant = asyncio.run(_grant(folder, policy, text))
        recorder = Recorder(folder / "recordings", now=Ticker())
        name = f"s-{len(made) + 1}"
        made.append(name)
        facts = {"grant": grant, "database": "shop", "policy": policy}
        recording = recorder.open(name, start(name, **facts))
        for n, one in enumerate(sqls, 1):
            sql, verdict = one if isinstance(one, tuple) else (one, "allow")
            recording.append(statement(n, sql, verdict=verdict, rule="table" if verdict == "deny" else verdict))
            state = "42501" if verdict == "deny" else "42P01" if "nowhere" in sql else None
            recording.append(Outcome(n=n, rows=1, bytes=1, ms=1.0, sqlstate=state))
        recording.flush()
        if sealed:
            recording.close(end(len(sqls)))
        recorder.close()
        return grant

    return record


async def _grant(folder: Path, policy: str, text: str) -> str:
    store = await Store.open(f"sqlite:///{folder / 'state.db'}")
    try:
        grant, _ = await Grants(store, SystemClock()).create(
            person="p", vendor="v", database="shop", policy=policy, policy_revision=parse(text, "p").revision,
            policy_text=text, reason="r", length=timedelta(hours=1), created_by="o",
        )  # fmt: skip
        return grant.id
    finally:
        await store.close()


# -- check, test, show ---------------------------------------------------------------------------------------------


def test_check_of_good_policies(folder: Path) -> None:
    assert answer("check") == {"ok": True, "policies": ["reader"], "findings": []}
    assert run("check", "-o", "table").stdout == "no mistakes in reader\n"
    assert run("check", "--offline", "-o", "table").stdout == "no mistakes in reader (databases left out)\n"


def test_check_names_the_line(folder: Path) -> None:
    text = POLICY.replace("app.orders: {}", "app.orders: {rows: \"placed_at > '2026-01-01'\"}").replace(
        "verdict: allow", "verdict: deny"
    )
    (folder / "policies" / "reader.yaml").write_text(text.replace("[app.vat]", "[app.nope]"))
    found = {(f["line"], f["key"], f["severity"]): f["message"] for f in answer("check", code=1)["findings"]}
    assert set(found) == {
        (7, "tables.app.orders", "warning"), (9, "functions.allow", "error"), (11, "tests[0]", "error")
    }  # fmt: skip
    assert (
        found[11, "tests[0]", "error"] == "expected deny, got mask (app.orders: shown in part): select id from orders"
    )
    said = run("check", "-o", "table").stdout
    assert ": policies/reader.yaml:7: tables.app.orders: rows: '2026-01-01' depends on TimeZone" in said
    assert said.endswith("2 errors, 1 warning\n")


def test_warnings_are_no_errors(folder: Path) -> None:
    (folder / "policies" / "reader.yaml").write_text(POLICY.replace("app.products", "app.product"))
    (finding,) = answer("check")["findings"]
    assert finding["message"] == "no table of the database matches (did you mean app.products?)"


def test_test_list_show_and_explain(folder: Path) -> None:
    assert answer("test", "reader")["tests"][0]["ok"] is True
    assert [p["name"] for p in answer("list")] == ["reader"]
    assert answer("show", "reader")["text"] == POLICY
    assert answer("explain", "select ssn from hr.salaries", "-p", "reader", code=1)["rule"] == "table"
    parsers = answer("explain", "select id from orders where status = 'new'", "-p", "reader")["parsers"][0]
    assert parsers["postgres"]["strings"] == parsers["sqlglot"]["strings"] == ["new"]
    assert run("show", "raeder").exit_code == 2


def test_a_snapshot_takes_the_place_of_a_database(folder: Path, pg: PostgresServer) -> None:
    (folder / "shop.json").write_text(run("snapshot", "shop").stdout)
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace(f'"port": {pg.port}', '"port": 1'))
    assert run("check").exit_code == 3
    assert run("test", "reader", "--catalog", "shop.json").exit_code == 0
    assert run("explain", "select 1", "-p", "reader", "--catalog", "shop.json").exit_code == 0
    assert answer("diff", "reader", "reader", "--catalog", "shop.json") == []


# -- diff ----------------------------------------------------------------------------------------------------------


def test_diff_says_it_in_words(folder: Path) -> None:
    (folder / "next.yaml").write_text(NEXT)
    rows = answer("diff", "reader", "next.yaml")
    assert {(r["what"], r["effect"], r["text"], tuple(r["databases"])) for r in rows} == {
        ("app.customers.name", "refuses", "hidden; it was shown", ("shop",)),
        ("app.products", "refuses", "no longer readable", ("shop",)),
    }
    said = run("diff", "reader", "next.yaml", "-o", "table").stdout
    assert "0 newly allowed, 2 newly refused, 0 changed in next.yaml, on shop" in said
    assert [r["effect"] for r in answer("diff", "next.yaml", "reader")] == ["allows", "allows"]


def test_diff_of_files_needs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text(POLICY)
    result = run("diff", "-", "a.yaml", "-o", "json", stdin=NEXT)
    assert [r["databases"] for r in json.loads(result.stdout)] == [[], []]
    assert run("diff", "a.yaml", "a.yaml", "-o", "table").stdout == "a.yaml allows and refuses what a.yaml does.\n"
    assert run("diff", "a.yaml", "nothing.yaml").exit_code == 2
    assert run("diff", "reader", "a.yaml").exit_code == 2
    Path("bad.yaml").write_text("name: a\n")
    assert run("diff", "a.yaml", "bad.yaml").exit_code == 2


def test_diff_falls_back_to_what_is_declared(folder: Path, pg: PostgresServer) -> None:
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace(f'"port": {pg.port}', '"port": 1'))
    (folder / "next.yaml").write_text(NEXT)
    result = run("diff", "reader", "next.yaml", "-o", "table")
    assert result.exit_code == 0
    assert "compared as declared" in result.stderr
    assert "in next.yaml, as declared" in result.stdout


# -- backtest ------------------------------------------------------------------------------------------------------


def test_backtest_finds_what_would_be_refused(folder: Path, session: Session) -> None:
    grant = session(
        "reader", "select price from products where name = 'my secret'", ("select name from customers", "mask"),
        "select id from orders", ("select 1 from hr.salaries", "deny"),
    )  # fmt: skip
    open_ = session("reader", "select price from products where name = 'other'", sealed=False)
    (folder / "next.yaml").write_text(NEXT)
    found = answer("backtest", "next.yaml", "--since", SINCE, code=1)
    assert (found["ok"], found["statements"], found["same"], found["refused"]) == (False, 5, 2, 3)
    products = found["changes"][0]
    assert products["statement"] == "select price from products where name = $1"
    assert (products["count"], products["grants"]) == (2, sorted([grant, open_]))
    assert found["changes"][1]["rule"] == "column"
    assert answer("backtest", "reader", "--since", SINCE)["changes"] == []
    assert answer("backtest", "next.yaml", "--since", SINCE, "--grant", open_, code=1)["statements"] == 1
    said = run("backtest", "next.yaml", "--since", SINCE, "-o", "table")
    assert "newly refused: 3" in said.stdout
    assert "app.customers shows no column name" in said.stdout
    assert "secret" not in said.output


def test_backtest_of_nothing(folder: Path, session: Session) -> None:
    assert run("backtest", "reader").exit_code == 0
    session("reader", "select 1")
    result = run("backtest", "reader", "--since", "2999-01-01T00:00:00Z")
    assert result.exit_code == 0
    assert "no statement was recorded since" in result.stderr
    for words in (["--since", "yesterday"], ["--grant", "g-none"], ["--database", "other"]):
        assert run("backtest", "reader", *words).exit_code == 2


def test_backtest_after_the_grants_are_gone(folder: Path, session: Session) -> None:
    session("reader", ("select name from customers", "mask"))
    (folder / "state.db").unlink()
    (folder / "next.yaml").write_text(NEXT)
    assert answer("backtest", "next.yaml", "--since", SINCE, code=1)["changes"][0]["rule"] == "column"


# -- suggest -------------------------------------------------------------------------------------------------------


def test_a_suggestion_is_a_patch(folder: Path, session: Session) -> None:
    used = ["select id, status from orders", ("select email from customers", "mask"), "select x from nowhere"]
    grant = session("reader", *used, ("select 1 from hr.salaries", "deny"))
    found = answer("suggest", "--grant", grant)
    assert (found["statements"], found["uncovered"], found["sessions"]) == (2, [], ["s-1"])
    assert set(parse(found["yaml"], "s").model.tables) == {"app.customers", "app.orders"}
    patch = run("suggest", "--grant", grant, "-o", "table").stdout
    assert patch == found["diff"]
    done = subprocess.run(["git", "apply", "-"], input=patch, text=True, cwd=folder, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (folder / "policies" / "reader.yaml").read_text() == found["yaml"]
    assert run("check").exit_code == 0
    assert run("backtest", "reader", "--since", SINCE).exit_code == 0
    # The file is another now, and the grant's revision is what the diff is against.
    assert answer("suggest", "--grant", grant)["diff"] == found["diff"]


def test_a_suggestion_for_what_was_only_observed(folder: Path, session: Session) -> None:
    session("watcher", "set search_path = app", "select name from customers", "delete from app.orders where id = 0")
    found = answer("suggest", "--session", "s-1")
    model = parse(found["yaml"], "s").model
    assert (model.mode, model.search_path, list(model.tables)) == ("enforce", ["app"], ["app.customers"])
    assert found["uncovered"] == [
        {"statement": "delete from app.orders where id = $1", "rule": "write",
         "reason": "DELETE writes; this access is read-only"}
    ]  # fmt: skip


def test_a_suggestion_needs_something(folder: Path, session: Session) -> None:
    assert run("suggest").exit_code == 2
    assert run("suggest", "--session", "nothing").exit_code == 2
    assert run("suggest", "--grant", "g-none").exit_code == 1
    grant = session("reader", ("select 1 from hr.salaries", "deny"))
    assert run("suggest", "--grant", grant).exit_code == 1


@pytest.mark.parametrize(
    "command",
    [
        policy_backtest.backtest, policy_check.check, policy_check.run, policy_diff.diff, policy_show.explain,
        policy_show.list_, policy_show.show, policy_show.snapshot, policy_suggest.suggest,
    ],
)  # fmt: skip
def test_help_has_an_example(command: Callable[..., None]) -> None:
    assert "Example: [bold]" in (command.__doc__ or "")
    assert policy_load.is_file("policies/a.yaml")
