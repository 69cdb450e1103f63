"""Statements that try to get past the guard, judged and, where they are allowed, run against a real Postgres.

Two-world form: `world.sql` and `rows.sql` make one small firm twice, equal in all that the policy shows and different
in every secret. The guard stands alone here (superuser, as with a shared credential). `evasions.jsonl` holds one case a
line: `must` is `deny` (refused), `safe` (refused, or answered alike in both worlds without a secret or an effect) or
`allow` (answered). A case of class guard-dos is judged in a process of its own, which has to survive and to be quick.
"""

from __future__ import annotations

import asyncio
import json
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import pq
from psycopg.pq.abc import PGconn

from proxy import catalog
from proxy.demo.postgres import PostgresServer
from proxy.policy.judge import Judge, startup_settings
from proxy.policy.load import parse
from tests.support.postgres import Servers, bindirs, fresh_database

HERE = Path(__file__).parent
CASES: list[dict[str, Any]] = [json.loads(line) for line in (HERE / "evasions.jsonl").read_text().splitlines()]
POLICY = """
name: evasions
databases: [evasions_1, evasions_2]
search_path: [shop]
tables:
  shop.*: {}
  shop.people:
    deny: [tax_no]
    mask: {mail: email, iban: last4, born: year, wage: null, nick: hash}
  shop.notes: {rows: "owner = 'pub'"}
  shop.events: {rows: "kind = 'open'"}
  shop.Odd "Name: {deny: [secret]}
functions: {allow: [shop.vat]}
limits: {statement_timeout: 2s}
"""
SECRET = re.compile(
    rb"TAX-[12]-|AAAA-\d|ZZZZ-\d|p\d+@firm|pxxxxxx@firm|SECRET-ONE|HIDDEN-TWO|\b(?:555|888)00\d\d\b|-02-03\b|-11-19\b"
    rb"|\b[17]0[0-6]\d\.00\b|c0ffee"
)
# What may differ between two runs for honest reasons: the database's name, clocks, process ids, measured times.
HONEST = re.compile(rb"evasions_[12]|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+|Time: [\d.]+ ms|time=[\d.]+")
EFFECTS = """
select (select count(*) from pg_largeobject_metadata), (select last_value::text || is_called from shop.invoice_no),
       (select count(*) from pg_locks where locktype = 'advisory'), (select count(*) from pg_class),
       (select count(*) from pg_proc), (select count(*) from shop.orders), (select count(*) from pg_db_role_setting),
       (select count(*) from pg_prepared_xacts)"""
PINS = (
    *(b"default_transaction_read_only", b"search_path", b"statement_timeout", b"lock_timeout", b"row_security"),
    *(b"standard_conforming_strings", b"client_encoding", b"role", b"session_replication_role", b"work_mem"),
)
JUDGES_AT_MOST = 1.0  # seconds for one hostile text; a shared and busy machine is allowed for
Answer = list[tuple[str, list[Any], bytes | None, bytes]]


def steps_of(case: dict[str, Any]) -> list[bytes]:
    if "unit" in case:
        return [(case["head"] + case["unit"] * case["n"] + case["tail"]).encode()]
    steps: list[str] = case.get("script") or [case["sql"]]
    return [step.encode() for step in steps]


