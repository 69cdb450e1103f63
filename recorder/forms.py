"""What the journal writes again and again, made once: a statement that runs again, the second that it is.

Only quicker ways to the bytes that `events.encode` and `chain.stamp` give; tests hold them against each other. Knows
neither files nor chains.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from recorder.events import Statement, encode, encode_values


class Form:
    """A statement's JSON with holes for its number and its values, which is all that changes when it runs again.

    `fill(n, params)` is what `encode` makes of the same event with them, in a fifth of the time.
    """

    __slots__ = ("_after", "_before")

    def __init__(self, event: Statement) -> None:
        text = encode(msgspec.structs.replace(event, n=0, params=None))
        # In JSON text a quote inside of a string is escaped, so these keys are found nowhere but in their place.
        _, _, rest = text.partition(b'"n":0,')
        before, _, after = rest.partition(b'"params":null,')
        self._before = before
        self._after = after

    def fill(self, n: int, params: list[Any] | None) -> bytes:
        """The event as one JSON object without newline."""
        values = b"null" if params is None else encode_values(params)
        return b'{"event":"statement","n":%d,%b"params":%b,%b' % (n, self._before, values, self._after)


_THREE: tuple[bytes, ...] = tuple(b"%03d" % number for number in range(1000))


class Stamps:
    """The time as a JSON string, RFC 3339 UTC, as `chain.stamp` has it. `microseconds`: since 1970, of the wall."""

    __slots__ = ("_begin", "_microseconds", "_text")

    def __init__(self, microseconds: Callable[[], int]) -> None:
        self._microseconds = microseconds
        self._begin = -1_000_000
        """When the second that `_text` is for began."""
        self._text = b""

    def now(self) -> bytes:
        """The time now."""
        at = self._microseconds()
        rest = at - self._begin
        if not 0 <= rest < 1_000_000:
            rest = at % 1_000_000
            self._begin = at - rest
            self._text = datetime.fromtimestamp(at // 1_000_000, UTC).strftime('"%Y-%m-%dT%H:%M:%S').encode()
        return self._text + b"." + _THREE[rest // 1000] + _THREE[rest % 1000] + b'Z"' if rest else self._text + b'Z"'
