"""proxy/server/sink_nats.py against the real server: nothing is lost, nothing comes twice, and why it is not taken."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.clock import FakeClock
from proxy.config_sinks import Sink
from proxy.server.sink_nats import NatsSink, credentials
from proxy.server.streams import target, way
from recorder.journal import Recorder
from recorder.sinks.courier import Courier, NotTaken
from recorder.sinks.feed import Item
from tests.live.certificate import write_certificate
from tests.recorder.support import Ticker, end, outcome, play, start, statement
from tests.server.nats import PROGRAM, STREAM, Key, Line, Nats
from tests.server.test_sinks import item

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no nats-server (Debian: apt install nats-server)")
HERE = "0a1b2c3d"


def sink(port: int, **more: Any) -> NatsSink:
    outer = {key: more.pop(key) for key in ("ca", "secret_env") if key in more}
    timeout = more.pop("timeout", "3s")
    nats = {"servers": [f"127.0.0.1:{port}"], "stream": STREAM, "tls": "disable", **more}
    made = way(Sink.model_validate({"nats": nats, "timeout": timeout, **outer}), HERE, FakeClock())
    assert isinstance(made, NatsSink)
    return made


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Nats]:
    with Nats(tmp_path / "nats") as found:
        found.make()
        yield found


class House:
    """A recordings folder with this sink, and a time of its own."""

    def __init__(self, folder: Path, to: NatsSink) -> None:
        self.directory = folder
        self.recorder = Recorder(folder, now=Ticker())
        self.clock = FakeClock()
        self.told: list[str] = []
        self.courier = Courier(
            folder,
            "fleet",
            to.take,
            sync=False,
            now=self.clock.now,
            monotonic=self.clock.monotonic,
            tell=lambda what, **facts: self.told.append(what),
        )
        self.courier.begin(history=False)
        self.courier.lead(True)

    def lines(self) -> list[str]:
        """Of all recordings, as they stand there."""
        files = [*self.directory.glob("2*/*/*.jsonl"), self.directory / "installation.jsonl"]
        return sorted(line for file in files if file.exists() for line in file.read_text().splitlines())


def arrived(server: Nats) -> list[str]:
    """The same of the stream, after a look that each recording is in order there."""
    events = [event for event in server.events() if event["recording"] != "checkpoint"]
    of: dict[str, list[int]] = {}
    for event in events:
        of.setdefault(event["recording"], []).append(event["line"]["seq"])
    assert all(found == list(range(1, len(found) + 1)) for found in of.values()), of
    return sorted(json.dumps(event["line"], ensure_ascii=False, separators=(",", ":")) for event in events)


def test_each_recording_has_its_subject(server: Nats) -> None:
    to = sink(server.port)
    other = Item("s-2:1", "s-2", 1, item(1).at, "statement", item(1).line)
    to.take([item(1), other, item(2)])
    messages = server.messages()
    assert sorted(message.subject or "" for message in messages) == [
        f"daypass.{HERE}.s-1",
        f"daypass.{HERE}.s-1",
        f"daypass.{HERE}.s-2",
    ]
    assert {(message.headers or {})["Nats-Msg-Id"] for message in messages} == {
        to.id(item(1)),
        to.id(item(2)),
        to.id(other),
    }
    assert item(1).framed(HERE) in [message.data for message in messages]
    to.close()


def test_what_comes_again_is_there_once(server: Nats) -> None:
    to = sink(server.port)
    for _ in range(3):
        to.take([item(n) for n in range(1, 6)])
    sink(server.port).take([item(n) for n in range(3, 8)])
    assert [event["id"] for event in server.events()] == [f"s-1:{n}" for n in range(1, 8)]


def test_two_hosts_of_one_installation_have_an_event_of_the_same_number(server: Nats) -> None:
    for who in ("ann", "ben"):
        sink(server.port).take([item(1, by=who)])
    assert [event["line"]["by"] for event in server.events()] == ["ann", "ben"]


def test_what_comes_again_in_a_later_batch_is_there_once_too(tmp_path: Path) -> None:
    """Another recording has grown meanwhile, and fills the first batch."""
    with Nats(tmp_path / "nats") as server:
        server.make(duplicate_window=0.1)
        others = [Item(f"s-2:{n}", "s-2", n, item(n).at, "statement", item(n).line) for n in range(1, 4)]
        sink(server.port).take(others[:2])
        asyncio.run(asyncio.sleep(0.3))  # the server's own clock
        again = sink(server.port)
        again.take([item(1), item(2)])
        again.take(others)
        assert [event["id"] for event in server.events() if event["recording"] == "s-2"] == ["s-2:1", "s-2:2", "s-2:3"]


@pytest.mark.parametrize("window", [120.0, 0.1])
def test_an_acknowledgement_that_is_lost(tmp_path: Path, window: float) -> None:
    """Also where the stream has long forgotten the ids."""
    with Nats(tmp_path / "nats") as server:
        server.make(duplicate_window=window)
        line = Line(server.port, b'"seq":3', 1)
        house = House(tmp_path / "r", sink(line.port, timeout="1s"))
        play(house.recorder, "s-1").close(end())
        house.courier.round()
        assert house.courier.counts.errors == 1
        if window < 1:
            house.clock.advance(600)
            asyncio.run(asyncio.sleep(0.3))  # the server's own clock
        house.clock.advance(5)
        house.courier.round()
        line.close()
        assert line.left == 0
        assert arrived(server) == house.lines()
        house.recorder.close()


def test_away_for_ten_minutes(server: Nats, tmp_path: Path) -> None:
    house = House(tmp_path / "r", sink(server.port, timeout="1s"))
    session = house.recorder.open("s-1", start("s-1"))
    session.append(statement(1))
    session.flush()
    house.courier.round()
    server.stop()
    for n in range(2, 42):
        session.append(statement(n))
        session.append(outcome(n))
        session.flush()
        house.clock.advance(15)
        house.courier.round()
    assert house.courier.counts.errors in range(5, 15), "it is left alone for longer and longer"
    assert house.courier.counts.backlog > 0
    server.start()
    house.clock.advance(300)
    house.courier.round()
    session.close(end())
    house.courier.round()
    house.courier.round()
    assert arrived(server) == house.lines()
    assert house.courier.counts.backlog == 0
    house.recorder.close()


@pytest.mark.thorough
def test_the_server_is_killed_again_and_again(server: Nats, tmp_path: Path) -> None:
    house = House(tmp_path / "r", sink(server.port, timeout="1s"))
    for n in range(5):
        session = house.recorder.open(f"s-{n}", start(f"s-{n}"))
        for number in range(1, 80):
            session.append(statement(number))
            session.append(outcome(number))
        session.close(end())
    for count in (3, 40, 90):
        line = Line(server.port, b'"seq":', count)  # in the middle of a batch
        house.courier._take = sink(line.port, timeout="1s").take
        house.clock.advance(600)
        house.courier.round()
        line.close()
        server.stop(signal.SIGKILL)
        server.start()
    house.courier._take = sink(server.port).take
    for _ in range(3):
        house.clock.advance(600)
        house.courier.round()
    assert house.courier.counts.errors >= 3
    assert arrived(server) == house.lines()
    house.recorder.close()


def test_nobody_there(server: Nats) -> None:
    server.stop()
    with pytest.raises(NotTaken, match=rf"127\.0\.0\.1:{server.port}: "):
        sink(server.port, timeout="1s").take([item(1)])


def test_no_stream(tmp_path: Path) -> None:
    with Nats(tmp_path / "nats") as server, pytest.raises(NotTaken, match=r"no stream takes daypass\.>: make one"):
        sink(server.port).take([item(1)])
    with Nats(tmp_path / "bare", jetstream=False) as bare, pytest.raises(NotTaken):
        sink(bare.port, timeout="1s").take([item(1)])


def test_another_stream_takes_the_subject(server: Nats) -> None:
    with pytest.raises(NotTaken):
        sink(server.port, stream="other").take([item(1)])
    assert server.do(lambda js: js.stream_info(STREAM)).state.messages == 0


def test_a_full_stream_leaves_no_gap(tmp_path: Path) -> None:
    from nats.js.api import DiscardPolicy

    with Nats(tmp_path / "nats") as server:
        server.make(max_msg_size=700, discard=DiscardPolicy.NEW)
        with pytest.raises(NotTaken, match="stream record: 400 message size exceeds maximum"):
            sink(server.port).take([item(1), item(2, sql="x" * 900), item(3)])
        assert [event["id"] for event in server.events()] == ["s-1:1"]


def test_larger_than_the_server_takes(tmp_path: Path) -> None:
    with Nats(tmp_path / "nats", "max_payload: 4096") as server:
        server.make()
        with pytest.raises(NotTaken, match="raise its max_payload"):
            sink(server.port).take([item(1, sql="x" * 5000)])


def test_a_password_and_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATS_SECRET", "hunter2hunter2")
    with Nats(tmp_path / "nats", "authorization { user: daypass, password: hunter2hunter2 }") as server:
        server.who = {"user": "daypass", "password": "hunter2hunter2"}
        server.make()
        sink(server.port, user="daypass", secret_env="NATS_SECRET").take([item(1)])
        assert len(server.messages()) == 1
        monkeypatch.setenv("NATS_SECRET", "hunter3hunter3")
        with pytest.raises(NotTaken, match=r"Authorization Violation|reset|closed") as caught:
            sink(server.port, user="daypass", secret_env="NATS_SECRET").take([item(2)])
        assert "hunter" not in str(caught.value)
        monkeypatch.delenv("NATS_SECRET")
        with pytest.raises(NotTaken, match="NATS_SECRET is not set"):
            sink(server.port, user="daypass", secret_env="NATS_SECRET").take([item(2)])
    monkeypatch.setenv("NATS_SECRET", "hush")
    with Nats(tmp_path / "other", "authorization { token: hush }") as server:
        server.who = {"token": "hush"}
        server.make()
        sink(server.port, secret_env="NATS_SECRET").take([item(1)])
        assert len(server.messages()) == 1


def test_who_may_not_read_the_stream_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATS_SECRET", "hunter2")
    rights = '{publish: ["daypass.>"], subscribe: ["_INBOX.>"]}'
    users = f"users = [{{user: boss, password: hunter2}}, {{user: daypass, password: hunter2, permissions: {rights}}}]"
    with Nats(tmp_path / "nats", f"authorization {{ {users} }}") as server:
        server.who = {"user": "boss", "password": "hunter2"}
        server.make()
        with pytest.raises(NotTaken, match="may this user publish here, and read the stream"):
            sink(server.port, user="daypass", secret_env="NATS_SECRET", timeout="500ms").take([item(1)])


def test_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("NATS_SECRET", "hush")
    cert, key = write_certificate(tmp_path)
    strange, _ = write_certificate(tmp_path / "other")
    files = f'cert_file: "{cert}", key_file: "{key}", ca_file: "{cert}"'
    secure = f"authorization {{ token: hush }}\ntls {{ {files}, verify: true }}"
    with Nats(tmp_path / "nats", secure, scheme="tls") as server:
        import ssl

        trust = ssl.create_default_context(cafile=str(cert))
        trust.load_cert_chain(cert, key)
        server.who = {"token": "hush", "tls": trust}
        server.make()
        safe: dict[str, Any] = {"tls": "require", "secret_env": "NATS_SECRET"}
        where = {"servers": [f"localhost:{server.port}"]}
        sink(server.port, **safe, **where, ca=cert, cert=cert, key=key).take([item(1)])
        assert len(server.messages()) == 1
        with pytest.raises(NotTaken):  # no certificate of ours
            sink(server.port, **safe, **where, ca=cert, timeout="1s").take([item(2)])
        with pytest.raises(NotTaken, match="certificate verify failed"):
            sink(server.port, **safe, **where, ca=strange, cert=cert, key=key).take([item(2)])
        assert len(server.messages()) == 1
    assert [record.getMessage() for record in caplog.records if record.levelname != "DEBUG"] == []


def test_nothing_is_said_where_tls_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody in between says that there is none."""
    import socket
    import threading

    monkeypatch.setenv("NATS_SECRET", "hush")
    cert, _ = write_certificate(tmp_path)
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as sock:

        def pose() -> None:
            here, _ = sock.accept()
            here.sendall(b'INFO {"server_id":"x","version":"2.9.0","max_payload":1048576,"auth_required":true}\r\n')
            with here:
                while data := here.recv(4096):
                    heard.append(data)

        thread = threading.Thread(target=pose, daemon=True)
        thread.start()
        with pytest.raises(NotTaken, match="the server offers no TLS, and nothing is sent without"):
            sink(sock.getsockname()[1], tls="require", ca=cert, secret_env="NATS_SECRET").take([item(1)])
        thread.join(10)
    assert heard == []


