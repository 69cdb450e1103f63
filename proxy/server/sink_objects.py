"""A sink that is a store of objects: S3, Google Cloud Storage, Azure, or a folder. Sealed recordings and checkpoints.

Knows nothing of cursors. Credentials are the machine's own (environment, instance role) and stand nowhere. Invariant:
an object is written once: what lies there with the same size is taken, with another it is an error and never replaced.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

import msgspec

from recorder.sinks.courier import NotTaken
from recorder.sinks.feed import Item
from recorder.sinks.parcels import Parcel

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEMES: Final = ("s3", "gs", "az", "file")
TOLD: Final = 300


@dataclass(frozen=True, slots=True)
class Lock:
    """What is written now may not be deleted or replaced for so long; `mode` as S3 has it."""

    mode: str
    length: timedelta
    now: Callable[[], datetime]

    def headers(self) -> dict[str, str]:
        """Of the requests that write."""
        until = (self.now() + self.length).astimezone(UTC).replace(microsecond=0, tzinfo=None)
        return {
            "x-amz-object-lock-mode": self.mode,
            "x-amz-object-lock-retain-until-date": f"{until.isoformat()}Z",
            "x-amz-sdk-checksum-algorithm": "SHA256",  # some want to be told of the checksum that comes with it
        }


class ObjectsSink:
    """Puts below `url`, in a folder of the installation's name."""

    def __init__(self, url: str, installation: str, *, timeout: float, lock: Lock | None = None) -> None:
        self._url = url
        self._installation = installation
        self._timeout = timeout
        self._lock = lock
        self._store: ObjectStore | None = None

    def take(self, items: Sequence[Item]) -> None:
        """A `courier.Take`."""
        from obstore.exceptions import BaseError  # noqa: PLC0415  (only where there is such a sink)

        try:
            store = self._opened()
            for item in items:
                self._put(store, item)
        except (BaseError, OSError, ValueError) as problem:
            raise NotTaken(_why(problem)) from None

    def _put(self, store: ObjectStore, item: Item) -> None:
        import obstore  # noqa: PLC0415

        if isinstance(item, Parcel):
            key, data, size = item.file, item.path, item.size
        else:
            note = msgspec.json.decode(item.line)["note"].encode()
            _, lines, root = item.id.split(":")
            key, data, size = f"checkpoints/{int(lines):012d}-{root}", note, len(note)
        key = f"{self._installation}/{key}"
        try:
            there = obstore.head(store, key)
        except FileNotFoundError:
            # The store signs what it is opened with, and a date changes: so it is opened for each object.
            obstore.put(store if self._lock is None else self._remote(self._lock.headers()), key, data)
            return
        if there["size"] != size:
            raise NotTaken(f"{key} is there with {there['size']} bytes, and should have {size}: it is not replaced")

    def _opened(self) -> ObjectStore:
        from obstore.store import LocalStore  # noqa: PLC0415

        if self._store is None:
            parts = urlsplit(self._url)
            if parts.scheme == "file":
                self._store = LocalStore(unquote(parts.path), mkdir=True)
            else:
                self._store = self._remote({})
        return self._store

    def _remote(self, headers: dict[str, str]) -> ObjectStore:
        """A store at the other end of a network; `headers` go with each request."""
        from obstore.store import from_url  # noqa: PLC0415

        # Object lock asks for a checksum with each object.
        more: dict[str, Any] = {"checksum_algorithm": "sha256"} if self._url.startswith("s3:") else {}
        return from_url(
            self._url,
            client_options={
                "timeout": timedelta(seconds=self._timeout),
                "allow_http": os.environ.get("AWS_ALLOW_HTTP", "").lower() == "true",
                **({"default_headers": headers} if headers else {}),
            },
            retry_config={"max_retries": 1, "retry_timeout": timedelta(seconds=self._timeout)},
            **more,
        )

    def close(self) -> None:
        """May be called twice; credentials of another day are read by the next batch."""
        self._store = None


def _why(problem: Exception) -> str:
    """What the store has said, where it has; the request alone fills the line otherwise."""
    text = str(problem)
    parts = [match[1] for tag in ("Code", "Message") if (match := re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL))]
    status = re.search(r"status code: (\d{3}[^:]*)", text)
    if status and not parts and status[1].startswith(("401", "403")):
        return (
            f"{status[1]}: these credentials may not read heads here, or not list: S3 then says so of what is not there"
        )
    said = ": ".join([*([status[1]] if status and parts else []), *parts]) or f"{type(problem).__name__}: {text}"
    return " ".join("".join(char if char.isprintable() else " " for char in said).split())[:TOLD]
