"""A network in the middle that can be told to fail: pass, stop, cut after a number of bytes, drip, or lie.

Stands between daypass and its server, or between a client and daypass; whoever connects, connects to `port`. Rules
hold for connections made after they were set; connections of the catalog's reader always pass, so that daypass stays
ready. One thread for each direction of each connection; closing the middle closes them all.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from types import TracebackType

from proxy.catalog import CATALOG_SETTINGS
from proxy.scram import ServerExchange, Verifier
from proxy.wire import build, framing

LINGER_NONE = struct.pack("ii", 1, 0)
"""SO_LINGER that turns close() into a RST."""
FOREVER = 1 << 62

Script = Callable[[socket.socket], None]


class Middle:
    """See the module's text. `up` and `down` count bytes passed towards the server and back."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._flowing = threading.Event()
        self._flowing.set()
        self.script: Script | None = None
        """Plays the server for new connections."""
        self.cut_up = self.cut_down = FOREVER
        """Bytes towards the server, and back, after which a new connection is cut on both sides."""
        self.reset = False
        """Whether cuts are RST instead of FIN."""
        self.drip = 0.0
        """Seconds between single bytes towards the server; 0: whole chunks."""
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Middle:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._flowing.set()
        self._server.close()
        for peer in list(self._open):
            self._drop(peer)

    def stop(self) -> None:
        """From now on nothing passes and nothing is read, and nobody is told: a black hole."""
        self._flowing.clear()

    def go(self) -> None:
        """Bytes pass again."""
        self._flowing.set()

    def calm(self) -> None:
        """Every rule back to passing."""
        self.script, self.cut_up, self.cut_down, self.reset, self.drip = None, FOREVER, FOREVER, False, 0.0
        self.go()

    # Inside

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._server.accept()
            except OSError:
                return
            self._open.add(peer)
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        with contextlib.suppress(OSError):
            script, up, down, drip, reset = self.script, self.cut_up, self.cut_down, self.drip, self.reset
            first = peer.recv(65_536)
            trusted = CATALOG_SETTINGS["application_name"].encode() in first
            if script is not None and not trusted:
                peer.settimeout(10)
                try:
                    play(script, peer, first)
                finally:
                    self._drop(peer)
                return
            if trusted:
                up = down = FOREVER
                drip = 0.0
            with socket.create_connection(("127.0.0.1", self._target)) as server:
                self._open.add(server)
                back = threading.Thread(
                    target=self._carry, args=(server, peer, down, 0.0, b"", trusted, reset), daemon=True
                )
                back.start()
                self._carry(peer, server, up, drip, first, trusted, reset)
                back.join()

    def _carry(
        self,
        source: socket.socket,
        sink: socket.socket,
        left: int,
        drip: float,
        data: bytes,
        trusted: bool,
        reset: bool,
    ) -> None:
        try:
            while True:
                if not trusted:
                    self._flowing.wait()
                data = data[:left]
                left -= len(data)
                if drip:
                    for at in range(len(data)):
                        sink.sendall(data[at : at + 1])
                        time.sleep(drip)
                else:
                    sink.sendall(data)
                if left <= 0:
                    self._drop(source, reset)
                    self._drop(sink, reset)
                    return
                # A socket that is closed while a thread sits in recv() would not be closed before it has something.
                while not select.select([source], [], [], 0.05)[0]:
                    continue
                data = source.recv(65_536)
                if not data:
                    break
        except (OSError, ValueError):
            pass
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _drop(self, peer: socket.socket, reset: bool = False) -> None:
        self._open.discard(peer)
        with contextlib.suppress(OSError):
            if reset:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
            else:
                peer.shutdown(socket.SHUT_RDWR)
        peer.close()


def play(script: Script, peer: socket.socket, first: bytes) -> None:
    """Let a script answer; a CancelRequest is not what it is about."""
    if int.from_bytes(first[4:8], "big") == 80877102:
        return
    script(peer)


# What a scripted server needs to be let in


def hear(peer: socket.socket) -> bytes:
    """The body of daypass's next message; b"" at the end."""
    head = peer.recv(framing.HEADER, socket.MSG_WAITALL)
    if len(head) < framing.HEADER:
        return b""
    return peer.recv(framing.TYPE_AND_LENGTH(head, 0)[1] - 4, socket.MSG_WAITALL)


class Login:
    """The server's half of a right login, piece by piece, for scripts that go wrong at one of them."""

    def __init__(self, password: str = "vendor-secret", iterations: int = 4096) -> None:
        verifier = Verifier.make(password, salt=b"0123456789abcdef", iterations=iterations)
        self._exchange = ServerExchange(verifier, nonce=b"n" * 18, binding=None)
        self.offer = build.sasl(["SCRAM-SHA-256"])

    def challenge(self, peer: socket.socket) -> bytes:
        """SASLContinue, for the client's first message."""
        body = hear(peer)
        nul = body.index(0)
        return build.sasl_continue(self._exchange.first(body[:nul].decode(), body[nul + 5 :]))

    def signature(self, peer: socket.socket) -> bytes:
        """SASLFinal, for the proof."""
        final = self._exchange.final(hear(peer))
        assert final is not None
        return build.sasl_final(final)

    @property
    def welcome(self) -> bytes:
        """From AuthenticationOk to ReadyForQuery."""
        settings = {"client_encoding": "UTF8", "standard_conforming_strings": "on", "server_version": "18.0"}
        told = b"".join(build.parameter_status(name, value) for name, value in settings.items())
        return build.AUTHENTICATION_OK + told + build.key_data(4711, b"\1\2\3\4") + build.ready(ord("I"))

    def run(self, peer: socket.socket) -> None:
        """All of it."""
        peer.sendall(self.offer)
        peer.sendall(self.challenge(peer))
        peer.sendall(self.signature(peer) + self.welcome)
