"""Signing inside psql and drivers: no acceptance, no statement.

Covers proxy/session/signing.py and proxy/session/notary.py with real clients.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
from collections.abc import Iterator
from typing import Any, LiteralString

import asyncpg
import psycopg
import pytest
from psycopg import sql

from proxy.policy.signing import SHOWABLE
from proxy.wire import build, upstream
from tests.live.house import POLICY, House, until
from tests.live.raw import Raw
from tests.support.postgres import Servers, bindirs

NDA = "---\nversion: 3\n---\n# Confidentiality\n\nYou tell nobody.\n"
SIGN = "set daypass.accept = 'Ana Vendor'"


def policy(name: str, *agreements: str) -> str:
    return POLICY.replace("name: reader", f"name: {name}") + f"agreements: [{', '.join(agreements)}]\n"


@pytest.fixture(scope="module")
def signing_house(tmp_path_factory: pytest.TempPathFactory, pg_servers: Servers) -> Iterator[House]:
    """One running House for all tests; its policies ask for agreements. Each test has people of its own."""
    house = House(tmp_path_factory.mktemp("house"), pg_servers.get(bindirs()[0]), policy=policy("reader", "nda"))
    (house.folder / "agreements").mkdir()
    publish(house, "nda", NDA)
    publish(house, "terms", "Behave.\n")
    for name in ("changing", "renewed", "long", "missing"):
        publish(house, name, NDA)
        house.write_policy(name, policy(name, name))
    (house.folder / "agreements" / "missing.md").unlink()
    house.write_policy("both", policy("both", "nda", "terms"))
    limits = "limits: {statement_timeout: 20s, transaction: 5m"
    house.write_policy("narrow", policy("narrow", "nda").replace(limits, limits + ", sessions: 1, idle: 1s"))
    house.start()
    yield house
    house.hurry()


@pytest.fixture
def house(signing_house: House) -> House:
    return signing_house


def publish(house: House, name: str, text: str) -> None:
    path = house.folder / "agreements" / f"{name}.md"
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)


def connect(house: House, login: tuple[str, str], **more: Any) -> psycopg.Connection[Any]:
    return psycopg.connect(house.dsn(login), **{"autocommit": True} | more)


def keep_asking(conn: psycopg.Connection[Any], text: LiteralString, seconds: float = 5) -> None:
    for _ in until(seconds, 0.05):
        conn.execute(text)


def flood(raw: Raw, data: bytes) -> None:
    for _ in range(2000):
        raw.send(data)


def shown(conn: psycopg.Connection[Any], name: str = "daypass.agreement") -> str:
    (text,) = conn.execute(f"show {name}".encode()).fetchone() or ("",)
    assert isinstance(text, str)
    return text


def psql(house: House, login: tuple[str, str], script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [house.pg.bindir / "psql", house.dsn(login), "-X", "-f", "-"],
        input=script, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def accepted(house: House, person: str) -> list[dict[str, Any]]:
    """What was recorded of this person's signatures."""
    found = [line for line in house.installation() if line.get("action") == "agreement.accepted"]
    return [line for line in found if line["detail"]["person"] == person]


def recorded(house: House, grant: str) -> list[list[dict[str, Any]]]:
    """The recordings of a grant's sessions, those for signing first."""
    found = [[json.loads(line) for line in path.read_text().splitlines()] for path in house.recordings()]
    return sorted((lines for lines in found if lines[0]["grant"] == grant), key=lambda lines: "signing" not in lines[0])


