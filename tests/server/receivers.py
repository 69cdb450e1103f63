"""A syslog receiver as tests see it: real TCP or TLS, octet counting, on a port of its own."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from pathlib import Path


class Receiver:
    """Keeps messages. `before_close` is called when a sender has ended and before we say so; `keep_open`: we never say
    so; `reset`: we break the connection after reading."""

    def __init__(
        self,
        *,
        tls: tuple[Path, Path] | None = None,
        client_ca: Path | None = None,
        port: int = 0,
        close_notify: bool = True,
    ) -> None:
        self.messages: list[bytes] = []
        self.before_close: Callable[[], None] | None = None
        self.keep_open = False
        self.reset = False
        self._close_notify = close_notify
        self._context: ssl.SSLContext | None = None
        if tls is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*tls)
            if client_ca is not None:
                self._context.load_verify_locations(client_ca)
                self._context.verify_mode = ssl.CERT_REQUIRED
        self._listening = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listening.getsockname()[1]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(10)

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            with plain, contextlib.suppress(OSError):
                plain.settimeout(10)
                self._serve(plain)

    def _serve(self, plain: socket.socket) -> None:
        sock: socket.socket = plain
        if self._context is not None:
            sock = self._context.wrap_socket(plain, server_side=True)
        data = b""
        while block := sock.recv(65_536):
            data += block
        while data:
            count, _, data = data.partition(b" ")
            self.messages.append(data[: int(count)])
            data = data[int(count) :]
        if self.before_close is not None:
            self.before_close()
        if self.keep_open:
            self._over.wait(10)
        if self.reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif isinstance(sock, ssl.SSLSocket) and self._close_notify:
            sock = sock.unwrap()
        sock.close()
