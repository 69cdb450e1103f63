"""How a connection may begin: every order of the four packets, cuts at every byte, keys twice, and other protocols.

Each is answered as the model in this file says, or closed; a good login beside them takes no longer than ever.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
import ssl
import time

import pytest

from proxy.wire import build
from proxy.wire.startup import GSSENC_REQUEST
from tests.faults.conftest import Figure
from tests.faults.scale import SEED
from tests.live.house import House, until
from tests.live.raw import Raw

PACKETS = {
    "ssl": build.SSL_REQUEST_PACKET,
    "gss": (8).to_bytes(4, "big") + GSSENC_REQUEST.to_bytes(4, "big"),
    "start": build.startup({"user": "nobody", "database": "shop"}),
    "cancel": build.cancel(1, b"\0\0\0\1"),
}
TLS_ALERT, TLS_HANDSHAKE = 0x15, 0x16
SASL = "R"


def expected(order: tuple[str, ...]) -> tuple[bytes, str]:
    """The one-byte answers of this order, and what follows: "tls", "challenge" or "" for the end."""
    answers = b""
    for at, packet in enumerate(order):
        if packet == "cancel":
            return answers, ""
        if packet == "start":
            return answers, "challenge"
        if packet == "gss":
            if "gss" in order[:at]:
                return answers, ""
            answers += b"N"
        else:
            return answers + b"S", "tls"
    return answers, ""


def heard(raw: Raw, data: bytes) -> bytes:
    """What comes back, until the end, for `data` and then silence."""
    with contextlib.suppress(OSError):
        raw.send(data)
        raw.sock.shutdown(socket.SHUT_WR)
    return raw.rest()


def fits(said: bytes, order: tuple[str, ...]) -> bool:
    answers, after = expected(order)
    rest = said.removeprefix(answers)
    if not said.startswith(answers):
        return False
    if after == "tls":
        # Nothing in plain text: what was sent ahead of the handshake is not read.
        return not rest or rest[0] == TLS_ALERT
    # Behind a start-up packet only a proof is listened to.
    return rest[:1] == b"R" and rest.count(b"SCRAM-SHA-256\0") == 1 if after == "challenge" else not rest


def quick_login(house: House) -> float:
    """Seconds for a challenge to come back."""
    began = time.monotonic()
    with Raw(house.port) as raw:
        raw.start("somebody")
        assert raw.message()[0] == SASL
    return time.monotonic() - began


@pytest.mark.thorough
def test_every_order_of_the_first_packets(house: House, figure: Figure) -> None:
    orders = [order for length in range(1, 5) for order in itertools.product(PACKETS, repeat=length)]
    for order in orders:
        answers, after = expected(order)
        data = b"".join(PACKETS[packet] for packet in order)
        with Raw(house.port, timeout=5) as raw:
            if after == "challenge":
                raw.send(data)
                said = raw.exactly(len(answers) + 5)
                said += heard(raw, b"")
            else:
                said = heard(raw, data)
        assert fits(said, order), (order, said)
    inside = [order for length in range(1, 3) for order in itertools.product(PACKETS, repeat=length)]
    for order in inside:
        with Raw(house.port, timeout=5) as raw:
            assert raw.ask_tls() == b"S"
            raw.tls()
            raw.send(b"".join(PACKETS[packet] for packet in order))
            letter = raw.message()[0]
            # Inside TLS there is nothing left to ask for.
            assert letter == {"ssl": "E", "gss": "E", "start": "R", "cancel": ""}[order[0]], order
    assert quick_login(house) < 1
    figure(
        "orders of SSLRequest, GSSENCRequest, start-up, cancel",
        f"{len(orders)} orders up to length 4, {len(inside)} inside TLS",
        "all answered as the model says",
        "all",
    )


def test_start_ups_cut_at_every_byte(house: House, figure: Figure) -> None:
    cuts = 0
    for name, packet in PACKETS.items():
        for cut in range(len(packet)):
            with Raw(house.port, timeout=5) as raw:
                assert heard(raw, packet[:cut]) == b"", (name, cut)
            cuts += 1
    packet = PACKETS["start"]
    for cut in range(1, len(packet)):
        with Raw(house.port, timeout=5) as raw:
            raw.send(packet[:cut])
            raw.send(packet[cut:])
            assert raw.message()[0] == SASL
        cuts += 1
    figure("start-up packets cut or split at every byte", f"{cuts} connections", "closed, or one challenge", "the same")


@pytest.mark.parametrize("key", ["user", "database", "USER", "application_name", "_pq_.x"])
def test_a_key_that_comes_twice(house: House, key: str) -> None:
    body = b"user\0a\0database\0shop\0application_name\0x\0_pq_.x\0y\0" + key.encode() + b"\0b\0\0"
    with Raw(house.port) as raw:
        said = heard(raw, (len(body) + 8).to_bytes(4, "big") + (3 << 16).to_bytes(4, "big") + body)
    assert b"08P01" in said
    assert b"twice" in said


def hello() -> bytes:
    """A true ClientHello."""
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def test_other_protocols_at_the_port(house: House, figure: Figure) -> None:
    chance = random.Random(SEED)
    true_hello = hello()
    junk = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\1\0\x08\0\3\0\0\0", b"*1\r\n$4\r\nPING\r\n", b"\0\0\0\0", b"\xff" * 4096,
        b"\0" * 4096, b"EHLO localhost\r\n", b"\x16\3\1", true_hello, true_hello[:100], true_hello + b"\0" * 200,
        true_hello[:40] + chance.randbytes(400),
    ]  # fmt: skip
    junk += [chance.randbytes(chance.randrange(1, 200)) for _ in range(60)]
    before = house.memory()
    for noise in junk:
        with Raw(house.port, timeout=8) as raw:
            said = heard(raw, noise)
            # An error in words of Postgres, a TLS alert, or nothing. A true ClientHello gets a true answer.
            answers = (ord("E"), TLS_ALERT, *([TLS_HANDSHAKE] if noise.startswith(true_hello) else []))
            assert not said or said[0] in answers, (noise[:40], said[:40])
    assert quick_login(house) < 1
    for _ in until(8, 0.1):
        if "daypass_logins_pending 0.0" in house.http("/metrics")[1]:
            break
    else:
        raise AssertionError("connections are left over")
    grown = house.memory() - before
    assert grown < 16 << 20
    assert not [line for line in house.log() if line["event"] in ("opening_bug", "task_crashed")]
    figure(
        "HTTP, SSH, TLS and noise at the port",
        f"{len(junk)} connections",
        f"all closed, 0 left, memory +{grown >> 20} MiB",
        "0 left; 16 MiB",
    )
