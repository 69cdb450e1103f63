"""Sealed recordings and checkpoints as objects: proxy/server/sink_objects.py and recorder/sinks/parcels.py.

Against a folder, and a server that speaks as much S3 as a store needs.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyrage
import pytest

from proxy.clock import FakeClock
from proxy.config_sinks import Sink
from proxy.server.streams import way
from recorder import retention
from recorder.journal import Recorder
from recorder.pack import Form
from recorder.sinks import cursor, held
from recorder.sinks.courier import Courier, NotTaken
from recorder.sinks.feed import Feed
from recorder.sinks.parcels import Parcel, Parcels, PlainParcels
from recorder.upkeep import Upkeep
from tests.recorder.support import START, Ticker, end, play

HERE = "0a1b2c3d"


def parcel(file: Path, size: int | None = None) -> Parcel:
    length = file.stat().st_size if size is None else size
    return Parcel("s-1:file", "s-1", 0, "", "file", b"", file, "2026/11/s-1.jsonl.zst", length)


class Bucket:
    """An S3 server with one bucket, which keeps objects and the headers they came with."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.checksums: dict[str, str] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.count = 0
        self.answer = 200
        self.seen: list[tuple[str, dict[str, str]]] = []
        bucket = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def parse_request(self) -> bool:
                whole = super().parse_request()
                bucket.seen.append((self.command, {key.lower(): value for key, value in self.headers.items()}))
                return whole

            def do_HEAD(self) -> None:
                found = bucket.objects.get(self.path)
                self.send_response(404 if found is None else 200)
                if found is not None:
                    self.send_header("Last-Modified", "Mon, 23 Nov 2026 09:00:00 GMT")
                    self.send_header("ETag", '"1"')
                self.send_header("Content-Length", str(len(found or b"")))
                self.end_headers()

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"] or 0))
                path, _, query = self.path.partition("?")
                if "uploadId=" in query:
                    bucket.objects[path] = b"".join(part for _, part in sorted(bucket.parts.pop(path).items()))
                    answer = '<CompleteMultipartUploadResult><ETag>"1"</ETag></CompleteMultipartUploadResult>'
                else:
                    bucket.parts[path], bucket.count = {}, 0
                    answer = "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer.encode())

            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                path, _, query = self.path.partition("?")
                if found := re.search(r"partNumber=(\d+)", query):
                    bucket.parts[path][int(found[1])] = body
                    bucket.count = max(bucket.count, int(found[1]))
                elif bucket.answer == 200:
                    bucket.objects[self.path] = body
                    bucket.checksums[self.path] = self.headers.get("x-amz-checksum-sha256", "")
                self.send_response(bucket.answer)
                self.send_header("ETag", '"1"')
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    found = Bucket()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2hunter2")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{found.port}")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    yield found
    found.close()


def sink(url: str, **more: Any) -> Any:
    return way(Sink.model_validate({"objects": url, "timeout": "3s", **more}), HERE, FakeClock())


class House:
    """A recordings folder with an objects sink."""

    def __init__(self, folder: Path, url: str, feed: type[Feed]) -> None:
        self.directory = folder
        self.recorder = Recorder(folder, now=Ticker())
        self.clock = FakeClock()
        self.told: list[dict[str, Any]] = []
        self.courier = Courier(
            folder,
            "bucket",
            sink(url).take,
            sync=False,
            now=self.clock.now,
            monotonic=self.clock.monotonic,
            tell=lambda what, **facts: self.told.append({"what": what, **facts}),
            feed=feed,
        )
        self.courier.begin(history=False)
        self.courier.lead(True)

    def keep_up(self, form: Form) -> None:
        at = START + timedelta(minutes=2)
        Upkeep(self.directory, form=form, retain=None, now=lambda: at).round()


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_to_a_folder_once_in_the_form_that_it_is_kept_in(tmp_path: Path) -> None:
    out = tmp_path / "out put"
    house = House(tmp_path / "r", f"file://{tmp_path}/out%20put", Parcels)
    play(house.recorder, "s-1").close(end())
    house.courier.round()
    assert not out.exists() or names(out) == []  # sealed, and not packed yet
    key = pyrage.x25519.Identity.generate()
    house.keep_up(Form(recipients=(str(key.to_public()),)))
    assert not list((house.directory / ".sinks").glob("held/*"))  # an object is never plain
    assert house.courier.counts.backlog == 0
    house.courier.round()
    house.courier.round()
    file, note = (name for name in names(out))
    assert file == f"{HERE}/2026/11/s-1.jsonl.zst.age"
    assert (out / file).read_bytes() == (house.directory / "2026/11/s-1.jsonl.zst.age").read_bytes()
    assert note.startswith(f"{HERE}/checkpoints/0000")
    assert (out / note).read_bytes() == (house.directory / "checkpoint").read_bytes()
    assert house.courier.counts.delivered == 2
    house.recorder.close()


