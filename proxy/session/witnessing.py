"""Record and state as witnesses of each other: each keeps how far the other was, so that none is put back unseen.

Brings together the recorder's checkpoints and what `access` keeps. Invariants: what the state has seen is never
replaced by a checkpoint of another history; each of the two is told once, and nothing waits for either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from proxy.access.alerts import Alerts
from proxy.access.store import StoreError
from proxy.access.witnesses import Witnesses
from recorder import checkpoint, files, witness
from recorder.checkpoint import Checkpoint
from recorder.files import RecordError

log = structlog.get_logger()


class Witnessing:
    """Call it after each round of the upkeep, with the checkpoint that it has made, if it has."""

    def __init__(
        self,
        witnesses: Witnesses,
        alerts: Alerts,
        directory: Path,
        place: str,
        counted: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._witnesses = witnesses
        self._alerts = alerts
        self._directory = directory
        self._place = place
        self._counted = counted
        self._owed: bytes | None = None
        self._compared = False
        self._other = False
        """The state has seen another log than this one."""

    async def __call__(self, note: bytes | None) -> None:
        """Compare once, then keep. What fails is tried again with the next call."""
        self._owed = note or self._owed
        if self._owed is None or self._other:
            return
        try:
            if not self._compared:
                await self._compare()
                self._compared = True
            new = checkpoint.parse(self._owed)
            if self._other or new is None:
                return
            await self._witnesses.keep(self._place, self._owed)
            await asyncio.to_thread(witness.confirm, self._directory, new.size)
            self._owed = None
        except (StoreError, RecordError, OSError) as problem:
            log.warning("witness_failed", reason=str(problem))

    async def _compare(self) -> None:
        kept = await self._witnesses.last(self._place)
        old = checkpoint.parse(kept) if kept is not None else None
        surely = await asyncio.to_thread(witness.confirmed, self._directory)
        if old is not None and not await asyncio.to_thread(witness.fits, self._directory / files.NODE, old):
            self._other = True
            reason = (
                f"the node log is not the one that the state has seen ({old.size} lines): put back, or written anew"
            )
            await self._alarm("record", old, reason, {"lines": old.size})
        elif (old.size if old is not None else 0) < surely:
            had = old.size if old is not None else 0
            reason = f"the state was put back: it had seen {surely} lines of the node log, and knows {had}"
            await self._alarm("state", old, reason, {"lines": surely, "knows": had})

    async def _alarm(self, kind: str, old: Checkpoint | None, reason: str, facts: dict[str, int]) -> None:
        log.error(f"{kind}_put_back", reason=reason, message="`daypass recording verify` says more")
        about = f"{self._place}:{'.'.join(str(value) for value in facts.values())}"
        about += f":{old.root.hex()[:16]}" if old is not None else ""
        if await self._alerts.once(kind, about, {"reason": reason, **facts}):
            self._counted(kind)
