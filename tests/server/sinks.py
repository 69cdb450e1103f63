"""Places that are told of steps, as tests see them: a real HTTP(S) server and a real SMTP server."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope


@dataclass
class Got:
    """One POST."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def data(self) -> Any:
        return json.loads(self.body)


@dataclass
class Hook:
    """A web server on a port of its own. It answers with `answer`, in `delay` seconds, and keeps what it got."""

    tls: tuple[Path, Path] | None = None
    port: int = 0
    answer: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    text: bytes = b"ok"
    delay: threading.Event | None = None
    got: list[Got] = field(default_factory=list)

    def __enter__(self) -> Hook:
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.got.append(Got(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                if hook.delay is not None:
                    hook.delay.wait(20)
                    self.close_connection = True
                    return
                self.send_response(hook.answer)
                for key, value in hook.headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(hook.text)))
                self.end_headers()
                self.wfile.write(hook.text)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that does not trust the certificate

        self._server = Server(("127.0.0.1", self.port), Handler)
        if self.tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.delay is not None:
            self.delay.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/hook"


class Mailbox:
    """A mail server: STARTTLS, TLS at once, or neither; one user, `daypass` with `hunter2`. For `async with`."""

    def __init__(self, certificate: tuple[Path, Path] | None, *, at_once: bool = False) -> None:
        self.mails: list[Envelope] = []
        self.refuse: str | None = None
        self._at_once = at_once
        self._context = None
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*certificate)

    async def __aenter__(self) -> Mailbox:
        loop = asyncio.get_running_loop()
        later = self._context if not self._at_once else None

        def serve() -> SMTP:
            return SMTP(
                self,
                loop=loop,
                tls_context=later,
                require_starttls=later is not None,
                auth_require_tls=later is not None,
                auth_required=self._context is not None,
                authenticator=self._login,
            )

        at_once = self._context if self._at_once else None
        self._server = await loop.create_server(serve, "127.0.0.1", 0, ssl=at_once)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    @staticmethod
    def _login(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=(data.login, data.password) == (b"daypass", b"hunter2"), handled=False)

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:
        if self.refuse:
            return self.refuse
        self.mails.append(envelope)
        return "250 kept"