class World:
    """One of the two databases, with a session as daypass would open it."""

    def __init__(self, pg: PostgresServer, dbname: str, settings: dict[str, str]) -> None:
        options = " ".join("-c " + f"{k}={v}".replace("\\", "\\\\").replace(" ", "\\ ") for k, v in settings.items())
        self.dsn = psycopg.conninfo.make_conninfo(pg.dsn(dbname), options=options)
        self.admin = psycopg.connect(pg.dsn(dbname), autocommit=True)
        self.session: PGconn | None = None

    def close(self) -> None:
        self.admin.close()
        if self.session:
            self.session.finish()

    def effects(self) -> Any:
        return self.admin.execute(EFFECTS).fetchone()

    def run(self, texts: list[bytes], notices: list[bytes]) -> tuple[Answer, Any, list[bytes]]:
        """The answers, the effects seen while the session is open, and its pinned settings afterwards."""
        if self.session is None:
            self.session = pq.PGconn.connect(self.dsn.encode())
            assert self.session.status == pq.ConnStatus.OK, self.session.get_error_message()
        session = self.session
        session.notice_handler = lambda r: notices.append(r.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"")
        try:
            found = [entry for text in texts for entry in _answers(session, text)]
            seen = self.effects()
            _answers(session, b"rollback")
            _answers(session, b"begin")
            asked = b", ".join(b"current_setting('%s')" % name for name in (*PINS, b"transaction_read_only"))
            pins = [value.strip(b'"') for _, rows, *_ in _answers(session, b"select " + asked) for value in rows[1]]
            _answers(session, b"rollback")
            _answers(session, b"discard all")
            return found, seen, pins
        except BaseException:
            session.finish()
            self.session = None
            raise


def _answers(session: PGconn, text: bytes, within: float = 8.0) -> Answer:
    out: Answer = []
    end = time.monotonic() + within

    def wait() -> None:
        left = end - time.monotonic()
        assert left > 0, "stall"
        assert select.select([session.socket], [], [], left)[0], "stall"
        session.consume_input()

    session.send_query(text)
    session.flush()
    while True:
        while session.is_busy():
            wait()
        result = session.get_result()
        if result is None:
            return out
        assert result.status not in (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_BOTH)
        rows: list[Any] = [tuple(result.fname(i) for i in range(result.nfields))]
        rows += [tuple(result.get_value(i, j) for j in range(result.nfields)) for i in range(result.ntuples)]
        while result.status == pq.ExecStatus.COPY_OUT:
            size, data = session.get_copy_data(1)
            if size > 0:
                rows.append(bytes(data))
            elif size == 0:
                wait()
            else:
                break
        told = [result.error_field(f) for f in (pq.DiagnosticField.MESSAGE_PRIMARY, pq.DiagnosticField.MESSAGE_DETAIL)]
        told += [result.error_field(f) for f in (pq.DiagnosticField.MESSAGE_HINT, pq.DiagnosticField.CONTEXT)]
        code = result.error_field(pq.DiagnosticField.SQLSTATE)
        out.append((pq.ExecStatus(result.status).name, rows, code, b" | ".join(filter(None, told))))


class Stage:
    """Both worlds and a judge on the first one's catalog."""

    def __init__(self, pg: PostgresServer, folder: Path) -> None:
        for world in (1, 2):  # the second is a copy of the first one's schema, so that even the OIDs are equal
            name = fresh_database(pg, f"evasions_{world}", template="evasions_0" if world == 2 else "template1")
            with psycopg.connect(pg.dsn(name), autocommit=True) as conn:
                if world == 1:
                    conn.execute((HERE / "world.sql").read_bytes())
            if world == 1:
                fresh_database(pg, "evasions_0", template=name)
            with psycopg.connect(pg.dsn(name), autocommit=True) as conn:
                conn.execute((HERE / "rows.sql").read_text().replace("__W__", str(world)).encode())
        where = {"host": pg.host, "port": pg.port, "user": pg.user, "password": pg.password, "tls": "disable"}
        snapshot = asyncio.run(catalog.snapshot(dbname="evasions_1", **where))  # type: ignore[arg-type]
        self.judge = Judge(parse(POLICY, "evasions.yaml"), snapshot, key="c0ffee")
        settings = startup_settings(self.judge.policy, pg.version * 10000)
        settings.pop("client_encoding")
        self.worlds = [World(pg, f"evasions_{i}", settings | {"client_encoding": "UTF8"}) for i in (1, 2)]
        self.dump = folder / f"catalog-{pg.version}.json"
        self.dump.write_bytes(snapshot.dump())
        self.pins = self.worlds[0].run([b"select 1"], [])[2]

    def close(self) -> None:
        for world in self.worlds:
            world.close()


