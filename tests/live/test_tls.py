"""TLS towards clients: their certificates, old versions, new certificates without a restart.

Covers proxy/server/tls.py and proxy/server/listener.py.
"""

from __future__ import annotations

import shutil
import signal
import ssl
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from proxy.wire import build
from tests.live.certificate import write_certificate, write_client
from tests.live.house import House, until
from tests.live.raw import Raw, fatal


def listening(house: House, **tls: str) -> House:
    wanted = {"mode": "require", "cert": "tls/cert.pem", "key": "tls/key.pem", **tls}
    house.configure(listen={"host": "127.0.0.1", "port": 0, "tls": wanted})
    return house.start()


def shown(house: House, certificate: tuple[Path, Path] | None) -> Raw:
    """A connection inside TLS, with this client certificate."""
    raw = Raw(house.port)
    assert raw.ask_tls() == b"S"
    raw.tls(certificate=certificate)
    return raw


def test_clients_must_show_a_certificate_of_the_authority(make_house: Callable[..., House], tmp_path: Path) -> None:
    authority = write_certificate(tmp_path / "ca")
    other = write_certificate(tmp_path / "other", "other.example")
    house = make_house()
    shutil.copy(authority[0], house.folder / "tls" / "client-ca.pem")
    listening(house, client_ca="tls/client-ca.pem")
    login = house.grant()

    cert, key = write_client(tmp_path, authority, "ana")
    with psycopg.connect(house.dsn(login, sslmode="require", sslcert=str(cert), sslkey=str(key))) as conn:
        assert conn.execute("select 1").fetchone() == (1,)
    (start,) = [line for line in house.lines() if line["event"] == "session.start"]
    assert start["client_certificate"] == "O=Acme\\, Inc.,CN=ana"

    with shown(house, None) as raw:
        raw.start(login[0])
        assert fatal([raw.message()]) == ("28000", "connection requires a valid client certificate")
    with shown(house, None) as raw:
        raw.send(b"\0\0\0\x04\0\3\0\0")
        assert fatal([raw.message()])[0] == "08P01"
    assert house.logins()[-1]["reason"] == "connection requires a valid client certificate"

    refused = [
        (write_client(tmp_path, other, "mallory"), "unable to get local issuer certificate"),
        (write_client(tmp_path, authority, "late", days=-1), "certificate has expired"),
    ]
    for certificate, why in refused:
        begin = (house.folder / "serve.log").stat().st_size
        # TLS 1.3 lets a client believe that its handshake is done; it hears of the refusal when it goes on.
        with shown(house, certificate) as raw, pytest.raises((ssl.SSLError, AssertionError)):
            raw.login(login)
        assert why in house.wait_log("client_certificate_refused", after=begin, address="127.0.0.1")["reason"]
    with Raw(house.port) as raw:
        raw.start(login[0])
        assert fatal([raw.message()])[0] == "28000", "nor is there a way around TLS"
    assert len([line for line in house.lines() if line["event"] == "session.start"]) == 1

    # The authority is read again with the certificate: a broken file changes nothing, another one lets others in.
    mallory = tmp_path / "mallory.pem", tmp_path / "mallory.key"
    for text, event, welcome in (("no PEM", "certificate_unusable", (cert, key)), (other[0].read_text(), "", mallory)):
        begin = (house.folder / "serve.log").stat().st_size
        (house.folder / "tls" / "client-ca.pem").write_text(text)
        assert house.process is not None
        house.process.send_signal(signal.SIGHUP)
        if event:
            house.wait_log(event, after=begin)
        for _ in until(5):
            try:
                with shown(house, welcome) as raw:
                    raw.login(login)
                break
            except (ssl.SSLError, AssertionError):
                continue
        else:
            raise AssertionError(f"{welcome[0].name} is not let in")
    with shown(house, (cert, key)) as raw, pytest.raises((ssl.SSLError, AssertionError)):
        raw.login(login)


def test_without_an_authority_nobody_is_asked(make_house: Callable[..., House], tmp_path: Path) -> None:
    house = listening(make_house())
    cert, key = write_client(tmp_path, write_certificate(tmp_path / "ca"), "ana")
    with psycopg.connect(house.dsn(house.grant(), sslmode="require", sslcert=str(cert), sslkey=str(key))):
        pass
    assert [line for line in house.lines() if "client_certificate" in line] == []


def test_certificates_are_read_again_on_sighup(make_house: Callable[..., House], tmp_path: Path) -> None:
    """The next connection gets the new one; a file that cannot be used changes nothing; open sessions do not notice."""
    house = make_house()
    authority = write_certificate(tmp_path / "ca")
    listening(house)
    login = house.grant()
    tls = house.folder / "tls"
    first = (tls / "cert.pem").read_text()

    def now_shown() -> str:
        with shown(house, None) as raw:
            return ssl.DER_cert_to_PEM_cert(raw.sock.getpeercert(binary_form=True))

    def reload() -> None:
        assert house.process is not None
        house.process.send_signal(signal.SIGHUP)

    with shown(house, None) as session:
        session.login(login)
        for broken in ("", "no PEM", first.replace("M", "?"), authority[0].read_text()):
            begin = (house.folder / "serve.log").stat().st_size
            (tls / "cert.pem").write_text(broken)
            reload()
            assert house.wait_log("certificate_unusable", after=begin)["reason"]
            assert now_shown() == first

        write_certificate(tls)
        second = (tls / "cert.pem").read_text()
        assert second != first
        reload()
        for _ in until(5):
            if now_shown() == second:
                break
        else:
            raise AssertionError("the new certificate is not in use")
        with shown(house, None) as raw:
            raw.login(login)
        session.send(build.query(b"select 1"))
        assert [kind for kind, _ in session.until("Z")] == ["T", "D", "C", "Z"]


def test_versions_before_1_2_are_not_spoken(make_house: Callable[..., House]) -> None:
    house = listening(make_house())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    # Security level 0, or this side would be the one that refuses.
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with Raw(house.port) as raw:
        assert raw.ask_tls() == b"S"
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(raw.sock)
    assert "unsupported protocol" in house.wait_log("connection_lost")["reason"]