def test_psql(house: House) -> None:
    login = house.grant()
    done = psql(house, login, f"select 1;\nshow daypass.agreement;\n{SIGN};\n\\c\nselect 42 as real;\n")
    assert "before grant" in done.stderr
    assert "Ana Vendor has to accept: nda (version 3)" in done.stderr
    assert "nothing else works until you have accepted nda (version 3)" in done.stderr
    assert hashlib.sha256(NDA.encode()).hexdigest() in done.stdout
    assert "You tell nobody." in done.stdout
    assert "version: 3" not in done.stdout
    assert "recorded: Ana Vendor has accepted nda (version 3). That was the last one." in done.stderr
    assert "   42" in done.stdout
    assert "policy reader, until" in done.stderr
    (step,) = accepted(house, "Ana Vendor")
    detail = step["detail"]
    assert step["by"] == "Ana Vendor"
    assert (detail["grant"], detail["address"], detail["how"]) == (login[0], "127.0.0.1", "psql")
    assert (detail["signed_as"], detail["sha256"]) == ("Ana Vendor", hashlib.sha256(NDA.encode()).hexdigest())
    lines, real = recorded(house, login[0])
    assert lines[0]["signing"] == [f"nda {detail['sha256']}"]
    assert "upstream_pid" not in lines[0]
    assert [(line["verdict"], line["sql"]) for line in lines if line["event"] == "statement"] == [
        ("deny", "select 1;"), ("allow", "show daypass.agreement"), ("allow", SIGN),
    ]  # fmt: skip
    outcomes = [(line["n"], line["rows"], line["sqlstate"]) for line in lines if line["event"] == "outcome"]
    assert outcomes == [(1, 0, "42501"), (2, 1, None), (3, 0, None)]
    assert lines[-1]["reason"] == "signed"
    assert "signing" not in real[0]
    # The second login of the same person, and another grant of hers, ask nothing more.
    with connect(house, house.grant(person="ANA vendor")) as conn:
        assert conn.execute("select count(*) from orders").fetchone()


def test_psycopg_in_transactions_and_with_prepared_statements(house: House) -> None:
    login = house.grant(person="P")
    with connect(house, login, autocommit=False) as conn:
        assert conn.info.server_version // 10_000 >= 14
        (text,) = conn.execute("show daypass.agreement", prepare=True).fetchone() or ("",)
        assert text.startswith("Agreement nda, version 3\nSHA-256 ")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="nothing else works") as caught:
            conn.execute("select %s::int", [1], prepare=True)
        assert "SHOW daypass.agreement; shows the text" in (caught.value.diag.message_hint or "")
        assert conn.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="the name is not written as a string"):
            conn.execute("set daypass.accept = %s", ["Ana Vendor"])
        conn.execute(sql.SQL("set daypass.accept = {}").format("Ana Vendor"))
        conn.commit()
    with connect(house, login) as conn:
        assert conn.execute("select 1").fetchone() == (1,)


def test_a_session_that_has_signed_ends(house: House) -> None:
    with connect(house, house.grant(person="E")) as conn:
        conn.execute("show daypass.agreement")
        conn.execute(SIGN)
        with pytest.raises(psycopg.errors.AdminShutdown, match="all is signed"):
            conn.execute("select 1")


def test_asyncpg(house: House) -> None:
    user, token = house.grant(person="A")

    async def dial() -> asyncpg.Connection[asyncpg.Record]:
        return await asyncpg.connect(
            host="127.0.0.1", port=house.port, user=user, password=token, database="shop", ssl=False
        )

    async def run() -> None:
        conn = await dial()
        told: list[str] = []
        conn.add_log_listener(lambda _, message: told.append(message.message))
        statement = await conn.prepare("SHOW daypass.agreement")
        assert "You tell nobody." in (await statement.fetchval())
        assert "You tell nobody." in (await statement.fetchval()), "a prepared statement may be run again"
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="nothing else works"):
            await conn.fetch("select $1::int", 1)
        async with conn.transaction():
            assert "You tell nobody." in (await conn.fetchval("show daypass.agreement"))
        await conn.execute(SIGN)
        assert any("That was the last one" in line for line in told)
        await conn.close()
        conn = await dial()
        assert await conn.fetchval("select 7") == 7
        await conn.close()

    asyncio.run(run())


@pytest.mark.parametrize("typed", ["yes", "", "Ana", "x\x07 y", "1 2 '; --"])
def test_what_is_no_signature(house: House, typed: str) -> None:
    login = house.grant(person=f"N{typed}".strip() if typed.isprintable() else "Nx")
    with connect(house, login) as conn:
        conn.execute("show daypass.agreement")
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="full name"):
            conn.execute(sql.SQL("set daypass.accept = {}").format(typed))
    assert not [line for line in house.installation() if line.get("detail", {}).get("signed_as") == typed]
    assert not accepted(house, login[0])