def test_credentials(tmp_path: Path) -> None:
    operator, account, system, user = Key("O"), Key("A"), Key("A"), Key("U")
    limits = {"subs": -1, "conn": -1, "leaf": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
              "wildcards": True, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}  # fmt: skip
    plain = {
        key: value for key, value in limits.items() if key not in {"mem_storage", "disk_storage", "streams", "consumer"}
    }
    accounts = [
        (account, operator.jwt(account, "shop", {"type": "account", "limits": limits})),
        (system, operator.jwt(system, "sys", {"type": "account", "limits": plain})),
    ]
    resolved = "\n".join(f"{key.public}: {jwt}" for key, jwt in accounts)
    about = {"type": "operator", "system_account": system.public}
    more = (
        f"operator: {operator.jwt(operator, 'op', about)}\n"
        f"system_account: {system.public}\nresolver: MEMORY\nresolver_preload: {{\n{resolved}\n}}\n"
    )
    theirs = account.jwt(user, "daypass", {"type": "user", "subs": -1, "data": -1, "payload": -1})
    file = tmp_path / "daypass.creds"
    file.write_text(
        f"-----BEGIN NATS USER JWT-----\n{theirs}\n------END NATS USER JWT------\n\nNotice\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
    )
    with Nats(tmp_path / "nats", more) as server:
        jwt, key = credentials(file)
        import base64

        server.who = {
            "user_jwt_cb": jwt.encode,
            "signature_cb": lambda nonce: base64.b64encode(key.sign(nonce.encode())),
        }
        server.make()
        sink(server.port, credentials=file).take([item(1)])
        assert len(server.messages()) == 1
        file.write_text(file.read_text().replace(user.seed, Key("U").seed))
        with pytest.raises(NotTaken, match=r"Authorization Violation|reset|closed"):
            sink(server.port, credentials=file).take([item(2)])
    file.write_text("nothing")
    with pytest.raises(ValueError, match="holds no credentials of NATS"):
        credentials(file)
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        credentials(tmp_path / "none")


def test_it_says_where_it_leads() -> None:
    nats = {"servers": ["a:4222", "b"], "stream": "record"}
    assert target(Sink.model_validate({"nats": nats})) == "daypass.> of stream record at a:4222, b"
