"""A client that speaks the protocol byte by byte, for what no driver would send."""

from __future__ import annotations

import socket
import ssl
from typing import Any

from proxy.scram import ClientExchange, tls_server_end_point
from proxy.wire import build, framing, upstream


class Raw:
    """One blocking connection with a deadline on every read, which speaks protocol 3.`minor`."""

    def __init__(self, port: int, timeout: float = 5.0, *, minor: int = 0) -> None:
        self.sock: Any = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.binding: bytes | None = None
        self.minor = minor
        self.pid, self.secret = 0, b""

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, *data: bytes) -> None:
        self.sock.sendall(b"".join(data))

    def exactly(self, count: int) -> bytes:
        """`count` bytes, fewer when the peer closes first."""
        data = b""
        while len(data) < count:
            try:
                piece = self.sock.recv(count - len(data))
            except ConnectionResetError:
                break
            if not piece:
                break
            data += piece
        return data

    def message(self) -> tuple[str, bytes]:
        """The next message; ("", b"") at the end."""
        head = self.exactly(5)
        if len(head) < 5:
            return "", b""
        kind, length = framing.TYPE_AND_LENGTH(head, 0)
        return chr(kind), self.exactly(length - 4)

    def until(self, *letters: str) -> list[tuple[str, bytes]]:
        """Messages up to one of these, it included, or to the end."""
        found = []
        while True:
            found.append(self.message())
            if found[-1][0] in letters or not found[-1][0]:
                return found

    def rest(self) -> bytes:
        """Everything until the peer closes."""
        data = b""
        while piece := self.exactly(65_536):
            data += piece
        return data

    def ask_tls(self) -> bytes:
        """SSLRequest; returns the answer."""
        self.send(build.SSL_REQUEST_PACKET)
        return self.exactly(1)

    def tls(self, **settings: Any) -> None:
        """The handshake, on the connection as it is."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if "alpn" in settings:
            context.set_alpn_protocols(settings["alpn"])
        if settings.get("certificate"):
            context.load_cert_chain(*settings["certificate"])
        self.sock = context.wrap_socket(self.sock)
        self.binding = tls_server_end_point(self.sock.getpeercert(binary_form=True))

    def start(self, user: str, database: str = "shop", **more: str) -> None:
        """StartupMessage."""
        self.send(build.startup({"user": user, "database": database, **more}, self.minor))

    def prove(self, token: str) -> list[tuple[str, bytes]]:
        """SCRAM; returns the messages of the server up to ReadyForQuery or its last word."""
        kind, body = self.message()
        found = [(kind, body)]
        if kind != "R":
            return found
        _, data = upstream.authentication(body)
        exchange = ClientExchange(
            token, nonce=b"0123456789abcdefgh", binding=self.binding, offered=upstream.mechanisms(data)
        )
        self.send(build.sasl_initial(exchange.mechanism, exchange.first()))
        found.append(self.message())
        _, data = upstream.authentication(found[-1][1])
        self.send(build.sasl_response(exchange.final(data)))
        return found + self.until("Z", "E")

    def login(self, login: tuple[str, str], **more: str) -> Raw:
        """The whole way to ReadyForQuery, on the connection as it is."""
        self.start(login[0], **more)
        found = self.prove(login[1])
        assert found[-1][0] == "Z", upstream.report(found[-1][1])
        self.pid, self.secret = next(upstream.key(body) for kind, body in found if kind == "K")
        return self


def fatal(messages: list[tuple[str, bytes]]) -> tuple[str, str]:
    """(SQLSTATE, text) of the ErrorResponse at the end."""
    kind, body = messages[-1]
    assert kind == "E", messages
    found = upstream.report(body)
    return found.sqlstate, found.text