def test_nobody_signs_what_was_not_shown(house: House) -> None:
    login = house.grant(policy="changing", person="S")
    with connect(house, login) as conn:
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="has not been shown in this session"):
            conn.execute(SIGN)
        conn.execute("show daypass.agreement")
        publish(house, "changing", NDA.replace("nobody", "anybody"))
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="has not been shown in this session"):
            conn.execute(SIGN)
        text = shown(conn)
        assert "You tell anybody." in text
        conn.execute(SIGN)
    (step,) = accepted(house, "S")
    assert step["detail"]["sha256"] in text
    texts = [line["detail"] for line in house.installation() if line.get("action") == "agreement.text"]
    assert [text["agreement"] for text in texts].count("changing") == 2


def test_several_agreements_one_after_the_other(house: House) -> None:
    login = house.grant(policy="both", person="B")
    notices: list[str] = []
    with connect(house, login) as conn:
        conn.add_notice_handler(lambda found: notices.append(found.message_primary or ""))
        assert "version 3, the first of 2" in shown(conn)
        conn.execute(SIGN)
        assert "Next is terms (version" in notices[-1]
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match=r"until you have accepted terms"):
            conn.execute("select 1")
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="has not been shown"):
            conn.execute(SIGN)
    with connect(house, login) as conn:
        assert "Behave." in shown(conn)
        conn.execute(SIGN)
    with connect(house, login) as conn:
        assert conn.execute("select 1").fetchone() == (1,)


def test_a_new_text_ends_open_sessions_and_asks_again(house: House) -> None:
    login = house.grant(policy="renewed", person="R")
    with connect(house, login) as conn:
        conn.execute("show daypass.agreement")
        conn.execute(SIGN)
    with connect(house, login) as conn:
        (house.folder / "agreements" / "renewed.md").unlink()
        assert all(conn.execute("select 1") for _ in until(1.5, 0.3)), "a text that is gone asks nothing new"
        publish(house, "renewed", NDA.replace("3", "4"))
        with pytest.raises(
            psycopg.errors.AdminShutdown, match=r"needs renewed \(version 4\) accepted: its text is new"
        ):
            keep_asking(conn, "select 1")
    with connect(house, login) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("select 1")
    ends = sorted(lines[-1].get("reason", "open") for lines in recorded(house, login[0]))
    assert ends in (["agreement", "client", "signed"], ["agreement", "open", "signed"])


def test_a_policy_that_comes_to_ask_for_an_agreement(house: House) -> None:
    house.write_policy("later", policy("later"))
    house.wait_log("policies_loaded", after=len((house.folder / "serve.log").read_bytes()))
    login = house.grant(policy="later", person="L")
    with connect(house, login) as conn:
        assert conn.execute("select 1").fetchone() == (1,)
        house.write_policy("later", policy("later", "nda"))
        with pytest.raises(psycopg.errors.AdminShutdown, match="needs nda"):
            keep_asking(conn, "select 1")


def test_a_missing_text_lets_nobody_in(house: House) -> None:
    login = house.grant(policy="missing", person="M")
    with pytest.raises(psycopg.OperationalError, match="whose text is not there to be accepted: missing"):
        connect(house, login, sslmode="disable")
    (refused,) = [line for line in house.logins() if line.get("grant") == login[0]]
    assert "missing.md is missing" in refused["reason"]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect(house, (login[0], "dp_wrong"))


def test_one_may_sign_before_the_time_comes(house: House) -> None:
    login = house.grant(starts_in=3600, seconds=3600, person="W")
    with connect(house, login) as conn:
        conn.execute("show daypass.agreement")
        conn.execute(SIGN)
    with pytest.raises(psycopg.OperationalError, match="starts at"):
        connect(house, login)
    early = house.grant(starts_in=3600, bind_ip="203.0.113.0/24", person="Other Person")
    with pytest.raises(psycopg.OperationalError, match="starts at"):
        connect(house, early)


