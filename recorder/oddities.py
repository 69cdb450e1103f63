"""What is unusual in sessions: the few things that a reviewer should look at first, said in one line each.

Facts only, in a fixed order; whether one is bad is for people. Must not read files. Invariant: a line holds names,
numbers and times, never a statement's text or a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec

from recorder.events import Outcome, SessionEnd, SessionStart
from recorder.index import Session

MANY_REFUSALS: Final = 10
"""Refusals in one session from which somebody may be trying doors."""
MANY_ROWS: Final = 100_000
"""Rows of one result from which it is more than a look."""
LONG_MS: Final = 60_000.0
ORDERLY: Final = frozenset({"client", "idle", "shutdown", "expired"})
"""Ends that happen every day."""
GRAVEST: Final = (
    "damaged",
    "encrypted",
    "expired",
    "interrupted",
    "refusals",
    "logins",
    "addresses",
    "plaintext",
    "ended",
    "rows",
    "slow",
)
"""The kinds, those that should be looked at first in front."""


class Odd(msgspec.Struct, frozen=True):
    """One unusual thing. `kind` is a short fixed word, `text` says it; `session` and `at` where there is one."""

    kind: str
    text: str
    session: str | None = None
    at: datetime | None = None


class Watch:
    """Follows one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._found: list[Odd] = []
        self._refused: dict[str, int] = {}
        self._refused_at: datetime | None = None
        self._most: tuple[int, datetime] | None = None
        self._longest: tuple[float, datetime] | None = None
        if session.state == "interrupted":
            self._note("interrupted", "the recording was interrupted: its writer died", session.ended_at)
        elif session.state == "damaged":
            self._note("damaged", "the recording is gone or its start cannot be read; run verify", None)
        elif session.state == "expired":
            self._note("expired", "the recording was deleted when its time was over: it is not counted", None)

    def start(self, start: SessionStart) -> None:
        if start.tls is None:
            self._note("plaintext", f"the session had no TLS (from {start.client_address})", self._session.started_at)

    def refused(self, rule: str, at: datetime) -> None:
        self._refused[rule] = self._refused.get(rule, 0) + 1
        self._refused_at = self._refused_at or at

    def outcome(self, outcome: Outcome, at: datetime) -> None:
        if outcome.rows >= MANY_ROWS and (self._most is None or outcome.rows > self._most[0]):
            self._most = (outcome.rows, at)
        if outcome.ms >= LONG_MS and (self._longest is None or outcome.ms > self._longest[0]):
            self._longest = (outcome.ms, at)

    def end(self, end: SessionEnd, at: datetime) -> None:
        if end.reason not in ORDERLY:
            self._note("ended", f"the session was ended: {end.reason}", at)

    def unreadable(self, cause: str) -> None:
        if self._session.state not in ("damaged", "expired"):
            self._note("damaged", f"the recording cannot be read: {cause}", None)

    def encrypted(self) -> None:
        said = (
            "the recording is encrypted and was not read: its statements and rows are counted, tables and rules are not"
        )
        self._note("encrypted", said, None)

    def found(self) -> list[Odd]:
        """All of it, once the session is read."""
        count = sum(self._refused.values())
        if count >= MANY_REFUSALS:
            rules = ", ".join(f"{rule} {n}" for rule, n in sorted(self._refused.items(), key=lambda item: -item[1]))
            self._note("refusals", f"{count} statements were refused in one session ({rules})", self._refused_at)
        if self._most is not None:
            self._note("rows", f"one statement gave {self._most[0]:,} rows", self._most[1])
        if self._longest is not None:
            self._note("slow", f"one statement took {self._longest[0] / 1000:,.0f} s", self._longest[1])
        return self._found

    def _note(self, kind: str, text: str, at: datetime | None) -> None:
        self._found.append(Odd(kind, text, self._session.session, at))


def of_all(addresses: Mapping[str, int], grants: Mapping[str, int], logins_refused: int) -> list[Odd]:
    """What shows only in the sums."""
    found = []
    if len(grants) == 1 and len(addresses) > 1:
        found.append(Odd("addresses", f"one grant was used from {len(addresses)} addresses"))
    if logins_refused:
        found.append(Odd("logins", f"{logins_refused} {'login was' if logins_refused == 1 else 'logins were'} refused"))
    return found
