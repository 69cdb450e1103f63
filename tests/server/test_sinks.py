"""Sinks against real files and real servers: what arrives, what counts as taken, and a sink that is away.

Covers proxy/server/sink_file.py, proxy/server/sink_syslog.py, proxy/server/sink_http.py and proxy/server/streams.py.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from proxy.clock import FakeClock
from proxy.config_sinks import Sink
from proxy.server.sink_file import FileSink
from proxy.server.sink_http import OtlpSink
from proxy.server.sink_syslog import SyslogSink
from proxy.server.streams import target, way
from recorder.journal import Recorder
from recorder.sinks.courier import NotTaken
from recorder.sinks.feed import Item
from tests.live.certificate import write_certificate
from tests.recorder.support import Ticker, end, play, statement
from tests.server.receivers import Receiver
from tests.server.sinks import Hook

INSTALLATION = "0a1b2c3d"


def item(n: int = 1, **changes: Any) -> Item:
    line = {"seq": n, "at": "2026-11-23T09:00:00.250000Z", "prev": "", "event": "statement", "sql": f"select 'ü' + {n}"}
    data = json.dumps(line | changes, ensure_ascii=False, separators=(",", ":")).encode()
    return Item(f"s-1:{n}", "s-1", n, "2026-11-23T09:00:00.250000Z", "statement", data)


def sink(**values: Any) -> Any:
    return way(Sink.model_validate({"timeout": "5s", **values}), INSTALLATION, FakeClock())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_certificate(tmp_path_factory.mktemp("tls"))


class TestFile:
    def lines(self, path: Path) -> list[str]:
        return [json.loads(line)["id"] for line in path.read_bytes().splitlines()]

    def test_a_line_for_each(self, tmp_path: Path) -> None:
        path = tmp_path / "out.jsonl"
        to = FileSink(path, INSTALLATION)
        to.take([item(1), item(2)])
        to.take([item(3)])
        assert self.lines(path) == ["s-1:1", "s-1:2", "s-1:3"]
        assert json.loads(path.read_bytes().splitlines()[0])["line"] == json.loads(item(1).line)
        assert oct(path.stat().st_mode)[-3:] == "600"
        to.close()

    def test_it_goes_on_in_a_new_file_when_the_old_one_was_moved(self, tmp_path: Path) -> None:
        path = tmp_path / "out.jsonl"
        to = FileSink(path, INSTALLATION)
        to.take([item(1)])
        path.rename(tmp_path / "out.jsonl.1")
        to.take([item(2)])
        assert self.lines(tmp_path / "out.jsonl.1") == ["s-1:1"]
        assert self.lines(path) == ["s-1:2"]
        to.close()

    def test_half_a_line_of_a_dead_process_is_cut(self, tmp_path: Path) -> None:
        path = tmp_path / "out.jsonl"
        path.write_bytes(item(1).framed(INSTALLATION) + b"\n" + item(2).framed(INSTALLATION)[:40])
        to = FileSink(path, INSTALLATION)
        to.take([item(2)])
        assert self.lines(path) == ["s-1:1", "s-1:2"]
        to.close()

    def test_a_disk_that_is_full_leaves_no_half_batch(self) -> None:
        with pytest.raises(NotTaken, match="/dev/full: No space left"):
            FileSink(Path("/dev/full"), INSTALLATION).take([item(1)])

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(NotTaken, match="No such file"):
            FileSink(tmp_path / "none/out", INSTALLATION).take([item(1)])


class TestSyslog:
    def test_a_message_as_the_rfc_has_it(self) -> None:
        to = SyslogSink("h", 1, INSTALLATION, trust=None, timeout=1, hostname="db gate")
        found = re.fullmatch(
            r"<110>1 2026-11-23T09:00:00\.250000Z db-gate daypass - statement "
            r'\[daypass@32473 id="s-1:7" installation="0a1b2c3d" recording="s-1" seq="7"\] (\{.*\})',
            to.message(item(7)).decode(),
        )
        assert found is not None
        assert found[1].encode() == item(7).line

    def test_what_was_refused_is_a_warning_and_what_only_says_so_is_not(self) -> None:
        to = SyslogSink("h", 1, INSTALLATION, trust=None, timeout=1)
        assert to.message(item(verdict="deny")).startswith(b"<108>1 ")
        assert to.message(item(verdict="allow", sql='select \'"verdict":"deny"\'')).startswith(b"<110>1 ")

    def test_names_are_escaped(self) -> None:
        to = SyslogSink("h", 1, 'a"]\\', trust=None, timeout=1)
        assert b'installation="a\\"\\]\\\\"' in to.message(item())

    def test_over_tcp(self) -> None:
        with Receiver() as receiver:
            to = sink(syslog={"host": "127.0.0.1", "port": receiver.port, "tls": "disable"})
            to.take([item(1), item(2, sql="select '\n'")])
            to.take([item(3)])
        assert [re.search(rb'seq="(\d)"', message)[1] for message in receiver.messages] == [b"1", b"2", b"3"]  # type: ignore[index]
        assert receiver.messages[1].endswith(item(2, sql="select '\n'").line)

    @pytest.mark.parametrize("close_notify", [True, False])
    def test_over_tls(self, certificate: tuple[Path, Path], close_notify: bool) -> None:
        with Receiver(tls=certificate, close_notify=close_notify) as receiver:
            sink(syslog={"host": "localhost", "port": receiver.port}, ca=certificate[0]).take([item(1), item(2)])
            assert len(receiver.messages) == 2

    def test_over_tls_with_a_certificate_of_ours(self, certificate: tuple[Path, Path]) -> None:
        with Receiver(tls=certificate, client_ca=certificate[0]) as receiver:
            where: dict[str, Any] = {"host": "localhost", "port": receiver.port}
            with pytest.raises(NotTaken):
                sink(syslog=where, ca=certificate[0]).take([item(1)])
            assert receiver.messages == []
            where |= {"cert": certificate[0], "key": certificate[1]}
            sink(syslog=where, ca=certificate[0]).take([item(1)])
            assert len(receiver.messages) == 1

    def test_a_stranger_gets_nothing(self, certificate: tuple[Path, Path], tmp_path: Path) -> None:
        other = write_certificate(tmp_path)
        with Receiver(tls=other) as receiver:
            with pytest.raises(NotTaken, match="certificate verify failed"):
                sink(syslog={"host": "localhost", "port": receiver.port}, ca=certificate[0]).take([item(1)])
            assert receiver.messages == []

    def test_who_does_not_close_has_not_taken(self) -> None:
        with Receiver() as receiver:
            receiver.keep_open = True
            to = sink(syslog={"host": "127.0.0.1", "port": receiver.port, "tls": "disable"}, timeout="200ms")
            with pytest.raises(NotTaken, match=r"no end within 0\.2 s: it must close when it has read all"):
                to.take([item(1)])

    @pytest.mark.parametrize("safe", [False, True])
    def test_who_breaks_the_connection_has_not_taken(self, certificate: tuple[Path, Path], safe: bool) -> None:
        with Receiver(tls=certificate if safe else None) as receiver:
            receiver.reset = True
            where = {"host": "localhost", "port": receiver.port, "tls": "require" if safe else "disable"}
            with pytest.raises(NotTaken, match="reset"):
                sink(syslog=where, ca=certificate[0]).take([item(1)])

    def test_nobody_there(self) -> None:
        with Receiver() as receiver:
            port = receiver.port
        with pytest.raises(NotTaken, match=rf"127\.0\.0\.1:{port}: Connection refused"):
            sink(syslog={"host": "127.0.0.1", "port": port, "tls": "disable"}).take([item(1)])


class TestWebhook:
    def test_signed_as_notices_are(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOOK", "hunter2")
        with Hook() as hook:
            sink(webhook=hook.url, secret_env="HOOK").take([item(1), item(2)])
        (got,) = hook.got
        assert got.data["installation"] == INSTALLATION
        assert [event["id"] for event in got.data["events"]] == ["s-1:1", "s-1:2"]
        assert item(2).line in got.body
        assert got.headers["idempotency-key"] == "s-1:1-s-1:2"
        seconds = int(datetime(2026, 1, 5, 9, tzinfo=UTC).timestamp())
        digest = hmac.new(b"hunter2", b"%d." % seconds + got.body, hashlib.sha256).hexdigest()
        assert got.headers["daypass-signature"] == f"t={seconds},v1={digest}"

    @pytest.mark.parametrize(("answer", "too_large"), [(500, False), (302, False), (403, False), (413, True)])
    def test_only_below_300_is_taken(self, monkeypatch: pytest.MonkeyPatch, answer: int, too_large: bool) -> None:
        monkeypatch.setenv("HOOK", "hunter2")
        with Hook(answer=answer, text=b"no hunter2\n!", headers={"Location": "/other"}) as hook:
            with pytest.raises(NotTaken) as caught:
                sink(webhook=hook.url, secret_env="HOOK").take([item(1)])
            assert len(hook.got) == 1
        assert str(caught.value).startswith(f"{answer} ")
        assert "no *** !" in str(caught.value)
        assert caught.value.too_large is too_large

    def test_a_secret_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("HOOK", raising=False)
        with pytest.raises(NotTaken, match="HOOK is not set"):
            sink(webhook="http://127.0.0.1:9/", secret_env="HOOK").take([item(1)])

    def test_over_tls_it_is_checked_and_it_comes_back(self, certificate: tuple[Path, Path], tmp_path: Path) -> None:
        ca = tmp_path / "ca.pem"
        ca.write_bytes(write_certificate(tmp_path / "other")[0].read_bytes())
        with Hook(tls=certificate) as hook:
            to = sink(webhook=hook.url, ca=ca)
            with pytest.raises(NotTaken, match="certificate verify failed"):
                to.take([item(1)])
            ca.write_bytes(certificate[0].read_bytes())
            to.take([item(1)])
            to.take([item(2)])
            to.close()
        assert len(hook.got) == 2


class TestOtlp:
    def test_a_request_as_collectors_read_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KEY", "Bearer abc")
        with Hook(text=b"{}") as hook:
            sink(otlp=hook.url, secret_env="KEY").take([item(1), item(2, verdict="deny")])
        (got,) = hook.got
        assert got.headers["authorization"] == "Bearer abc"
        assert got.headers["content-type"] == "application/json"
        (resource,) = got.data["resourceLogs"]
        assert {"key": "service.name", "value": {"stringValue": "daypass"}} in resource["resource"]["attributes"]
        first, second = resource["scopeLogs"][0]["logRecords"]
        assert first["timeUnixNano"] == "1795424400250000000"
        assert first["body"]["stringValue"].encode() == item(1).line
        assert {"key": "daypass.id", "value": {"stringValue": "s-1:1"}} in first["attributes"]
        assert {"key": "daypass.seq", "value": {"intValue": "1"}} in first["attributes"]
        assert (first["severityNumber"], second["severityNumber"]) == (9, 13)

    @pytest.mark.parametrize("text", [b"", b"{}", b'{"partialSuccess":{}}', b"ok", b"[]", b'{"partialSuccess":[]}'])
    def test_what_it_may_answer(self, text: bytes) -> None:
        with Hook(text=text) as hook:
            sink(otlp=hook.url).take([item(1)])

    def test_what_it_rejects_is_not_taken(self) -> None:
        text = b'{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"too old"}}'
        with Hook(text=text) as hook, pytest.raises(NotTaken, match="1 of 2 rejected: too old"):
            sink(otlp=hook.url).take([item(1), item(2)])

    def test_another_header(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KEY", "abc")
        with Hook() as hook:
            to = sink(otlp=hook.url, secret_env="KEY", header="Api-Key")
            assert isinstance(to, OtlpSink)
            to.take([item(1)])
        assert hook.got[0].headers["api-key"] == "abc"


def test_a_target_shows_no_path() -> None:
    assert target(Sink(webhook="https://siem.example:8443/secret/path?key=1")) == "https://siem.example:8443/…"
    assert target(Sink.model_validate({"syslog": {"host": "siem"}})) == "siem:6514"


class Delivering:
    """The process that delivers, which may be killed."""

    def __init__(self, directory: Path, where: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.server.courier_process", str(directory), json.dumps(where)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def after(self, seconds: float) -> str:
        """Let time pass and make a round; events delivered and errors, or nothing where it died."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return self._line()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        self.kill()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