def test_a_revoked_grant_signs_nothing(house: House) -> None:
    login = house.grant(person="V")
    with connect(house, login) as conn:
        conn.execute("show daypass.agreement")
        house.revoke(login[0])
        with pytest.raises(psycopg.errors.AdminShutdown, match="was revoked"):
            keep_asking(conn, "show daypass.agreement")
    with pytest.raises(psycopg.OperationalError, match="was revoked"):
        connect(house, login)


def test_its_seat_counts_and_is_given_back(house: House) -> None:
    login = house.grant(policy="narrow", person="Seat")
    with connect(house, login) as conn:
        with pytest.raises(psycopg.OperationalError, match="already has 1 open sessions"):
            connect(house, login)
        conn.execute("show daypass.agreement")
        conn.execute(SIGN)
        with connect(house, login) as real:
            assert real.execute("select 1").fetchone() == (1,)
    idle = house.grant(policy="narrow", person="Idle")
    with connect(house, idle) as conn:
        house.wait_log("session_end", grant=idle[0], reason="idle")
        with pytest.raises(psycopg.errors.IdleSessionTimeout):
            conn.execute("show daypass.agreement")


# Bypass attempts


ATTEMPTS = [
    "select 1",
    "show daypass.agreement; select ssn from app.customers",
    f"{SIGN}; select ssn from app.customers",
    f"select ssn from app.customers; {SIGN}",
    "begin; select 1; commit",
    "copy app.customers to stdout",
    "copy app.customers from stdin",
    "do $$ begin perform 1; end $$",
    "prepare p as select 1",
    "execute p",
    "declare c cursor for select 1",
    "explain select 1",
    "explain analyze show daypass.agreement",
    "values (1)",
    "table app.customers",
    "call x()",
    "listen x",
    "select set_config('daypass.accept', 'Ana Vendor', false)",
    "set role postgres",
    "set session authorization postgres",
    "set search_path to hr",
    "set client_encoding to latin1",
    "set standard_conforming_strings to off",
    "alter system set daypass.accept = 'Ana Vendor'",
    "alter role current_user set daypass.accept = 'Ana Vendor'",
    "set local daypass.accept = 'Ana Vendor'",
    "set daypass.accept from current",
    "set daypass.accept to default",
    "show all",
    "show daypass.scope",
    "discard all",
    "/* show daypass.agreement */ select 1",
    "show daypass.agreement -- \n; select 1",
    "(" * 300 + "select 1" + ")" * 300,
    "select " + "1+" * 9000 + "1",
    "\xff",
    "syntax error here",
]


def test_no_statement_before_the_signature(house: House) -> None:
    login = house.grant(person="Thief")
    with connect(house, login) as conn:
        for attempt in ATTEMPTS:
            data = attempt.encode("latin-1")
            for result in (conn.pgconn.exec_(data), conn.pgconn.exec_params(data, None)):
                assert result.status == psycopg.pq.ExecStatus.FATAL_ERROR, attempt
                state = result.error_field(psycopg.pq.DiagnosticField.SQLSTATE)
                assert state in (b"42501", b"54000"), (attempt, state)
        assert "You tell nobody" in shown(conn)
    assert accepted(house, "Thief") == []
    (lines,) = recorded(house, login[0])
    assert not [line for line in lines if line["event"] == "outcome" and line["sqlstate"] is None and line["rows"] != 1]
    with psycopg.connect(house.pg.dsn(house.dbname), autocommit=True) as admin:
        query = "select count(*) from pg_stat_activity where usename = %s and query ~ 'ssn'"
        assert admin.execute(query, [house.role]).fetchone() == (0,)


