"""A one-time link from the command to the login: made, opened in another process, used, and then psql asks nothing.

Covers proxy/server/pages.py and proxy/access/links.py as `daypass serve` runs them, alone and with workers.
"""

from __future__ import annotations

import json
import signal
import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest

from tests.live.certificate import write_certificate
from tests.live.house import House, until
from tests.live.signing import accepted, connect, publish, recorded, signing_house
from tests.support.postgres import Servers, bindirs


@pytest.fixture(scope="module", params=[1, 2], ids=["alone", "workers"])
def house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, pg_servers: Servers
) -> Iterator[House]:
    """It serves links with its certificate; each test has a person of its own."""
    house = signing_house(tmp_path_factory.mktemp("house"), pg_servers.get(bindirs()[0]))
    house.configure(workers=request.param, links={"port": 0, "url": "https://localhost"})
    house.start()
    yield house
    house.hurry()


def link(house: House, person: str) -> str:
    """The path of a new link to `nda`."""
    made: dict[str, Any] = json.loads(house.run("agreement", "link", "nda", "--person", person).stdout)
    return str(made["url"]).removeprefix("https://localhost")


def browser(house: House) -> httpx.Client:
    port = [line["links_port"] for line in house.log() if line["event"] == "ready"][-1]
    trusted = ssl.create_default_context(cafile=str(house.folder / "tls" / "cert.pem"))
    return httpx.Client(verify=trusted, base_url=f"https://localhost:{port}")


def test_from_the_link_to_the_login(house: House) -> None:
    login = house.grant(person="Ana Vendor")
    with connect(house, login) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("select 1")
    path = link(house, "ana vendor")
    with browser(house) as client:
        assert "You tell nobody." in client.get(path).text
        done = client.post(path, data={"name": "Ana Vendor"})
        assert (done.status_code, "You have accepted nda (version 3)" in done.text) == (200, True)
        assert client.post(path, data={"name": "Ana Vendor"}).status_code == 410
    with connect(house, login) as conn:
        assert conn.execute("select 42").fetchone() == (42,)
    (step,) = accepted(house, "ana vendor")
    assert (step["detail"]["how"], step["detail"]["address"]) == ("link", "127.0.0.1")
    (made,) = [line for line in house.installation() if line.get("action") == "agreement.link"]
    assert step["detail"]["link"] == made["detail"]["link"]
    assert ["signing" in lines[0] for lines in recorded(house, login[0])] == [True, False]
    house.wait_log("agreement_link_used", agreement="nda", address="127.0.0.1")
    house.wait_log("agreement_link_refused", why="used")
    secret = path.removeprefix("/sign/").encode()
    for file in house.folder.rglob("*"):
        assert not file.is_file() or secret not in file.read_bytes(), file


def test_a_new_text_and_a_new_certificate(house: House) -> None:
    path = link(house, "Ben Vendor")
    before = (house.folder / "serve.log").stat().st_size
    write_certificate(house.folder / "tls")
    assert house.process is not None
    house.process.send_signal(signal.SIGHUP)
    for _ in until(5, 0.1):
        try:
            with browser(house) as client:
                page = client.get(path)
            break
        except httpx.ConnectError:  # it shows the certificate of before
            continue
    assert page.status_code == 200
    assert not [line for line in house.log(before) if line["event"] == "certificate_unusable"]
    publish(house, "nda", "Tell everybody.\n")
    with browser(house) as client:
        assert client.post(path, data={"name": "Ben Vendor"}).status_code == 410
    assert accepted(house, "Ben Vendor") == []


def test_the_page_closes_with_the_server(house: House) -> None:
    with browser(house) as client:
        assert client.get("/").status_code == 404
        assert house.stop() == 0
        with pytest.raises(httpx.ConnectError):
            client.get("/")
