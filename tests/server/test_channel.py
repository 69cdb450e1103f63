"""A channel that begins to carry: `proxy/server/channel.py`. Live tests are what covers the rest of it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from proxy.server.channel import SocketChannel


class Transport:
    """A transport as far as flow control sees it."""

    def __init__(self) -> None:
        self.reading = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        pass

    def set_protocol(self, protocol: object) -> None:
        pass

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


def test_who_is_held_by_what_it_sent_too_early_stays_held() -> None:
    """Otherwise a client that sends statements with its password is read without end while the first one waits."""
    channel, transport = SocketChannel("here"), Transport()
    channel.connection_made(cast(asyncio.Transport, transport))
    channel.data_received(b"x" * 100_000)
    assert not transport.reading
    heard: list[int] = []

    def data(chunk: bytes) -> None:
        heard.append(len(chunk))
        channel.hold(True)

    channel.carry(data, lambda: None, lambda blocked: None)
    assert heard == [100_000]
    assert not transport.reading
    channel.hold(False)
    assert transport.reading
