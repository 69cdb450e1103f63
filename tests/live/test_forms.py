"""A login in every form that `--form` prints, pasted as it is and tried with the real programs.

Covers proxy/cli/grant_forms.py.
"""

from __future__ import annotations

import json
import os
import pty
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.house import House
from tests.live.test_introspection import JARS
from tests.live.test_workers import daypass
from tests.support.postgres import Servers, bindirs

PSQL = shutil.which("psql")
COUNT = "select count(*) from orders"
WISH = [
    "--person",
    "jo@vendor.example",
    "--vendor",
    "Acme",
    "--database",
    "shop",
    "--policy",
    "reader",
    "--for",
    "1h",
    "--reason",
    "test",
]
ALL = [word for form in ("uri", "pgpass", "service", "jdbc", "dbeaver", "env") for word in ("--form", form)]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, pg_servers: Servers) -> Iterator[House]:
    """A house with a port that is known beforehand."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    tls = {"mode": "require", "cert": "tls/cert.pem", "key": "tls/key.pem"}
    listen = {"host": "127.0.0.1", "port": port, "tls": tls}
    house = House(tmp_path_factory.mktemp("forms"), pg_servers.get(bindirs()[0]), listen=listen)
    house.start()
    yield house
    house.hurry()


@pytest.fixture(scope="module")
def made(served: House) -> dict[str, Any]:
    done = daypass(served, "grant", "create", *WISH, *ALL, "-o", "json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def psql(*words: str, **environment: str) -> str:
    assert PSQL is not None
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    done = subprocess.run(
        [PSQL, "-XAtw", *words, "-c", COUNT],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(PSQL is None, reason="there is no psql")
def test_password_file_and_uri_and_service_file(made: dict[str, Any], tmp_path: Path) -> None:
    forms = made["forms"]
    passwords, services = tmp_path / "pgpass", tmp_path / "service.conf"
    passwords.write_text(forms["pgpass"] + "\n")
    passwords.chmod(0o600)
    services.write_text(forms["service"] + "\n")
    assert psql(forms["uri"], PGPASSFILE=str(passwords)).isdigit()
    service = f"service=daypass-{made['grant']}"
    assert psql(service, PGPASSFILE=str(passwords), PGSERVICEFILE=str(services)).isdigit()


@pytest.mark.skipif(PSQL is None, reason="there is no psql")
def test_the_environment_asks_for_the_token(made: dict[str, Any], tmp_path: Path) -> None:
    script = tmp_path / "login.sh"
    script.write_text(f"{made['forms']['env']}\n{PSQL} -XAtw -c '{COUNT}'\n")
    leader, follower = pty.openpty()
    shell = subprocess.Popen(["/bin/sh", str(script)], stdin=follower, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    os.write(leader, f"{made['token']}\n".encode())
    out, err = shell.communicate(timeout=30)
    os.close(leader)
    os.close(follower)
    assert shell.returncode == 0, err
    assert out.decode().removeprefix("Token: ").strip().isdigit()
    assert made["token"] not in made["forms"]["env"]


@pytest.mark.skipif(not JARS or not shutil.which("java"), reason="there is no java with pgjdbc")
def test_jdbc(made: dict[str, Any]) -> None:
    done = subprocess.run(
        ["java", "-cp", str(JARS[0]), str(Path(__file__).parent / "Login.java"), made["forms"]["jdbc"], made["user"]],
        input=made["token"] + "\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ORDERS ")


def test_the_token_is_in_the_password_file_alone(made: dict[str, Any], served: House) -> None:
    forms = made["forms"]
    assert [name for name, text in forms.items() if made["token"] in text] == ["pgpass"]
    assert forms["jdbc"] == (f"jdbc:postgresql://127.0.0.1:{served.port}/shop?sslmode=require&channelBinding=require")
    fields = dict(line.split("  ", 1) for line in forms["dbeaver"].splitlines())
    assert fields["Host"].strip() == "127.0.0.1"
    assert fields["Username"].strip() == made["user"]


def test_for_people_each_form_says_where_it_goes(served: House, made: dict[str, Any]) -> None:
    done = daypass(served, "grant", "token", made["grant"], "--form", "pgpass", "--form", "dbeaver", "-o", "table")
    assert done.returncode == 0, done.stderr
    assert "mode 0600" in done.stdout
    assert "PGPASSFILE" in done.stdout
    assert "SSL > SSL mode" in done.stdout
