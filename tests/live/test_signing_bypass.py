"""Ways around a signature, as drivers and as nobody would send them: none of them is one."""

from __future__ import annotations

import psycopg
import pytest

from proxy.wire import build, upstream
from tests.live.house import House
from tests.live.raw import Raw
from tests.live.signing import SIGN, accepted, connect, flood, publish, recorded, shown


@pytest.fixture
def house(house_of_signing: House) -> House:
    return house_of_signing


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
