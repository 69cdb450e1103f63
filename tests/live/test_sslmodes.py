"""Every combination of libpq's connection options that bears on TLS and the protocol: must it connect, and with what?

Clients: the libpq inside psycopg, and each psql that is found (PATH, installed servers, the embedded one, and the paths
in DAYPASS_TEST_PSQL, separated by colons). What a client was not built for is expected of it too: a libpq without
OpenSSL does not connect where TLS is asked for. Covers proxy/server/listener.py and proxy/session/opening.py.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psycopg
import pytest

from proxy.demo.postgres import system_bindirs, wheel_bindir
from tests.live.house import House
from tests.support.postgres import Servers, bindirs, can_tls

MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
VERSIONS = (("3.0", "3.0"), ("3.0", "3.2"), ("3.2", "3.2"), ("3.0", "latest"), ("3.2", "latest"))
BINDINGS = ("disable", "prefer", "require")


@dataclass(frozen=True)
class Wish:
    """Connection options; "" for those that the client does not know."""

    sslmode: str
    gssencmode: str
    channel_binding: str
    sslnegotiation: str = ""
    min_protocol_version: str = ""
    max_protocol_version: str = ""

    def __str__(self) -> str:
        return "-".join(filter(None, vars(self).values()))


@dataclass(frozen=True)
class Found:
    """A connection: inside TLS or not, and the protocol version where the client can tell it."""

    tls: bool
    protocol: str


def expected(wish: Wish, *, client_tls: bool, door: str) -> Found | None:
    """What must come of it; None: no connection. `door` is listen.tls.mode."""
    strict = wish.sslmode not in ("disable", "allow", "prefer")
    if not client_tls and (strict or wish.channel_binding == "require" or wish.sslnegotiation == "direct"):
        return None
    if wish.sslnegotiation == "direct" and not strict:
        return None  # libpq's own rule: a weak sslmode may not go with direct TLS
    inside = client_tls and (strict or wish.sslmode == "prefer" or (wish.sslmode == "allow" and door == "require"))
    if not inside and (door == "require" or wish.channel_binding == "require"):
        return None
    protocol = "" if not wish.max_protocol_version else "3.0" if wish.max_protocol_version == "3.0" else "3.2"
    return Found(inside, protocol)


def wishes(version: int) -> Iterator[Wish]:
    """All that a libpq of this major version can be asked for."""
    negotiations = ("postgres", "direct") if version >= 17 else ("",)
    versions = VERSIONS if version >= 18 else (("", ""),)
    for mode, gss, binding, negotiation, (least, most) in itertools.product(
        MODES, ("disable", "prefer"), BINDINGS, negotiations, versions
    ):
        yield Wish(mode, gss, binding, negotiation, least, most)


@cache
def psqls() -> list[tuple[Path, int, bool]]:
    """(path, version, whether it has TLS) of each kind of psql that is found."""
    folders = [*system_bindirs(), *filter(None, [wheel_bindir()])]
    named = [*os.environ.get("DAYPASS_TEST_PSQL", "").split(":"), shutil.which("psql") or ""]
    found: dict[tuple[int, bool], Path] = {}
    for path in [*(folder / "psql" for folder in folders), *(Path(name) for name in named if name)]:
        if path.exists():
            said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
            version = re.search(r"\d+", said)
            assert version is not None
            found.setdefault((int(version[0]), can_tls(path.parent)), path)
    return [(path, version, tls) for (version, tls), path in sorted(found.items())]


@pytest.fixture(scope="module", params=["allow", "require"])
def door(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, pg_servers: Servers
) -> Iterator[House]:
    """A House that lets clients choose, and one that takes TLS only."""
    house = House(tmp_path_factory.mktemp("door"), pg_servers.get(bindirs()[0]))
    tls = {"mode": request.param, "cert": "tls/cert.pem", "key": "tls/key.pem"}
    house.configure(listen={"host": "127.0.0.1", "port": 0, "tls": tls})
    house.settings["door"] = request.param
    house.start()
    yield house
    house.hurry()


def dsn(house: House, login: tuple[str, str], wish: Wish) -> str:
    options = {key: value for key, value in vars(wish).items() if value}
    return house.dsn(login, **{"sslrootcert": str(house.folder / "tls" / "cert.pem"), **options})


def by_psycopg(house: House, login: tuple[str, str], wish: Wish) -> Found | None:
    try:
        with psycopg.connect(dsn(house, login, wish)) as conn:
            assert conn.execute("select 1").fetchone() == (1,)
            version = conn.pgconn.full_protocol_version
            return Found(conn.pgconn.ssl_in_use, f"{version // 10000}.{version % 10000}")
    except psycopg.OperationalError:
        return None


def by_psql(path: Path, house: House, login: tuple[str, str], wish: Wish) -> Found | None:
    done = subprocess.run(
        [path, "-XAtq", "-F", ": ", dsn(house, login, wish), "-c", r"\conninfo", "-c", "select 40 + 2"],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "LC_ALL": "C"},
    )
    if done.returncode:
        assert done.returncode == 2, done.stderr
        return None
    assert done.stdout.splitlines()[-1] == "42"
    protocol = re.search(r"Protocol Version: ([\d.]+)", done.stdout)
    inside = re.search(r"SSL Connection: true|SSL connection \(", done.stdout)
    return Found(inside is not None, protocol[1] if protocol else "")


@pytest.fixture(scope="module")
def login(door: House) -> tuple[str, str]:
    return door.grant()


LIBPQ = psycopg.pq.version() // 10_000


SHORT = [w for w in wishes(LIBPQ) if w.gssencmode == "prefer" and w.min_protocol_version == w.max_protocol_version]
"""Without a ticket libpq does not even ask for GSS encryption, and what lies between the two versions is negotiated."""


@pytest.mark.parametrize("wish", SHORT, ids=str)
def test_the_libpq_of_psycopg(door: House, login: tuple[str, str], wish: Wish) -> None:
    found = by_psycopg(door, login, wish)
    wanted = expected(wish, client_tls=True, door=door.settings["door"])
    if wanted is not None and not wanted.protocol:
        wanted = Found(wanted.tls, "3.0")
    assert found == wanted


@pytest.mark.parametrize("mode", MODES)
def test_each_psql_in_each_sslmode(door: House, login: tuple[str, str], mode: str) -> None:
    """The short form: with the defaults of everything else, and with the newest protocol where there is one."""
    for path, version, tls in psqls():
        newest = ("3.0", "latest") if version >= 18 else ("", "")
        wish = Wish(mode, "prefer", "prefer", "postgres" if version >= 17 else "", *newest)
        found = by_psql(path, door, login, wish)
        assert found == expected(wish, client_tls=tls, door=door.settings["door"]), (str(path), version)


@pytest.mark.slow
@pytest.mark.parametrize("client", psqls(), ids=lambda client: f"psql{client[1]}-{'tls' if client[2] else 'plain'}")
def test_each_psql_with_every_combination(door: House, login: tuple[str, str], client: tuple[Path, int, bool]) -> None:
    path, version, tls = client
    wrong = []
    for wish in wishes(version):
        wanted = expected(wish, client_tls=tls, door=door.settings["door"])
        found = by_psql(path, door, login, wish)
        if found != wanted:
            wrong.append((str(wish), wanted, found))
    assert not wrong