def test_one_that_has_not_got_its_name_yet_is_waited_for(tmp_path: Path) -> None:
    """As for an instant in each packing, or for long where its packer was killed then."""
    house = House(tmp_path / "r", f"file://{tmp_path}/out", Parcels)
    play(house.recorder, "s-1").close(end())
    house.keep_up(Form())
    packed = house.directory / "2026/11/s-1.jsonl.zst"
    packed.rename(packed.with_name(f"{packed.name}.new"))
    house.courier.round()
    assert house.courier.counts.skipped == 0
    house.keep_up(Form())
    house.courier.round()
    assert f"{HERE}/2026/11/s-1.jsonl.zst" in names(tmp_path / "out")
    house.recorder.close()


def test_where_nothing_is_packed_it_goes_as_it_was_sealed(tmp_path: Path) -> None:
    house = House(tmp_path / "r", f"file://{tmp_path}/out", PlainParcels)
    open_ = play(house.recorder, "s-open")
    play(house.recorder, "s-1").close(end())
    house.courier.round()
    assert names(tmp_path / "out") == [f"{HERE}/2026/11/s-1.jsonl"]
    open_.close(end())
    house.courier.round()
    assert f"{HERE}/2026/11/s-open.jsonl" in names(tmp_path / "out")
    house.recorder.close()


def test_s3_away_and_back_with_a_checksum_for_object_lock(bucket: Bucket, tmp_path: Path) -> None:
    house = House(tmp_path / "r", "s3://vault/daypass", Parcels)
    for name in ("s-1", "s-2"):
        play(house.recorder, name).close(end())
    house.keep_up(Form())
    bucket.answer = 403
    house.courier.round()
    assert bucket.objects == {}
    assert cursor.load(house.directory, "bucket").error
    assert "hunter2" not in cursor.load(house.directory, "bucket").error
    size = sum(file.stat().st_size for file in house.directory.glob("2026/11/*.zst"))
    assert house.courier.counts.backlog == size
    bucket.answer = 200
    house.clock.advance(600)
    house.courier.round()
    stored = {name.rpartition("/")[2]: data for name, data in bucket.objects.items()}
    for file in house.directory.glob("2026/11/*.zst"):
        assert stored[file.name] == file.read_bytes()
    assert len(stored) == 3
    assert all(name.startswith(f"/vault/daypass/{HERE}/") for name in bucket.objects)
    for name, data in bucket.objects.items():
        assert bucket.checksums[name] == base64.b64encode(hashlib.sha256(data).digest()).decode()
    house.recorder.close()


def test_what_is_there_is_taken_and_never_replaced(bucket: Bucket, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"sealed")
    to = sink("s3://vault/daypass")
    to.take([parcel(file)])
    bucket.answer = 500
    to.take([parcel(file)])  # a batch that comes again asks, and writes nothing
    (name,) = bucket.objects
    bucket.objects[name] = b"another one"
    with pytest.raises(NotTaken, match="is there with 11 bytes, and should have 6: it is not replaced"):
        to.take([parcel(file)])
    to.close()


def test_a_large_one_goes_in_parts(bucket: Bucket, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(os.urandom(11 << 20))
    to = sink("s3://vault/daypass")
    to.take([parcel(file)])
    assert bucket.count == 3
    assert bucket.objects == {f"/vault/daypass/{HERE}/2026/11/s-1.jsonl.zst": file.read_bytes()}


@pytest.mark.parametrize(("size", "writes"), [(10, "PUT"), (11 << 20, "POST")])
def test_a_lock_goes_with_what_is_written_and_is_signed(bucket: Bucket, tmp_path: Path, size: int, writes: str) -> None:
    file = tmp_path / "f"
    file.write_bytes(os.urandom(size))
    sink("s3://vault/daypass", object_lock={"mode": "compliance", "days": 365}).take([parcel(file)])
    (asked,) = (headers for method, headers in bucket.seen if method == "HEAD")
    assert not [key for key in asked if "lock" in key]
    written = next(headers for method, headers in bucket.seen if method == writes)
    assert written["x-amz-object-lock-mode"] == "COMPLIANCE"
    assert written["x-amz-object-lock-retain-until-date"] == "2027-01-05T09:00:00Z"
    assert "x-amz-object-lock-mode;x-amz-object-lock-retain-until-date" in written["authorization"]


@pytest.mark.parametrize("where", ["file:///tmp/x", "gs://b/x", "az://c/x"])
def test_a_lock_is_of_s3(where: str) -> None:
    with pytest.raises(ValueError, match="object_lock is for objects at s3://"):
        Sink.model_validate({"objects": where, "object_lock": {"mode": "governance", "days": 1}})


def test_a_store_that_is_not_there(bucket: Bucket, tmp_path: Path) -> None:
    bucket.close()
    file = tmp_path / "f"
    file.write_bytes(b"sealed")
    with pytest.raises(NotTaken):
        sink("s3://vault/daypass").take([parcel(file)])


def test_one_that_was_deleted_before_is_said_to_be_skipped(tmp_path: Path) -> None:
    house = House(tmp_path / "r", f"file://{tmp_path}/out", PlainParcels)
    play(house.recorder, "s-1").close(end())
    later = START + timedelta(days=9)
    retention.prune(house.directory, lambda: later, 86_400.0, why="old", by="daypass")
    lost = play(house.recorder, "s-2")
    lost.close(end())
    lost.path.unlink()
    house.courier.round()
    assert house.courier.counts.skipped == 2
    assert held.find(house.directory, "s-1") is None
    house.recorder.close()
