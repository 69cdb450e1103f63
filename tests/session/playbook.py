"""Conversations without sockets: what goes in on one side, what comes out on both, in words.

    play.client(build.query(b"select 1"))
    assert play.upstream_heard() == ["Query select 1"]
    play.upstream(*replies(...))
    assert play.client_heard() == [...]

The relay, the judge, the recorder and its files are the real ones; only the sockets are missing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proxy.clock import FakeClock
from proxy.policy.judge import Judges
from proxy.session.gate import Bounds
from proxy.session.relay import Relay
from proxy.session.talk import Aids, Tally
from proxy.wire import build, client, framing, upstream
from recorder.events import SessionStart
from recorder.journal import Recorder
from tests.recorder.support import Hand


class Pipe:
    """The end of a wire: keeps what is written."""

    def __init__(self) -> None:
        self.data = b""
        self.closed = False
        self.held = False
        self.writes = 0

    def write(self, data: bytes) -> None:
        if not self.closed:
            self.data += data
            self.writes += 1

    def close(self) -> None:
        self.closed = True

    def hold(self, held: bool) -> None:
        self.held = held

    def take(self) -> bytes:
        data, self.data = self.data, b""
        return data


class Playbook:
    """One session."""

    def __init__(
        self,
        folder: Path,
        judge: Judges,
        *,
        observe: bool = False,
        bounds: Bounds | None = None,
        aids: Aids | None = None,
        hand: Hand | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.hand = hand
        """With it the record is committed in groups, and reaches the disk in `disk`."""
        self.recorder = Recorder(
            folder / "recordings",
            now=self.clock.now,
            durability="fsync" if hand else "write",
            turns=hand.turns if hand else None,
        )
        self.recording = self.recorder.open(
            "s-play",
            SessionStart(
                session="s-play", grant="g-1", person="Ana", vendor="Acme", user="g-1", database="shop",
                policy=judge.policy.name, policy_revision="r", client_address="127.0.0.1",
            ),
        )  # fmt: skip
        self.to_client, self.to_upstream = Pipe(), Pipe()
        self.tally = Tally()
        self.ended: list[bool] = []
        self.cancels: list[Callable[[], object]] = []
        """What to call when a cancel that daypass sent has arrived."""
        self.relay = Relay(
            client=self.to_client,
            upstream=self.to_upstream,
            judge=judge,
            recording=self.recording,
            monotonic=self.clock.monotonic,
            tally=self.tally,
            bounds=bounds or Bounds(),
            on_end=self.ended.append,
            observe=observe,
            aids=aids,
            cancel=self.cancels.append,
        )

    def client(self, *messages: bytes) -> None:
        """The client sends these in one segment."""
        self.relay.client_data(b"".join(messages))

    def upstream(self, *messages: bytes) -> None:
        """The upstream sends these in one segment."""
        self.relay.upstream_data(b"".join(messages))

    def disk(self) -> None:
        """What waits for the disk reaches it, or does not."""
        assert self.hand is not None
        self.hand.settle(self.recorder)

    def client_heard(self) -> list[str]:
        """What the client got since it was last asked, in words."""
        return [_server_word(kind, body) for kind, body in _split(self.to_client.take())]

    def upstream_heard(self) -> list[str]:
        """What the upstream got since it was last asked, in words."""
        return [_client_word(kind, body) for kind, body in _split(self.to_upstream.take())]

    def recorded(self, *events: str) -> list[dict[str, Any]]:
        """The recorded events of these kinds (all but the start when none is named), from the file."""
        self.recorder.flush_all()
        lines = [json.loads(line) for line in self.recording.path.read_text().splitlines()]
        return [line for line in lines if (line["event"] in events if events else line["event"] != "session.start")]

    def outcomes(self) -> list[tuple[int, int, str | None, str | None]]:
        """(n, rows, sqlstate, tag) of every outcome."""
        return [(o["n"], o["rows"], o["sqlstate"], o.get("tag")) for o in self.recorded("outcome")]


def _split(data: bytes) -> list[tuple[int, bytes]]:
    found = [(kind, data[start:stop]) for kind, start, stop in framing.spans(data)]
    assert sum(len(body) + 5 for _, body in found) == len(data), "half a message was passed on"
    return found


_PLAIN = {
    "1": "ParseComplete", "2": "BindComplete", "3": "CloseComplete", "n": "NoData", "I": "EmptyQuery",
    "s": "PortalSuspended", "T": "RowDescription", "D": "DataRow", "t": "ParameterDescription", "H": "CopyOut",
    "G": "CopyIn", "d": "CopyData", "c": "CopyDone", "A": "Notification", "V": "FunctionResult", "W": "CopyBoth",
}  # fmt: skip


def _server_word(kind: int, body: bytes) -> str:
    letter = chr(kind)
    if letter == "E":
        found = upstream.report(body)
        return f"{found.severity} {found.sqlstate}" + (f" at {found.position}" if found.position else "")
    if letter == "N":
        return f"Notice {upstream.report(body).text}"
    if letter == "C":
        return f"Complete {upstream.tag(body)}"
    if letter == "Z":
        return f"Ready {body.decode()}"
    if letter == "S":
        return "Parameter {}={}".format(*upstream.parameter(body))
    return _PLAIN[letter]


def _client_word(kind: int, body: bytes) -> str:
    letter = chr(kind)
    if letter == "Q":
        return f"Query {body[:-1].decode()}"
    if letter == "P":
        name, sql, _ = client.parse(body, 0, len(body))
        return f"Parse {name.decode()}|{sql.decode()}"
    if letter == "B":
        portal, statement, _, _ = client.bind(body, 0, len(body))
        return f"Bind {portal.decode()}|{statement.decode()}"
    if letter == "E":
        return f"Execute {client.execute(body, 0, len(body)).decode()}"
    if letter in "DC":
        what, name = client.target(body, 0, len(body))
        return f"{'Describe' if letter == 'D' else 'Close'} {chr(what)}|{name.decode()}"
    words = {
        "S": "Sync",
        "H": "Flush",
        "X": "Terminate",
        "d": "CopyData",
        "c": "CopyDone",
        "f": "CopyFail",
        "F": "Call",
    }
    return words[letter]


# What a server says

PARSED = build.message(b"1", b"")
BOUND = build.message(b"2", b"")
CLOSED = build.message(b"3", b"")
NO_DATA = build.message(b"n", b"")
EMPTY = build.message(b"I", b"")
SUSPENDED = build.message(b"s", b"")
COLUMNS = build.message(b"T", b"\0\0")
ROW = build.message(b"D", b"\0\1\0\0\0\x011")
IDLE, IN_BLOCK, FAILED = (build.ready(ord(status)) for status in "ITE")


def complete(tag: str) -> bytes:
    """CommandComplete."""
    return build.message(b"C", tag.encode() + b"\0")


def error(code: str = "22012", position: int | None = None, severity: str = "ERROR") -> bytes:
    """ErrorResponse."""
    return build.error(severity=severity, code=code, text="no", position=position)


def types(*oids: int) -> bytes:
    """ParameterDescription."""
    return build.message(b"t", len(oids).to_bytes(2, "big") + b"".join(oid.to_bytes(4, "big") for oid in oids))


def select(rows: int = 1) -> bytes:
    """All that answers a SELECT in the simple protocol."""
    return COLUMNS + ROW * rows + complete(f"SELECT {rows}") + IDLE