class Stages:
    """A stage for each server that is asked for."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        self.servers, self.folder = servers, folder
        self.made: dict[Path, Stage] = {}
        self.failed: dict[Path, Exception] = {}

    def on(self, bindir: Path) -> Stage:
        assert bindir not in self.failed, f"the stage could not be made: {self.failed[bindir]}"
        if bindir not in self.made:
            try:
                self.made[bindir] = Stage(self.servers.get(bindir), self.folder)
            except Exception as error:
                self.failed[bindir] = error  # once is enough
                raise
        return self.made[bindir]


@pytest.fixture(scope="module")
def stages(pg_servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    made = Stages(pg_servers, tmp_path_factory.mktemp("evasions"))
    yield made
    for each in made.made.values():
        each.close()


@pytest.fixture
def stage(stages: Stages) -> Stage:
    return stages.on(bindirs()[0])


def harm(stage: Stage, given: list[bytes], forwarded: list[bytes]) -> str:
    """What is wrong with letting these texts through, "" for nothing."""
    before = [world.effects() for world in stage.worlds]
    shown = []
    for world, start in zip(stage.worlds, before, strict=True):
        notices: list[bytes] = []
        answers, seen, pins = world.run(forwarded, notices)
        if seen != start or world.effects() != start:
            return f"the database changed: {start} {seen} {world.effects()}"
        if pins != stage.pins:
            return f"the session's pins changed: {pins}"
        shown.append(HONEST.sub(b"~", repr((answers, notices)).encode()))
    if shown[0] != shown[1]:
        return f"the worlds differ: {shown[0][:400]!r} / {shown[1][:400]!r}"
    secret = SECRET.search(shown[0])
    if secret and secret.group() not in b" ".join(given):
        return f"a secret is in the answer: {secret.group()!r}"
    return ""


@pytest.mark.parametrize("case", [c for c in CASES if c["class"] != "guard-dos"], ids=lambda case: str(case["id"]))
def test_evasion(stages: Stages, case: dict[str, Any]) -> None:
    """The guard's verdict is right, cached or not, and what it lets through does no harm.

    What newer grammars read in their own way is asked of the oldest server that is here.
    """
    stage = stages.on(bindirs()[-1 if case["class"] == "grammar" else 0])
    given = steps_of(case)
    verdicts = [stage.judge.judge(text) for text in given]
    plain = [stage.judge.uncached(text) for text in given]
    assert [(v.allowed, v.forward) for v in verdicts] == [(v.allowed, v.forward) for v in plain]
    allowed = all(v.allowed for v in verdicts)
    refusal = next((v.refusal for v in verdicts if v.refusal), None)
    if case["must"] == "deny":
        assert not allowed, f"allowed: {case['why']}"
        return
    if case["must"] == "allow":
        assert allowed, f"refused: {refusal and (refusal.rule, refusal.reason, refusal.hint)}"
    if not allowed:
        return
    found = harm(stage, given, [v.forward for v in verdicts])
    assert not found, f"{found} ({case['why']})"
    if case["must"] == "allow":
        session = stage.worlds[0].run([v.forward for v in verdicts], [])[0]
        assert not [told for status, _, _, told in session if status == "FATAL_ERROR"]


PAIRS = [
    (b"select 'shop.orders'::regclass", b"select 'vault.pay'::regclass"),
    (b"select 'shop'::regnamespace", b"select 'vault'::regnamespace"),
    (b"select 'pg_catalog.lower'::regproc", b"select 'vault.max'::regproc"),
    (b"select repeat('x', 5)", b"select repeat('x', 900000000)"),
    (b"select repeat('x', 5)", b"select repeat('x', 1 + 900000000)"),
    (b"select format('%5s', 'x')", b"select format('%900000000s', 'x')"),
    (b"select current_setting('timezone')", b"select current_setting('data_directory')"),
    (b"select set_config('timezone', 'UTC', true)", b"select set_config('search_path', 'vault', true)"),
    (b"set client_min_messages to notice", b"set client_min_messages to log"),
    (b"set timezone to 'UTC'", b"set role to 'UTC'"),
    (b"set search_path to shop", b"set search_path to vault"),
    (b"set default_transaction_read_only = on", b"set default_transaction_read_only = off"),
    (b"set client_encoding = 'utf8'", b"set client_encoding = 'latin1'"),
]


@pytest.mark.parametrize(("good", "bad"), PAIRS)
def test_one_shape_two_verdicts(stage: Stage, good: bytes, bad: bytes) -> None:
    """A verdict that hangs on a constant never comes out of the cache of shapes."""
    judge = Judge(stage.judge.policy, stage.judge.catalog)
    assert judge.judge(good).allowed
    assert not judge.judge(bad).allowed
    judge = Judge(stage.judge.policy, stage.judge.catalog)
    assert not judge.judge(bad).allowed
    assert judge.judge(good).allowed


@pytest.mark.parametrize("name", ["shop.tax", "shop.tax2", "shop.pair", "shop.mixed", "shop.people", "vault.pay"])
def test_declared_types_run_no_code(stage: Stage, name: str) -> None:
    """Parse may declare a parameter's type; reading a value of it runs the type's checks."""
    row = stage.worlds[0].admin.execute("select %s::text::regtype::oid", [name]).fetchone()
    assert row
    assert not stage.judge.judge(b"select $1", (row[0],)).allowed
    assert stage.judge.judge(b"select $1", (25,)).allowed
    assert stage.judge.judge(b"select $1", ()).allowed
    assert not stage.judge.judge(b"select $1", (row[0],)).allowed


def test_the_cases_are_of_every_kind() -> None:
    assert len(CASES) > 600
    assert len({c["id"] for c in CASES}) == len(CASES)
    assert {c["must"] for c in CASES} == {"deny", "safe", "allow"}
    assert all(c["why"] for c in CASES)


CHILD = """
import json, sys, time
from pathlib import Path
from proxy import catalog
from proxy.policy.judge import Judge
from proxy.policy.load import parse

