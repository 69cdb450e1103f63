"""Signing inside psql and drivers: no acceptance, no statement.

Covers proxy/session/signing.py and proxy/session/notary.py with real clients.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import LiteralString

import asyncpg
import psycopg
import pytest
from psycopg import sql

from proxy.policy.signing import SHOWABLE
from tests.live.house import House, until
from tests.live.signing import NDA, SIGN, accepted, connect, keep_asking, policy, psql, publish, recorded, shown


@pytest.fixture
def house(house_of_signing: House) -> House:
    return house_of_signing


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
            psycopg.errors.AdminShutdown, match=r"needs renewed \(version 4\) accepted first: it is new"
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
        with pytest.raises(psycopg.errors.AdminShutdown, match="was revoked: no longer needed"):
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


def test_long_lines_are_folded_for_reading(house: House) -> None:
    publish(house, "long", "- " + "word " * 100 + "\n\n" + "x" * 200 + "\n")
    with connect(house, house.grant(policy="long", person="F")) as conn:
        lines = shown(conn).splitlines()
    assert max(len(line) for line in lines if "x" not in line) <= 76
    assert "x" * 200 in lines
