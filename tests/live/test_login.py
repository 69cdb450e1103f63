"""Coming in: TLS, start-up, tokens, and every reason for a no, with real clients and byte by byte.

Covers proxy/session/opening.py, proxy/session/beginning.py, proxy/session/login.py, proxy/session/channel.py,
proxy/server/listener.py, proxy/server/channel.py and proxy/server/tls.py.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import asyncpg
import psycopg
import pytest

from proxy.wire import build
from proxy.wire.startup import GSSENC_REQUEST
from tests.live.house import POLICY, House, until
from tests.live.raw import Raw, fatal

PSQL = "/usr/bin/psql"
GSS_PACKET = (8).to_bytes(4, "big") + GSSENC_REQUEST.to_bytes(4, "big")


def psql(dsn: str, sql: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PSQL, "-XAt", dsn, "-c", sql], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("sslmode", ["disable", "prefer", "require"])
def test_psql_logs_in_and_is_greeted(house: House, sslmode: str) -> None:
    login = house.grant()
    done = psql(house.dsn(login, sslmode=sslmode), "select count(*) from orders")
    assert (done.returncode, done.stdout.strip()) == (0, "200"), done.stderr
    assert "Ana Vendor" in done.stderr
    assert "recorded" in done.stderr
    start = [line for line in house.lines() if line["event"] == "session.start" and line["user"] == login[0]]
    assert (start[0].get("tls") is None) == (sslmode == "disable")
    assert start[0]["application_name"] == "psql"


def test_channel_binding_can_be_required(house: House) -> None:
    done = psql(house.dsn(house.grant(), sslmode="require", channel_binding="require"), "select 1")
    assert done.returncode == 0, done.stderr


def test_psycopg_and_asyncpg_log_in(house: House) -> None:
    login = house.grant()
    with psycopg.connect(house.dsn(login)) as conn:
        assert conn.execute("select 40 + %s", [2]).fetchone() == (42,)
        assert conn.info.encoding == "utf-8"


async def test_asyncpg_logs_in(house: House) -> None:
    user, token = house.grant()
    conn = await asyncpg.connect(
        host="127.0.0.1", port=house.port, user=user, password=token, database="shop", server_settings={"jit": "off"}
    )
    assert await conn.fetchval("select $1::int + 2", 40) == 42
    await conn.close()


def test_who_names_no_database_gets_the_grants(house: House) -> None:
    user, token = house.grant()
    with psycopg.connect(
        host="127.0.0.1", port=house.port, user=user, password=token, sslmode="disable", autocommit=True
    ) as conn:
        assert conn.execute("select current_database()").fetchone() == (house.dbname,)
    assert {line["database"] for line in house.lines() if line["event"] == "session.start"} == {"shop"}


def test_an_unknown_user_and_a_wrong_token_look_alike(house: House) -> None:
    user, _ = house.grant()
    exchanges = []
    for name in (user, "g-00000000", "nobody"):
        with Raw(house.port) as raw:
            raw.start(name)
            found = raw.prove("dp_wrong")
            exchanges.append(
                [(kind, len(body) if kind == "R" else body.replace(name.encode(), b"NAME")) for kind, body in found]
            )
            assert raw.rest() == b""
    assert exchanges[0] == exchanges[1] == exchanges[2]
    assert [kind for kind, _ in exchanges[0]] == ["R", "R", "E"]
    with Raw(house.port) as raw:
        raw.start("nobody")
        first = salt(raw)
    with Raw(house.port) as raw:
        raw.start("nobody")
        assert salt(raw) == first, "the mock salt is stable"
    reasons = {entry["user"]: entry["reason"] for entry in house.logins()}
    assert (reasons[user], reasons["nobody"]) == ("wrong token", "unknown user")


def salt(raw: Raw) -> bytes:
    """The salt that the server names for the user."""
    raw.message()
    raw.send(build.sasl_initial("SCRAM-SHA-256", b"n,,n=,r=abc"))
    return next(word for word in raw.message()[1].split(b",") if word.startswith(b"s="))


def refused(house: House, login: tuple[str, str], **more: str) -> tuple[str, str]:
    with Raw(house.port) as raw:
        raw.start(login[0], **more)
        return fatal(raw.prove(login[1]))


def test_after_a_right_proof_the_true_reason_is_told_and_recorded(house: House) -> None:
    over = house.grant(seconds=0.2)
    for _ in until(0.3):
        continue
    revoked = house.grant()
    house.revoke(revoked[0], "the audit is over")
    cases = [
        (over, {}, "expired"),
        (revoked, {}, "the audit is over"),
        (house.grant(starts_in=3600), {}, "starts at"),
        (house.grant(), {"database": "other"}, "for the database shop"),
        (house.grant(bind_ip="192.0.2.0/24"), {}, "may not be used from"),
    ]
    for login, more, words in cases:
        code, text = refused(house, login, **more)
        assert code == "28000"
        assert words in text
    reasons = {entry["user"]: entry["reason"] for entry in house.logins()}
    assert [reasons[login[0]] for login, _, _ in cases] == ["expired", "revoked", "waiting", "database", "address"]


@pytest.mark.parametrize(
    ("parameters", "code", "words"),
    [
        ({"options": "-c search_path=hr"}, "42501", "options"),
        ({"replication": "database"}, "42501", "replication"),
        ({"search_path": "hr"}, "42501", "search_path"),
        ({"default_transaction_read_only": "off"}, "42501", "default_transaction_read_only"),
        ({"client_encoding": "LATIN1"}, "0A000", "UTF-8"),
        ({"TimeZone": "Nowhere/Land"}, "08006", "TimeZone"),
    ],
)
def test_start_up_parameters_that_are_refused(house: House, parameters: dict[str, str], code: str, words: str) -> None:
    found = refused(house, house.grant(), **parameters)
    assert found[0] == code
    assert words in found[1]


@pytest.mark.parametrize("encoding", ["UTF8", "'utf-8'", "unicode", "SQL_ASCII"])
def test_every_name_of_utf8_is_taken(house: House, encoding: str) -> None:
    with Raw(house.port) as raw:
        raw.login(house.grant(), client_encoding=encoding, datestyle="ISO, DMY", extra_float_digits="2")


def test_a_newer_protocol_is_talked_down(house: House) -> None:
    login = house.grant()
    body = b"user\0" + login[0].encode() + b"\0database\0shop\0_pq_.wish\0x\0\0"
    with Raw(house.port) as raw:
        raw.send((len(body) + 8).to_bytes(4, "big"), (3 << 16 | 2).to_bytes(4, "big"), body)
        kind, said = raw.message()
        assert (kind, said) == ("v", b"\0\3\0\2\0\0\0\1_pq_.wish\0")
        assert raw.prove(login[1])[-1][0] == "Z"


@pytest.mark.parametrize(
    "packet",
    [
        b"\x7f\xff\xff\xff\0\3\0\0",
        b"\x80\0\0\0\0\3\0\0",
        b"\0\0\0\0\0\0\0\0",
        b"\0\0\0\x04\0\3\0\0",
        b"GET / HTTP/1.1\r\n\r\n",
        b"SSH-2.0-OpenSSH_9\r\n",
        b"\0\0\x27\x11\0\3\0\0",
        b"\0\0\0\x09\x04\xd2\x16\x2fx",
        b"\0\0\0\x0c\x04\xd2\x16\x2e\0\0\0\1",
    ],
)
def test_noise_is_closed_and_logged_once(house: House, packet: bytes) -> None:
    before = len([entry for entry in house.log() if entry["event"] == "not_a_client"])
    with Raw(house.port) as raw:
        raw.send(packet)
        assert raw.rest() == b""
    for _ in until(2):
        after = len([entry for entry in house.log() if entry["event"] == "not_a_client"])
        if after > before:
            break
    assert after == before + 1


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"user\0a\0user\0b\0\0", "08P01"),
        (b"user\0a\0User\0b\0\0", "08P01"),
        (b"user\0a\0", "08P01"),
        (b"user\0a\0database\0\0x", "08P01"),
        (b"user\0\xff\0\0", "08P01"),
        (b"database\0shop\0\0", "28000"),
        (b"\0", "28000"),
    ],
)
def test_start_up_packets_that_are_malformed(house: House, body: bytes, code: str) -> None:
    with Raw(house.port) as raw:
        raw.send((len(body) + 8).to_bytes(4, "big"), (3 << 16).to_bytes(4, "big"), body)
        assert fatal(raw.until("E", "R"))[0] == code
        assert raw.rest() == b""


@pytest.mark.parametrize("version", [(2, 0), (9, 9), (4, 0)])
def test_other_protocols_are_refused(house: House, version: tuple[int, int]) -> None:
    body = b"user\0a\0\0"
    with Raw(house.port) as raw:
        raw.send((len(body) + 8).to_bytes(4, "big"), (version[0] << 16 | version[1]).to_bytes(4, "big"), body)
        code, text = fatal(raw.until("E"))
        assert (code, "unsupported frontend protocol" in text) == ("0A000", True)


def test_encryption_requests_come_once_each(house: House) -> None:
    login = house.grant()
    with Raw(house.port) as raw:
        raw.send(GSS_PACKET)
        assert raw.exactly(1) == b"N"
        assert raw.ask_tls() == b"S"
        raw.tls()
        raw.login(login)
    with Raw(house.port) as raw:
        raw.send(GSS_PACKET)
        assert raw.exactly(1) == b"N"
        raw.send(GSS_PACKET)
        assert raw.rest() == b""
    with Raw(house.port) as raw:
        assert raw.ask_tls() == b"S"
        raw.tls()
        raw.send(build.SSL_REQUEST_PACKET)
        assert fatal(raw.until("E"))[0] == "08P01"


def test_what_is_sent_before_the_handshake_is_never_read_as_plaintext(house: House) -> None:
    login = house.grant()
    injected = build.startup({"user": login[0], "database": "shop"})
    with Raw(house.port) as raw:
        raw.send(build.SSL_REQUEST_PACKET, injected)
        assert raw.exactly(1) == b"S"
        assert raw.rest()[:1] in (b"", b"\x15"), "nothing but a TLS alert"


def test_direct_tls_wants_alpn(house: House) -> None:
    login = house.grant()
    with Raw(house.port) as raw:
        raw.tls(alpn=["postgresql"])
        raw.login(login)
    with Raw(house.port) as raw:
        raw.tls()
        assert raw.rest() == b""


def test_tls_can_be_required_or_switched_off(make_house: Callable[..., House]) -> None:
    house = make_house()
    tls = {"cert": "tls/cert.pem", "key": "tls/key.pem"}
    house.configure(listen={"host": "127.0.0.1", "port": 0, "tls": {"mode": "require", **tls}})
    house.start()
    login = house.grant()
    done = psql(house.dsn(login, sslmode="disable"), "select 1")
    assert done.returncode == 2
    assert "sslmode=require" in done.stderr
    assert psql(house.dsn(login, sslmode="require"), "select 1").returncode == 0
    house.stop()
    house.configure(listen={"host": "127.0.0.1", "port": 0, "tls": {"mode": "disable"}})
    house.start()
    assert psql(house.dsn(login, sslmode="require"), "select 1").returncode == 2
    assert psql(house.dsn(login, sslmode="prefer"), "select 1").returncode == 0
    with Raw(house.port) as raw:
        assert raw.ask_tls() == b"N"
        raw.login(login)


def test_a_grant_has_as_many_sessions_as_its_policy_allows(make_house: Callable[..., House]) -> None:
    house = make_house(policy=POLICY.replace("limits: {", "limits: {sessions: 2, ")).start()
    login = house.grant()
    one, two = psycopg.connect(house.dsn(login)), psycopg.connect(house.dsn(login))
    with pytest.raises(psycopg.OperationalError, match="2 open sessions"):
        psycopg.connect(house.dsn(login))
    two.close()
    for _ in until(5):
        try:
            two = psycopg.connect(house.dsn(login))
        except psycopg.OperationalError:
            continue
        break
    assert two.execute("select 1").fetchone() == (1,)
    one.close()
    two.close()


def test_a_failed_login_gives_its_seat_back(make_house: Callable[..., House]) -> None:
    house = make_house(policy=POLICY.replace("limits: {", "limits: {sessions: 1, ")).start()
    login = house.grant()
    for _ in range(3):
        assert refused(house, login, TimeZone="Nowhere/Land")[0] == "08006"
    with Raw(house.port) as raw:
        raw.login(login)
