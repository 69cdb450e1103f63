"""A NATS server as tests see it: the real program with JetStream, and a line to it that can be cut."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg, StreamConfig
from nats.js.errors import NotFoundError

PROGRAM = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/sbin")
STREAM = "record"


class Nats:
    """A server that keeps its stream in `folder`; `more` is config of its own. For `with`."""

    def __init__(self, folder: Path, more: str = "", *, jetstream: bool = True, scheme: str = "nats") -> None:
        self._folder = folder
        self._file = folder / "nats.conf"
        folder.mkdir(exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as sock:
            self.port: int = sock.getsockname()[1]
        store = f'jetstream {{ store_dir: "{folder}/store" }}' if jetstream else ""
        self._file.write_text(f'listen: "127.0.0.1:{self.port}"\n{store}\n{more}\n')
        self._process: subprocess.Popen[bytes] | None = None
        self.who: dict[str, Any] = {}
        self._scheme = scheme

    def __enter__(self) -> Nats:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        assert PROGRAM is not None
        with (self._folder / "nats.log").open("ab") as log:
            self._process = subprocess.Popen([PROGRAM, "-c", str(self._file)], stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as sock:
                    assert sock.recv(4) == b"INFO"
                    return
            except OSError:
                assert self._process.poll() is None, (self._folder / "nats.log").read_text()[-2000:]
                time.sleep(0.02)
        raise AssertionError("it does not start")

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(20)
            self._process = None

    def do(self, what: Callable[[JetStreamContext], Coroutine[Any, Any, Any]]) -> Any:
        async def run() -> Any:
            client = Client()
            await client.connect(f"{self._scheme}://127.0.0.1:{self.port}", allow_reconnect=False, **self.who)
            try:
                return await what(client.jetstream())
            finally:
                await client.close()

        return asyncio.run(run())

    def make(self, **more: Any) -> None:
        """The stream."""
        self.do(lambda js: js.add_stream(StreamConfig(name=STREAM, subjects=["daypass.>"], **more)))

    def messages(self) -> list[RawStreamMsg]:
        """All that it holds, in order."""

        async def read(js: JetStreamContext) -> list[RawStreamMsg]:
            found = []
            state = (await js.stream_info(STREAM)).state
            for seq in range(state.first_seq, state.last_seq + 1):
                try:
                    found.append(await js.get_msg(STREAM, seq))
                except NotFoundError:
                    continue
            return found

        messages: list[RawStreamMsg] = self.do(read)
        return messages

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(message.data or b"") for message in self.messages()]


class Line:
    """A connection to `port` that is cut, both ways and before it is passed on, when the server says `end` the
    `count`-th time."""

    def __init__(self, port: int, end: bytes, count: int = 1) -> None:
        self._to = port
        self._end = end
        self.left = count
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listening.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(here,), daemon=True))
            self._threads[-1].start()

    def _serve(self, here: socket.socket) -> None:
        with here, socket.create_connection(("127.0.0.1", self._to)) as there:
            other = threading.Thread(target=self._pass, args=(here, there, False), daemon=True)
            other.start()
            self._pass(there, here, True)
            other.join(10)

    def _pass(self, source: socket.socket, target: socket.socket, back: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if back and self._end in data and self.left > 0:
                    self.left -= 1
                    if self.left == 0:
                        break
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


class Key:
    """An nkey, and JWTs that it signs; `kind` is O, A or U."""

    def __init__(self, kind: str) -> None:
        prefix = {"O": 14 << 3, "A": 0, "U": 20 << 3}[kind]
        self._key = Ed25519PrivateKey.generate()
        self.public = _coded(bytes([prefix]) + self._key.public_key().public_bytes_raw())
        head = bytes([18 << 3 | prefix >> 5, (prefix & 31) << 3])
        self.seed = _coded(head + self._key.private_bytes_raw())

    def jwt(self, of: Key, name: str, claims: dict[str, Any]) -> str:
        body = {"jti": name, "iat": 1_700_000_000, "iss": self.public, "name": name, "sub": of.public}
        parts = [{"typ": "JWT", "alg": "ed25519-nkey"}, body | {"nats": {"version": 2, **claims}}]
        text = ".".join(_plain(json.dumps(part).encode()) for part in parts)
        return f"{text}.{_plain(self._key.sign(text.encode()))}"


def _coded(data: bytes) -> str:
    data += binascii.crc_hqx(data, 0).to_bytes(2, "little")
    return base64.b32encode(data).decode().rstrip("=")


def _plain(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
