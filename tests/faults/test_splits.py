"""Messages split at every byte, on both sides: the results are the same bytes as unsplit, and so is the record."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from proxy.policy.judge import Judge
from proxy.wire import build, framing
from proxy.wire.client import PORTAL, STATEMENT
from tests.faults.bench import Bench
from tests.faults.conftest import Figure
from tests.faults.scale import LONG
from tests.live.house import House
from tests.live.raw import Raw
from tests.session.conftest import READER

EXCHANGE = b"".join(
    [
        build.query(b"select id, name from products order by id limit 3"),
        build.query(b"delete from orders"),
        build.parse(b"s", b"select email from customers where id = $1"),
        build.describe(STATEMENT, b"s"),
        build.bind(b"", b"s", [b"7"]),
        build.describe(PORTAL),
        build.execute(b"", 1),
        build.close(STATEMENT, b"s"),
        build.SYNC,
        build.parse(b"", b"select 1/0"),
        build.bind(b"", b""),
        build.execute(),
        build.parse(b"", b"select * from hr.salaries"),
        build.SYNC,
        build.query(b"select 1/0; select 2"),
        build.query(b"copy (select id from products order by id limit 5) to stdout"),
        build.TERMINATE,
    ]
)


def facts(bench: Bench) -> list[Any]:
    """Each statement of the record with its outcome, but for a Parse or Bind that its batch does not execute."""
    found = [msgspec.to_builtins(event) for event in bench.lines.written]
    ends = {event["n"]: event for event in found if event["event"] == "outcome"}
    return [
        [
            {key: value for key, value in line.items() if key not in ("n", "ms", "first_ms")}
            for line in (event, ends[event["n"]])
        ]
        for event in found
        if event["event"] == "statement" and event.get("protocol") not in ("parse", "bind")
    ]


def split(judge: Judge, client: int, upstream: int) -> tuple[bytes, bytes, list[Any]]:
    """The exchange with each side cut once, at these bytes of its stream; (told, forwarded, recorded)."""
    bench = Bench(judge, random.Random(5), fails=0.0)
    heard: list[bytes] = []
    said = b""
    for piece in (EXCHANGE[:client], EXCHANGE[client:]):
        bench.relay.client_data(piece)
        sent = bench.upstream.take()
        heard.append(sent)
        said += bench.backend.feed(sent)
        # The rest of the answer comes only when the rest of the question has come.
        bench.relay.upstream_data(said[:upstream])
        said, upstream = said[upstream:], max(0, upstream - len(said))
    bench.relay.upstream_data(said)
    bench.relay.upstream_lost()
    # Flush is daypass's own, sent where a refusal has to wait; where it lies depends on how the bytes came.
    forwarded = b"".join(heard).replace(build.FLUSH, b"")
    return bench.client.take(), forwarded, facts(bench)


@pytest.fixture(scope="module")
def judge(make_judge: Callable[[str], Judge]) -> Judge:
    return make_judge(READER)


def test_splits_at_every_byte_change_nothing(judge: Judge, figure: Figure) -> None:
    whole = split(judge, len(EXCHANGE), 1 << 20)
    assert len(whole[0]) > 600
    points = 0
    for cut in range(len(EXCHANGE)):
        assert split(judge, cut, 1 << 20) == whole, f"the client's stream cut at {cut}"
        points += 1
    for cut in range(len(whole[0]) + 64):
        assert split(judge, len(EXCHANGE), cut) == whole, f"the upstream's stream cut at {cut}"
        points += 1
    figure(
        "messages split at every byte, no sockets", f"{points:,} split points", "the same bytes and record", "the same"
    )


def talked(house: House, login: tuple[str, str], pieces: list[bytes]) -> bytes:
    """What the client hears of the exchange sent in these pieces, each one a segment of its own."""
    with Raw(house.port, timeout=20) as raw:
        raw.login(login)
        heard: list[bytes] = []
        reader = threading.Thread(target=lambda: heard.append(raw.rest()))
        reader.start()
        for piece in pieces:
            with contextlib.suppress(OSError):
                raw.send(piece)
        reader.join()
    return heard[0]


def test_splits_on_real_sockets_change_nothing(house: House, figure: Figure) -> None:
    login = house.grant()
    whole = talked(house, login, [EXCHANGE])
    letters = [chr(kind) for kind, _, _ in framing.spans(whole)]
    assert letters.count("Z") == 6
    cuts = range(1, len(EXCHANGE)) if LONG else range(1, len(EXCHANGE), 9)
    for cut in cuts:
        assert talked(house, login, [EXCHANGE[:cut], EXCHANGE[cut:]]) == whole, cut
    assert talked(house, login, [EXCHANGE[at : at + 1] for at in range(len(EXCHANGE))]) == whole
    figure(
        "messages split on real sockets",
        f"{len(cuts)} split points, and every byte alone",
        "the same bytes",
        "the same",
    )
