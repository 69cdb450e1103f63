"""The stage of the two-world test: one firm in three databases that the policy shows alike, and a judge in front.

`first` and `twin` hold the same secrets, `second` others. What differs between first and second but not between first
and twin hangs on a secret; what differs between first and twin is a clock, a process id or chance. Sessions are opened
as the proxy opens its upstream ones: with a shared credential as superuser (the guard stands alone), with an ephemeral
one as the policy's role. Functions that the policy does not allow are counted when they run (track_functions).
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import re
import select
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import sqlglot
from psycopg import pq
from psycopg.pq.abc import PGconn, PGresult

from proxy import catalog
from proxy.access import roles
from proxy.catalog import Catalog
from proxy.demo.postgres import PostgresServer
from proxy.policy import ddl
from proxy.policy.judge import Judge, startup_settings
from proxy.policy.load import parse
from proxy.scram import Verifier
from tests.bypass import test_evasions as bypass
from tests.support.postgres import fresh_database

HERE = Path(__file__).parent
INSTALLATION = "0a1b2c3d"
POLICY = bypass.POLICY.replace("limits: {statement_timeout: 2s}", "limits: {statement_timeout: 400ms}").replace(
    "tables:\n",
    "tables:\n  shop.filtered: {rows: keep, mask: {t: last4}}\n  shop.many: {deny: [HIDDEN]}\n",
)
SECRET = bypass.SECRET
NAMES = ("first", "twin", "second")
FINGERPRINT = """
select (select count(*) from pg_largeobject_metadata), (select string_agg(last_value::text || is_called::text, ',') from
         (select last_value, is_called from shop.invoice_no union all select last_value, is_called from vault.ledger_no) s),
       (select count(*) from pg_locks where locktype = 'advisory'
         and database = (select oid from pg_database where datname = current_database())),
       (select md5(string_agg(relname || relkind::text, ',' order by oid)) from pg_class), (select count(*) from pg_proc),
       (select count(*) from pg_type), (select count(*) from pg_namespace),
       (select md5(coalesce(string_agg(x::text, '|' order by x.id), '')) from shop.orders x),
       (select md5(coalesce(string_agg(x::text, '|' order by x.id), '')) from shop.many x),
       (select md5(coalesce(string_agg(x::text, '|' order by x.id), '')) from vault.ledger x),
       (select count(*) from shop.people), (select count(*) from shop.notes), (select count(*) from shop.filtered),
       (select md5(coalesce(string_agg(s::text, '|' order by s::text), '')) from pg_db_role_setting s
         where setdatabase = (select oid from pg_database where datname = current_database())),
       (select md5(string_agg(rolname || rolsuper::text || coalesce(rolconfig::text, ''), ',' order by rolname)) from pg_roles where rolname !~ '^daypass_'),
       (select count(*) from pg_prepared_xacts where database = current_database()), (select count(*) from pg_extension),
       (select string_agg(schemaname || '.' || funcname || '=' || calls::text, ',' order by funcid)
         from pg_stat_user_functions where funcname <> 'vat' and schemaname not in ('pg_catalog', 'information_schema'))"""
WITHIN = 8.0
Scrub = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Result:
    """One result as the client sees it, but for types above 16384, whose oids a role's views move.

    `told` is what an error or notice says beyond its code and position.
    """

    status: str
    tag: bytes
    header: tuple[tuple[bytes, int], ...]
    rows: tuple[Any, ...]
    sqlstate: str
    position: str
    told: str
    fields: bytes = b""
    said: str = ""
    """What the server said, before anything was withheld."""


class Stalled(Exception):
    """A statement that answered nothing for WITHIN seconds."""


def hidden_columns(sql: str) -> str:
    return ", ".join(dict.fromkeys(re.findall(r"\bh_\w+(?= )", sql)))


def canaries(builtin: set[str]) -> str:
    """SECURITY DEFINER functions under every name that sqlglot knows as a function and Postgres does not."""
    names = sorted({name.lower() for name in sqlglot.exp.FUNCTION_BY_NAME} - builtin)
    head = "language sql stable security definer begin atomic select max(amount) from vault.pay; end;"
    return "\n".join(
        f'create function shop."{name}"(variadic anycompatiblearray) returns int language sql stable security definer '
        "as 'select max(amount) from vault.pay';"
        if number % 2
        else f'create function shop."{name}"(text) returns int {head}'
        for number, name in enumerate(names)
    )


@dataclass
class World:
    """One database, a session of the vendor's and one of the owner's."""

    dsn: str
    owner: psycopg.Connection[Any]
    session: PGconn | None = None
    dirty: bool = False
    notices: list[Result] = field(default_factory=list)

    def fingerprint(self) -> Any:
        """What no statement may change, functions' calls included."""
        if self.session is not None:
            with contextlib.suppress(psycopg.Error):
                self.ask(b"select pg_catalog.pg_stat_force_next_flush()")
                self.ask(b"select 1")
        return self.owner.execute(FINGERPRINT).fetchone()

    def start(self) -> PGconn:
        """The vendor's session, opened where there is none."""
        if self.session is None:
            self.session = pq.PGconn.connect(self.dsn.encode())
            if self.session.status != pq.ConnStatus.OK:
                raise RuntimeError(self.session.get_error_message())
            self.session.notice_handler = lambda result: self.notices.append(_result(result, []))
        return self.session

    def stop(self) -> None:
        if self.session is not None:
            self.session.finish()
            self.session = None

    def ask(self, text: bytes) -> list[Result]:
        self.send(text, None)
        return self.receive()

    def send(self, text: bytes, params: list[bytes | None] | None) -> None:
        session = self.start()
        if params is None:
            session.send_query(text)
        else:
            session.send_query_params(text, params)
        session.flush()

    def receive(self) -> list[Result]:
        """All results of what was sent. Raises Stalled."""
        session, end = self.start(), time.monotonic() + WITHIN
        out: list[Result] = []

        def wait() -> None:
            left = end - time.monotonic()
            if left <= 0 or not select.select([session.socket], [], [], left)[0]:
                raise Stalled
            session.consume_input()

        while True:
            while session.is_busy():
                wait()
            result = session.get_result()
            if result is None:
                return out
            rows: list[Any] = []
            while result.status == pq.ExecStatus.COPY_OUT:
                size, data = session.get_copy_data(1)
                if size > 0:
                    rows.append(bytes(data))
                elif size == 0:
                    wait()
                else:
                    break
            out.append(_result(result, rows))
            if session.status != pq.ConnStatus.OK:
                return out

    def settle(self) -> None:
        """Ends what a statement left open, as DISCARD ALL does."""
        if self.session is None:
            return
        if self.session.status != pq.ConnStatus.OK:
            self.stop()
            return
        if self.session.transaction_status != pq.TransactionStatus.IDLE:
            self.ask(b"rollback")
        if self.dirty:
            self.ask(b"discard all")
            self.dirty = False
        self.notices.clear()


