"""Signs that a grant is shared: sessions of one grant at one time, from two addresses or from two programs.

Each process keeps a small file for each grant that it has sessions of, beside the seats in the commons; the others
read it. It alerts and blocks nothing. Invariants: each pair is told once, in whatever processes the two are; a session
that comes like one before it costs nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from proxy.access.alerts import Alerts
from proxy.access.model import Grant
from proxy.access.store import StoreError
from proxy.session.channel import Tls
from proxy.session.commons import Commons
from proxy.tasks import spawn
from recorder import files
from recorder.files import RecordError

log = structlog.get_logger()

MOST: Final = 64
"""Peers of one grant that a process tells others of."""
_WHO: Final = frozenset({"user", "database", "application_name"})


@dataclass(frozen=True, slots=True, order=True)
class Peer:
    """Where a session came from, and with what: `client` is the program and how it speaks, without versions of TLS
    tickets or names of windows."""

    address: str
    client: str


def peer_of(address: str, startup: Mapping[str, str], tls: Tls | None) -> Peer:
    """What can be seen of a client. Programs name each of their connections (`DBeaver 24 - Main`): that is one client,
    so what stands after ` - ` does not count."""
    program = startup.get("application_name", "").split(" - ")[0].strip()[:60]
    speaks = ",".join(sorted(name for name in startup if name not in _WHO))
    secured = f"{tls.version} {tls.cipher}" if tls is not None else "no TLS"
    known = hashlib.sha256(f"{speaks}\n{secured}".encode("utf-8", "surrogateescape")).hexdigest()[:6]
    shown = "".join(c if c.isprintable() else "?" for c in program)
    return Peer(address, f"{shown or 'unnamed'} #{known}")


class Sharing:
    """The peers of the sessions of this process, and what others have."""

    def __init__(self, commons: Commons, alerts: Alerts, counted: Callable[[str], None] = lambda _: None) -> None:
        self._commons = commons
        self._alerts = alerts
        self._counted = counted
        self._here: dict[str, Counter[Peer]] = {}

    def opened(self, grant: Grant, peer: Peer) -> None:
        """A session has begun. Never raises: a sign that is not seen must not end a session."""
        here = self._here.setdefault(grant.id, Counter())
        here[peer] += 1
        if here[peer] > 1:
            return
        try:
            others = self._exchange(grant.id)
        except RecordError as broken:
            log.error("sharing_unseen", grant=grant.id, reason=str(broken))
            others = set()
        for other in sorted((set(here) | others) - {peer}):
            spawn(self._tell(grant, other, peer), name=f"alert of sharing {grant.id}")

    def closed(self, grant: Grant, peer: Peer) -> None:
        """A session has ended."""
        here = self._here.get(grant.id, Counter())
        here[peer] -= 1
        if here[peer] <= 0:
            del here[peer]
            with contextlib.suppress(RecordError):
                self._exchange(grant.id)
        if not here:
            self._here.pop(grant.id, None)

    def _exchange(self, grant: str) -> set[Peer]:
        """Say what is here, and hear what living processes have. RecordError."""
        folder, mine = self._commons.folder, self._commons.place
        here = sorted(self._here.get(grant, ()))[:MOST]
        own = folder / f"{grant}.peers.{mine}"
        found: set[Peer] = set()
        with self._commons.alone():
            try:
                if here:
                    own.touch(mode=0o600)
                    own.write_text(json.dumps([[peer.address, peer.client] for peer in here]))
                else:
                    own.unlink(missing_ok=True)
                for path in folder.glob(f"{grant}.peers.*"):
                    place = int(path.suffix[1:])
                    if place == mine:
                        continue
                    if self._commons.lives(place):
                        found |= {Peer(*pair) for pair in json.loads(path.read_text() or "[]")}
                    else:
                        path.unlink(missing_ok=True)
            except (OSError, ValueError, TypeError) as cause:
                problem = cause if isinstance(cause, OSError) else OSError(str(cause))
                raise files.record_error("use", own, problem) from cause
        return found

    async def _tell(self, grant: Grant, first: Peer, second: Peer) -> None:
        what = "address" if first.address != second.address else "client"
        pair = "\n".join(sorted(f"{peer.address} {peer.client}" for peer in (first, second)))
        detail = {
            "grant": grant.id,
            "person": grant.person,
            "what": what,
            "first": {"address": first.address, "client": first.client},
            "second": {"address": second.address, "client": second.client},
        }
        about = f"{grant.id}:{hashlib.sha256(pair.encode()).hexdigest()[:16]}"
        try:
            if await self._alerts.once("sharing", about, detail):
                self._counted("sharing")
                log.warning("grant_shared", **detail)
        except (StoreError, RecordError) as problem:
            log.error("alert_not_told", alert="sharing", reason=str(problem), **detail)