def test_packets_that_want_to_be_ahead_of_the_signature(house: House) -> None:
    login = house.grant(person="First Thief")
    secret = b"select ssn from app.customers"
    with Raw(house.port).login(login) as raw:
        # A statement right behind the signature, in one segment, simple and extended.
        raw.send(build.query(b"show daypass.agreement"), build.query(SIGN.encode()), build.query(secret))
        found = raw.until("")
        kinds = "".join(kind for kind, _ in found)
        assert kinds.startswith("TDCZ" + "NCZ"), kinds
        assert "T" not in kinds[4:], "no rows of anything else"
        assert upstream.report(found[-2][1]).sqlstate == "57P01"
    other = house.grant(person="Second Thief")
    with Raw(house.port).login(other) as raw:
        for name, text in ((b"a", SIGN.encode()), (b"b", secret), (b"c", b"show daypass.agreement")):
            raw.send(build.parse(name, text), build.SYNC)
            assert raw.until("Z")[0][0] == ("E" if name == b"b" else "1")
        # Bound before it is shown: refused, and the rest is skipped up to Sync.
        raw.send(build.bind(b"", b"a"), build.execute(), build.bind(b"", b"c"), build.execute(), build.SYNC)
        assert "".join(kind for kind, _ in raw.until("Z")) == "2EZ"
        raw.send(build.bind(b"", b"b"), build.execute(), build.SYNC)
        assert "".join(kind for kind, _ in raw.until("Z")) == "EZ"
        raw.send(
            build.bind(b"p", b"c"), build.execute(b"p", 1), build.execute(b"p", 1), build.execute(b"q"), build.SYNC
        )
        assert "".join(kind for kind, _ in raw.until("Z")) == "2DsCEZ"
        raw.send(build.message(b"F", b"\0\0\0\1" + b"\0" * 6))
        assert "".join(kind for kind, _ in raw.until("Z")) == "EZ"
        raw.send(build.message(b"d", b"x"), build.message(b"c", b""), build.query(b""))
        assert "".join(kind for kind, _ in raw.until("Z")) == "IZ"
        raw.send(build.bind(b"", b"a"), build.describe(ord("P")), build.execute(), build.execute(), build.SYNC)
        assert "".join(kind for kind, _ in raw.until("Z")) == "2nNCEZ", "a signature's portal runs once"
        assert raw.until("")[0][0] == "E"
    with Raw(house.port).login(house.grant(person="Third Thief")) as raw:
        with Raw(house.port) as canceller:
            canceller.send(build.cancel(raw.pid, raw.secret))
            assert canceller.rest() == b""
        raw.send(build.query(b"show daypass.agreement"))
        assert "".join(kind for kind, _ in raw.until("Z")) == "TDCZ"
        assert raw.pid > 1 << 22
        raw.send(b"\x01garbage")
        assert upstream.report(raw.until("E")[-1][1]).sqlstate == "08P01"
    assert [len(accepted(house, f"{n} Thief")) for n in ("First", "Second", "Third")] == [1, 1, 0]


def test_a_client_that_does_not_read_costs_little(house: House) -> None:
    publish(house, "long", "A long word. " * 18_000)
    with Raw(house.port).login(house.grant(policy="long", person="H")) as raw:
        raw.send(build.parse(b"s", b"show daypass.agreement"), build.SYNC)
        raw.until("Z")
        before = house.memory()
        raw.sock.settimeout(0.5)
        pieces = (build.bind(b"", b"s") + build.execute()) * 2000
        with pytest.raises(TimeoutError):
            flood(raw, pieces)
        assert house.memory() - before < 24 << 20
        with connect(house, house.grant(person="Patient Person")) as conn:
            assert conn.execute("show daypass.agreement").fetchone()


SAID_FIRST: list[LiteralString] = [
    "SET extra_float_digits = 3",
    "SET application_name = 'x'",
    "SET TIME ZONE 'Europe/Berlin'",
    "begin",
    "commit",
    "start transaction read only",
    "rollback",
    "reset all",
    "set names 'UTF8'",
    "",
]


def test_drivers_that_say_things_first(house: House) -> None:
    with connect(house, house.grant(person="D"), application_name="DBeaver 24") as conn:
        for text in SAID_FIRST:
            conn.execute(text)
        conn.execute("SET TimeZone TO 'Europe/Berlin'")
        told = {name: shown(conn, name) for name in SHOWABLE}
        assert told["timezone"] == "Europe/Berlin"
        assert told["application_name"] == "DBeaver 24"
        assert int(told["server_version_num"]) == conn.info.server_version
        assert conn.execute("show transaction isolation level").fetchone() == ("read committed",)