class Far:
    """A receiver of either kind at one port, which goes away and comes back, and what it has got."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.port = 0
        self.server: Any = None
        self.past: list[tuple[str, bytes]] = []

    @property
    def where(self) -> dict[str, Any]:
        if self.kind == "syslog":
            return {"syslog": {"host": "127.0.0.1", "port": self.port, "tls": "disable"}, "timeout": "5s"}
        return {self.kind: f"http://127.0.0.1:{self.port}/hook", "timeout": "5s"}

    def there(self) -> None:
        self.server = Receiver(port=self.port) if self.kind == "syslog" else Hook(port=self.port)
        self.server.__enter__()
        self.port = self.server.port

    def away(self) -> None:
        self.past += self._got()
        self.server.__exit__()
        self.server = None

    def _got(self) -> Iterator[tuple[str, bytes]]:
        if self.kind == "syslog":
            for message in self.server.messages:
                found = re.search(rb' id="([^"]+)".*?\] (\{.*)', message)
                assert found is not None
                yield found[1].decode(), found[2]
        elif self.kind == "webhook":
            for got in self.server.got:
                for event in got.data["events"]:
                    yield event["id"], json.dumps(event["line"], separators=(",", ":"), ensure_ascii=False).encode()
        else:
            for got in self.server.got:
                for record in got.data["resourceLogs"][0]["scopeLogs"][0]["logRecords"]:
                    yield record["attributes"][0]["value"]["stringValue"], record["body"]["stringValue"].encode()

    @property
    def got(self) -> list[tuple[str, bytes]]:
        return self.past + (list(self._got()) if self.server is not None else [])


@pytest.mark.parametrize("kind", ["syslog", "webhook", "otlp"])
@pytest.mark.thorough
def test_a_sink_away_for_ten_minutes_loses_and_doubles_nothing(tmp_path: Path, kind: str) -> None:
    """Sessions go on, begin and end meanwhile; the process that delivers is killed in the middle."""
    recorder = Recorder(tmp_path, now=Ticker())
    far = Far(kind)
    far.there()
    delivering = Delivering(tmp_path, far.where)
    try:
        long = play(recorder, "s-long")
        assert delivering.after(0) == "5 0"
        far.away()
        for minute in range(10):
            long.append(statement(minute + 3, f"select 'minute ü {minute}'"))
            long.flush()
            play(recorder, f"s-{minute}").close(end(2))
            assert delivering.after(60).startswith("0 " if minute >= 5 else "5 ")
            if minute == 4:
                delivering.close()
                delivering = Delivering(tmp_path, far.where)
        long.close(end(12))
        far.there()
        delivering.after(600)
        delivering.after(1)
        files = sorted(tmp_path.glob("2026/11/*.jsonl"))
        expected = {
            f"{file.stem}:{n}": line for file in files for n, line in enumerate(file.read_bytes().splitlines(), 1)
        }
        assert len(files) == 11
        assert len(far.got) == len(expected)
        assert dict(far.got) == expected
        seqs = [int(id_.partition(":")[2]) for id_, _ in far.got if id_.startswith("s-long:")]
        assert seqs == sorted(seqs)
    finally:
        delivering.close()
        far.server.__exit__()
    recorder.close()


def test_killed_between_arrival_and_answer_it_comes_again_with_the_same_id(tmp_path: Path) -> None:
    """The one moment in which nobody can know."""
    recorder = Recorder(tmp_path, now=Ticker())
    recording = play(recorder)
    far = Far("syslog")
    far.there()
    delivering = Delivering(tmp_path, far.where)
    try:
        far.server.before_close = delivering.kill
        assert delivering.after(0) == ""
        far.server.before_close = None
        delivering.close()
        delivering = Delivering(tmp_path, far.where)
        assert delivering.after(0) == "5 0"
        assert [id_ for id_, _ in far.got] == [f"s-1:{n}" for n in range(1, 6)] * 2
        assert dict(far.got[:5]) == dict(far.got[5:])
        assert list(dict(far.got).values()) == recording.path.read_bytes().splitlines()
        assert delivering.after(1) == "5 0"
    finally:
        delivering.close()
        far.server.__exit__()
    recorder.close()
