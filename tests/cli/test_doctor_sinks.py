"""What doctor says of sinks: proxy/cli/doctor_sinks.py."""

from pathlib import Path
from typing import Any

import pytest

from proxy.cli.doctor_sinks import sinks
from proxy.clock import FakeClock
from proxy.config import ConfigError, load, warnings
from proxy.server.streams import way
from recorder.journal import Recorder
from recorder.sinks import cursor
from recorder.sinks.courier import Courier
from tests.recorder.support import Ticker, play

BASE = "databases: {app: {host: db, ca: null, credential: {mode: shared, user: u}}}\nlisten: {tls: {mode: disable}}\n"


def config(folder: Path, text: str) -> Any:
    (folder / "config.yaml").write_text(BASE + "sinks:\n" + text)
    return load(folder / "config.yaml")


def courier(cfg: Any, name: str) -> Courier:
    to, clock = way(cfg.sinks[name], "0a1b2c3d", FakeClock()), FakeClock()
    one = Courier(
        cfg.recording.dir,
        name,
        to.take,
        sync=False,
        now=clock.now,
        monotonic=clock.monotonic,
        tell=lambda *_, **__: None,
    )
    one.begin(history=False)
    one.lead(True)
    return one


def test_from_before_the_start_to_all_taken(tmp_path: Path) -> None:
    cfg = config(tmp_path, "  agent: {file: out.jsonl}\n")
    where = f"file {tmp_path}/out.jsonl"
    assert list(sinks(cfg)) == [("ok", "sink agent", f"{where}: begins when serve starts", "")]
    recorder = Recorder(cfg.recording.dir, now=Ticker())
    one = courier(cfg, "agent")
    size = play(recorder).path.stat().st_size
    assert next(sinks(cfg))[2] == f"{where}: 0 events taken; {size} bytes wait"
    one.round()
    assert next(sinks(cfg))[2] == f"{where}: 5 events taken, the last 2026-01-05T09:00:00Z; 0 bytes wait"
    recorder.close()


def test_one_that_is_away_one_without_its_secret_one_whose_cursor_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KEY", raising=False)
    cfg = config(
        tmp_path,
        "  far: {syslog: {host: 127.0.0.1, port: 1, tls: disable}}\n"
        "  hook: {webhook: 'https://siem.example/secret', secret_env: KEY}\n  odd: {file: out}\n",
    )
    recorder = Recorder(cfg.recording.dir, now=Ticker())
    one = courier(cfg, "far")
    play(recorder)
    one.round()
    cursor.path(cfg.recording.dir, "odd").write_bytes(b"{")
    far, hook, odd = sinks(cfg)
    assert far[0] == "warn"
    assert far[2].endswith("127.0.0.1:1: Connection refused")
    assert hook[:3] == (
        "fail",
        "sink hook",
        "webhook https://siem.example/…: the environment variable KEY is not set",
    )
    assert odd[0] == "fail"
    assert "damaged" in odd[2]
    recorder.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  a: {}\n", "one of file, syslog, webhook, otlp, nats and objects"),
        ("  a: {nats: {servers: [h], stream: a.b}}\n", "sinks.a.nats.stream"),
        ("  a: {nats: {servers: ['nats://h'], stream: a}}\n", "sinks.a.nats.servers"),
        ("  a: {nats: {servers: [h], stream: a, user: u}}\n", "nats.user needs its password"),
        ("  a: {nats: {servers: [h], stream: a, credentials: c}, secret_env: X}\n", "not both"),
        ("  a: {nats: {servers: [h], stream: a, tls: disable}, secret_env: X}\n", "in the clear"),
        ("  a: {nats: {servers: [h], stream: a, cert: c}}\n", "both or neither"),
        ("  a: {file: x, otlp: 'https://h/'}\n", "one of file, syslog, webhook, otlp, nats and objects"),
        ("  a: {file: x, secret_env: K}\n", "are for webhook, otlp and nats"),
        ("  a: {webhook: 'http://siem.example/'}\n", "webhook: an https:// address"),
        ("  a: {otlp: 'https://u:p@siem.example/'}\n", "otlp: no password in the address"),
        ("  a: {otlp: 'https://h/', secret_env: K, secret_file: f}\n", "secret_env or secret_file, not both"),
        ("  a: {objects: 'ftp://h/x'}\n", "objects"),
        ("  a: {objects: 's3://key:secret@bucket/x'}\n", "objects"),
        ("  a: {syslog: {host: h, cert: c}}\n", "both or neither"),
        ("  ../a: {file: x}\n", "a sink's name has 1 to 63 of"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(tmp_path, text)


def test_syslog_in_the_clear_deserves_a_second_thought(tmp_path: Path) -> None:
    found = warnings(config(tmp_path, "  a: {syslog: {host: siem.example, tls: disable}}\n"))
    assert [finding.key for finding in found if finding.key.startswith("sinks")] == ["sinks.a.syslog.tls"]
    assert not [f for f in warnings(config(tmp_path, "  a: {syslog: {host: siem}}\n")) if "sinks" in f.key]