def _scrubber() -> Scrub | None:
    """What the session leaves of an error's field list, once there is such a thing."""
    try:
        found: Scrub = importlib.import_module("proxy.session.scrub").scrub
    except ImportError:
        return None
    return found


def _result(result: PGresult, rows: list[Any]) -> Result:
    columns = range(result.nfields)
    rows = rows or [tuple(result.get_value(i, j) for j in columns) for i in range(result.ntuples)]
    return Result(
        pq.ExecStatus(result.status).name,
        result.command_status or b"",
        tuple((result.fname(j) or b"", min(result.ftype(j), 16384)) for j in columns),
        tuple(rows),
        (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode(),
        (result.error_field(pq.DiagnosticField.STATEMENT_POSITION) or b"").decode(),
        _told(result),
        b"".join(
            bytes((f,)) + value + b"\0" for f in pq.DiagnosticField if (value := result.error_field(f)) is not None
        ),
        _told(result),
    )


def _told(result: PGresult) -> str:
    fields = pq.DiagnosticField
    asked = (fields.MESSAGE_PRIMARY, fields.MESSAGE_DETAIL, fields.MESSAGE_HINT, fields.CONTEXT)
    return " | ".join((result.error_field(f) or b"").decode(errors="replace") for f in asked).strip(" |")


@dataclass
class Stage:
    """The worlds, the judge on the first one's catalog, and a session that Postgres alone guards, for the oracle."""

    worlds: dict[str, World]
    judge: Judge
    catalog: Catalog
    plain: World
    pins: list[str]

    def close(self) -> None:
        for world in self.worlds.values():
            world.stop()
            world.owner.close()
        self.plain.stop()


@contextlib.contextmanager
def stage(pg: PostgresServer, name: str, credential: str, *, casts: bool = True) -> Iterator[Stage]:
    """Three databases `name`_first, …, made new; for an ephemeral credential with roles and views in each.

    With `casts` the world has casts of its own that nobody may use, which makes the guard refuse most casts to text.
    """
    asyncio.run(_drop_roles(pg, name))
    denied = hidden_columns((HERE / "more.sql").read_text())
    policy = parse(
        POLICY.replace("HIDDEN", denied, 1).replace("[evasions_1, evasions_2]", f"[{name}_first]"), "twoworld.yaml"
    )
    template = fresh_database(pg, f"{name}_template")
    with psycopg.connect(pg.dsn(template), autocommit=True) as owner:
        builtin = {row[0] for row in owner.execute("select proname from pg_proc").fetchall()}
        for text in ((bypass.HERE / "world.sql").read_text(), (HERE / "more.sql").read_text(), canaries(builtin)):
            owner.execute(text.encode())
        if not casts:
            owner.execute("drop cast (money as text); drop cast (shop.mood as int)")
    worlds: dict[str, World] = {}
    for each in NAMES:
        database = fresh_database(pg, f"{name}_{each}", template=template)
        owner = psycopg.connect(pg.dsn(database), autocommit=True)
        owner.execute(f"alter database {database} set track_functions = 'all'".encode())
        for path in (bypass.HERE / "rows.sql", HERE / "more_rows.sql"):
            owner.execute(path.read_text().replace("__W__", "2" if each == "second" else "1").encode())
        worlds[each] = World("", owner)
    where = {"host": pg.host, "port": pg.port, "user": pg.user, "password": pg.password, "tls": "disable"}
    views = ddl.views_schema(INSTALLATION) if credential == "ephemeral" else None
    snapshot = asyncio.run(catalog.snapshot(dbname=f"{name}_first", **where))  # type: ignore[arg-type]
    judge = Judge(policy, snapshot, key="c0ffee", views=views)
    settings = startup_settings(judge.policy, pg.version * 10000)
    for each, world in worlds.items():
        database, user, password = f"{name}_{each}", pg.user, pg.password
        if credential == "ephemeral":
            user, password = roles.login_name(INSTALLATION, database), "vendor-pw"
            asyncio.run(_make_role(pg, database, judge, user, password))
        options = " ".join("-c " + f"{k}={v}".replace("\\", "\\\\").replace(" ", "\\ ") for k, v in settings.items())
        dsn = pg.dsn(database, user=user, password=password)
        world.dsn = psycopg.conninfo.make_conninfo(dsn, options=options, client_encoding="UTF8")
    options = "-c search_path=shop -c default_transaction_read_only=on -c statement_timeout=400"
    plain = World(psycopg.conninfo.make_conninfo(pg.dsn(f"{name}_twin"), options=options), worlds["twin"].owner)
    made = Stage(worlds, judge, snapshot, plain, [])
    made.pins = pins_of(worlds["first"])
    try:
        yield made
    finally:
        made.close()
        asyncio.run(_drop_roles(pg, name))


def pins_of(world: World) -> list[str]:
    """The settings that a session must not lose."""
    world.ask(b"begin")
    asked = b", ".join(b"pg_catalog.current_setting('%s')" % n for n in (*bypass.PINS, b"transaction_read_only"))
    (result,) = world.ask(b"select " + asked)
    world.ask(b"rollback")
    return [str(value) for value in result.rows[0]] if result.rows else [result.told]


async def _make_role(pg: PostgresServer, database: str, judge: Judge, login: str, password: str) -> None:
    connection = await catalog.connect(
        host=pg.host, port=pg.port, dbname=database, user=pg.user, password=pg.password, tls="disable", ca=None
    )
    try:
        own = Judge(judge.policy, await catalog.read(connection), key="c0ffee", views=judge.bound.views)
        plan = ddl.plan(own.bound, INSTALLATION)
        await roles.carry_out(connection, plan)
        await roles.make_login(
            connection,
            login,
            plan,
            verifier=Verifier.make(password, salt=b"0123456789abcdef"),
            until=datetime.now(UTC) + timedelta(days=1),
            sessions=5,
        )
    finally:
        await connection.close()


async def _drop_roles(pg: PostgresServer, name: str) -> None:
    """Ends the ephemeral roles of these databases, and the databases with them."""
    with psycopg.connect(pg.dsn(), autocommit=True) as conn:
        for each in (*NAMES, "template"):
            conn.execute(f'drop database if exists "{name}_{each}" with (force)'.encode())
            login = roles.login_name(INSTALLATION, f"{name}_{each}")
            conn.execute(f'drop role if exists "{login}"'.encode())
