"""What a server lets another process do, so that no session waits for it: `python -m recorder.aside`.

One request as JSON on standard input, its answer as JSON on standard output; an error is one line on standard error and
exit code 1. Must not know what the answer is for. Invariant: one request does a bounded piece of work; `Fill` says
whether there is more.
"""

import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from recorder import search_feed, summary
from recorder.search_feed import Filled
from recorder.search_store import SearchIndexError
from recorder.summary import Summary

KINDNESS = 15
"""How far it stands behind those who serve, in the order of the system's scheduler."""


class Fill(msgspec.Struct, frozen=True, tag="fill"):
    """Bring the search index up to date, by about `most` statements. The answer is a `Filled`, or null where another
    process is at it."""

    folder: str
    most: int


class Sums(msgspec.Struct, frozen=True, tag="sums"):
    """Count what was done in a period. The answer is a `Summary`."""

    folder: str
    since: datetime
    until: datetime
    vendor: str | None = None
    databases: Sequence[str] = ()


Request = Fill | Sums
_requests = msgspec.json.Decoder(Request)


def answer(request: Request) -> Filled | Summary | None:
    """OSError, SearchIndexError."""
    if isinstance(request, Fill):
        return search_feed.update(Path(request.folder), most=request.most)
    return sums(request)


def sums(request: Sums) -> Summary:
    """OSError."""
    return summary.summarise(
        Path(request.folder),
        vendor=request.vendor,
        databases=request.databases,
        since=request.since,
        until=request.until,
    )


def main() -> int:
    """Answer one request; the exit code."""
    os.nice(KINDNESS)
    try:
        sys.stdout.buffer.write(msgspec.json.encode(answer(_requests.decode(sys.stdin.buffer.read()))))
    except (OSError, SearchIndexError, msgspec.DecodeError) as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