judge = Judge(parse(Path(sys.argv[1]).read_text(), "evasions.yaml"), catalog.load(Path(sys.argv[2]).read_bytes()))
judge.judge(b"select p.id from people p")
print("ready", flush=True)
for line in sys.stdin:
    start = time.perf_counter()
    try:
        said = str(judge.judge(json.loads(line).encode()).allowed)
    except BaseException as error:
        said = f"raised {type(error).__name__}"
    print(said, time.perf_counter() - start, flush=True)
"""


class Child:
    """A process that judges one text after the other; started again when it died or took too long."""

    def __init__(self, policy: Path, dump: Path) -> None:
        self.argv = [sys.executable, "-c", CHILD, str(policy), str(dump)]
        self.process: subprocess.Popen[bytes] | None = None

    def judge(self, text: bytes, within: float) -> str:
        """What it said, or how it ended."""
        if self.process is None:
            self.process = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert self._line(30) == "ready"
        assert self.process.stdin
        self.process.stdin.write(json.dumps(text.decode()).encode() + b"\n")
        self.process.stdin.flush()
        said = self._line(within)
        if not said:
            died = self.process.poll()
            self.close()
            return "took too long" if died is None else f"the process died ({died})"
        return said

    def _line(self, within: float) -> str:
        assert self.process
        assert self.process.stdout
        if not select.select([self.process.stdout], [], [], within)[0]:
            return ""
        line = self.process.stdout.readline().decode().strip()
        if not line:
            self.process.wait(5)
        return line

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


@pytest.fixture(scope="module")
def child(stages: Stages, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    policy = tmp_path_factory.mktemp("policy") / "evasions.yaml"
    policy.write_text(POLICY)
    made = Child(policy, stages.on(bindirs()[0]).dump)
    yield made
    made.close()


@pytest.mark.parametrize("case", [c for c in CASES if c["class"] == "guard-dos"], ids=lambda case: str(case["id"]))
def test_the_guard_survives(child: Child, case: dict[str, Any]) -> None:
    """No text kills, blocks or surprises the guard."""
    (text,) = steps_of(case)
    said = child.judge(text, within=JUDGES_AT_MOST * 2)
    assert re.match(r"(?:True|False) ", said), f"{said}: {case['why']}"
    assert float(said.split()[1]) < JUDGES_AT_MOST, said
