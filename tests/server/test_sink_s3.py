"""proxy/server/sink_objects.py against a server of others that speaks S3 (moto's): puts, parts, locks, refusals."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import obstore
import pytest
from obstore.store import S3Store

from proxy.clock import FakeClock
from proxy.config_sinks import Sink
from proxy.server.streams import way
from recorder.sinks.courier import NotTaken
from tests.server.test_sink_objects import HERE, parcel

PROGRAM = shutil.which("moto_server")
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="there is no moto_server (pip install 'moto[s3,server]', 300 MB)"
)
NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)


class Server:
    """The server, with a bucket `vault` that may lock objects and `plain`, which may not."""

    def __init__(self, folder: Path, open_calls: int = 1_000_000) -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            port = sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        environment = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": str(open_calls)}
        environment.pop("PYTHONPATH", None)
        self._log = (folder / "moto.log").open("wb")
        words = [str(PROGRAM), "-H", "127.0.0.1", "-p", str(port)]
        self._process = subprocess.Popen(words, env=environment, stdout=self._log, stderr=self._log)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                httpx.get(f"{self.url}/moto-api/", timeout=5)
                break
            except httpx.HTTPError:
                assert self._process.poll() is None
                time.sleep(0.1)
        self.ask("PUT", "/vault", {"x-amz-bucket-object-lock-enabled": "true"})
        self.ask("PUT", "/plain")

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        signed = {"Authorization": "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/20261123/us-east-1/s3/aws4_request"}
        answer = httpx.request(method, f"{self.url}{path}", headers=signed | (headers or {}), timeout=10)
        assert answer.status_code < 300, answer.text
        return answer

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(tmp_path_factory.mktemp("moto"))
    yield found
    found.stop()


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2hunter2")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f"
    path.write_bytes(b"sealed")
    return path


def sink(server: Server, monkeypatch: pytest.MonkeyPatch, bucket: str, **more: Any) -> Any:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    return way(Sink.model_validate({"objects": f"s3://{bucket}", "timeout": "5s", **more}), HERE, FakeClock(NOW))


def stored(server: Server, bucket: str, key: str) -> bytes:
    store = S3Store(bucket, endpoint=server.url, client_options={"allow_http": True})
    return bytes(obstore.get(store, key).bytes())


@pytest.mark.usefixtures("credentials")
class TestAgainstIt:
    def test_once(self, server: Server, monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
        to = sink(server, monkeypatch, "plain/once")
        to.take([parcel(file)])
        to.take([parcel(file)])
        assert stored(server, "plain", f"once/{HERE}/2026/11/s-1.jsonl.zst") == b"sealed"
        file.write_bytes(b"another")
        with pytest.raises(NotTaken, match="is there with 6 bytes, and should have 7: it is not replaced"):
            to.take([parcel(file)])

    @pytest.mark.parametrize("lock", [None, {"mode": "governance", "days": 400}])
    def test_a_large_one_in_parts(
        self, server: Server, monkeypatch: pytest.MonkeyPatch, file: Path, lock: dict[str, Any] | None
    ) -> None:
        file.write_bytes(os.urandom(11 << 20))
        prefix = f"large{'-locked' if lock else ''}"
        sink(server, monkeypatch, f"vault/{prefix}", object_lock=lock, timeout="30s").take([parcel(file)])
        key = f"{prefix}/{HERE}/2026/11/s-1.jsonl.zst"
        assert stored(server, "vault", key) == file.read_bytes()
        # This server does not lock what comes in parts; what is sent for it, test_sink_objects looks at.

    def test_it_is_locked(self, server: Server, monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
        lock = {"mode": "compliance", "days": 3650}
        sink(server, monkeypatch, "vault/locked", object_lock=lock).take([parcel(file)])
        key = f"/vault/locked/{HERE}/2026/11/s-1.jsonl.zst"
        head = server.ask("HEAD", key).headers
        assert head["x-amz-object-lock-mode"] == "COMPLIANCE"
        assert head["x-amz-object-lock-retain-until-date"].startswith("2036-11-20T09:00:00")
        with pytest.raises(AssertionError, match="AccessDenied"):
            server.ask("DELETE", f"{key}?versionId={head['x-amz-version-id']}")

    def test_a_bucket_without_object_lock_says_so(
        self, server: Server, monkeypatch: pytest.MonkeyPatch, file: Path
    ) -> None:
        lock = {"mode": "governance", "days": 1}
        with pytest.raises(
            NotTaken, match=r"^400 Bad Request: InvalidRequest: Bucket is missing ?Object ?Lock ?Configuration"
        ):
            sink(server, monkeypatch, "plain/locked", object_lock=lock).take([parcel(file)])

    def test_no_such_bucket(self, server: Server, monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
        with pytest.raises(NotTaken, match=r"^404 Not Found: NoSuchBucket: "):
            sink(server, monkeypatch, "nowhere").take([parcel(file)])

    def test_wrong_credentials(self, monkeypatch: pytest.MonkeyPatch, file: Path, tmp_path: Path) -> None:
        strict = Server(tmp_path, open_calls=2)
        try:
            with pytest.raises(NotTaken, match=r"^403 Forbidden: these credentials may not read heads") as caught:
                sink(strict, monkeypatch, "plain").take([parcel(file)])
        finally:
            strict.stop()
        assert "hunter2" not in str(caught.value)
