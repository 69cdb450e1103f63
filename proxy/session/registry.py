"""The sessions of this process: who sits where, whose cancel key is whose, whose time is up.

A client gets the real process id of its backend and a secret that daypass made; the upstream's own secret never
leaves this file. One tick serves all deadlines, so a session has no timer. Knows no sockets; `commons` knows what
other processes have.
Invariant: a grant's seat is taken before its upstream is dialled and given back exactly once.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from proxy.access.model import Grant, Terms, admission, clock_time, local_time, pause
from proxy.clock import Clock
from proxy.session.budget import Spent
from proxy.session.commons import Commons
from proxy.session.refusals import Refusal, refusal
from proxy.session.relay import Relay
from recorder import events
from recorder.journal import RecordError

WARN_BEFORE: Final = (900.0, 300.0, 60.0)
"""Seconds before its grant ends or pauses at which a session is told."""
GRACE: Final = 1.0
"""Seconds beyond limits.transaction at which daypass ends what a server before 17 does not end."""
SECRET_BYTES: Final = 4
"""Length of a cancel secret in protocol 3.0."""
LONG_SECRET_BYTES: Final = 32
"""Length of a cancel secret from protocol 3.2 on, as Postgres 18 makes them."""


@dataclass(slots=True)
class Session:
    """One open session. `cancel_upstream` stops what its backend is doing; `file` is what its policy's file says."""

    id: str
    grant: Grant
    relay: Relay
    pid: int
    secret: bytes
    deadline: float
    """When the grant ends, monotonic seconds."""
    cancel_upstream: Callable[[Callable[[], object]], object]
    unhold: Callable[[], bool] = lambda: False
    """Give up a statement that waits for another person's yes; whether one did."""
    address: str = ""
    file: Terms | None = None
    pauses: float = math.inf
    """When its hours are over, monotonic seconds."""
    closes: datetime | None = None
    """The same by the wall clock."""
    warned: float = math.inf
    """The last of WARN_BEFORE that was said, or lies before the session's beginning."""
    signing: bool = False
    """Whether it has no upstream and is only for accepting agreements."""
    look_at: float = 0.0
    """When `tick` has something to do at the earliest, monotonic seconds."""

    def tick(self, now: float) -> None:
        """Look at the clock (monotonic seconds): warn, or end what is over."""
        stop = min(self.deadline, self.pauses)
        if self.deadline <= now:
            self.finish(refusal("expired", grant=self.grant.id), "the grant expired")
        elif self.pauses <= now:
            why = pause(self.grant, self.closes, self.file) if self.closes is not None else "pauses"
            self.finish(refusal("paused", grant=self.grant.id, why=why), "outside of the grant's hours")
        else:
            self._warn(stop - now)
            self._limits(now)
        limits = self.relay.talk.meter.limits
        watched = limits.idle is not None or limits.transaction is not None
        self.look_at = now if watched else stop - max((w for w in WARN_BEFORE if w < self.warned), default=0.0)

    def _warn(self, left: float) -> None:
        """Say how long it goes on, once for each of WARN_BEFORE; again in the next tick where nothing can be said."""
        due = min((w for w in WARN_BEFORE if left <= w), default=math.inf)
        if due >= self.warned:
            return
        span = f"{left / 60:.0f} minute{'s' if left >= 90 else ''}" if left > 58 else f"{left:.0f} s"
        if self.deadline <= self.pauses or self.closes is None:
            text = f"ends in {span}, at {clock_time(self.grant.ends(self.file))}"
        else:
            text = f"pauses in {span}, at {local_time(self.closes, self.grant.rules(self.file))}"
        if self.relay.notice(f"daypass: grant {self.grant.id} {text}", hint="finish what is running"):
            self.warned = due

    def _limits(self, now: float) -> None:
        talk, busy = self.relay.talk, self.relay.busy or self.relay.talk.waits
        limits = talk.meter.limits
        if limits.idle is not None and not busy and now - talk.active > limits.idle:
            self.finish(refusal("idle", seconds=limits.idle), "idle for too long")
        elif limits.transaction is not None and talk.open_for(now) > limits.transaction + GRACE:
            # From 17 on Postgres keeps this limit itself, and is first.
            self.finish(refusal("transaction", seconds=limits.transaction), "a transaction was open for too long")

    def finish(self, no: Refusal, detail: str) -> None:
        """End the session with a last word."""
        if no.reason == "policy gone":  # a login's refusal: drivers know 57P01 as the end of a session
            no = replace(no, sqlstate="57P01")
        self.relay.end(no, detail)

    def cancel(self, done: Callable[[], object] = lambda: None) -> None:
        """The client asked to cancel; only what is running now can be meant. `done` is called when nothing more will
        come of it."""
        recording = self.relay.talk.recording

        def recorded() -> None:
            if recording.broken is None and not self.relay.ended and (not self.unhold() or self.relay.busy):
                self.cancel_upstream(done)
            else:
                done()

        try:
            recording.append(events.Cancel())
            if recording.commit(recorded):
                recorded()
        except RecordError as broken:
            done()
            self.relay.end(refusal("recording"), str(broken))


@dataclass(slots=True)
class Registry:
    """All of them."""

    clock: Clock
    commons: Commons
    elsewhere: Callable[[int, bytes, Callable[[], object]], object] = lambda pid, secret, done: done()
    """Called with a cancel key that is none of ours: it may be another process's; and with what to call when it is
    done."""
    sessions: dict[str, Session] = field(default_factory=dict)
    added: int = 0
    """How many sessions there have been."""
    _look_at: float = 0.0
    """When `tick` has something to do at the earliest."""

    def add(self, session: Session) -> None:
        """A session has opened."""
        self.sessions[session.id] = session
        self.added += 1
        self._look_at = 0.0

    def follow(self, session: Session, file: Terms | None, *, opening: bool = False) -> None:
        """What the session's policy file says is `file`, or the wall clock is another: look when it ends, and whether
        it may be at all. At its `opening`, warnings that lie before it are not given."""
        now, wall, grant = self.clock.monotonic(), self.clock.now(), session.grant
        before = session.deadline, session.pauses
        session.file = file
        session.deadline = now + (grant.ends(file) - wall).total_seconds()
        session.closes = wall if grant.state(wall, file) == "paused" else grant.turns(wall, file)
        session.pauses = now + (session.closes - wall).total_seconds() if session.closes is not None else math.inf
        stop = min(session.deadline, session.pauses)
        if opening:
            session.warned = min((w for w in WARN_BEFORE if stop - now <= w), default=math.inf)
        elif abs(stop - min(before)) > 1:
            session.warned = math.inf
        session.look_at = self._look_at = 0.0
        no = admission(grant, now=wall, database=grant.database, address=session.address, file=file)
        if no is not None and no.reason == "address":
            session.finish(refusal("address", grant=grant.id), no.text)

    def look_again(self) -> None:
        """What sessions are limited to has changed."""
        self._look_at = 0.0
        for session in self:
            session.look_at = 0.0

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self.sessions.values()))

    def __len__(self) -> int:
        return len(self.sessions)

    def spent(self, grant: str, rows: int, octets: int) -> Spent:
        """What a grant has used, shared by its sessions; `rows` and `octets` are what the state says. RecordError."""
        return self.commons.spent(grant, rows, octets)

    def unsaved(self) -> dict[str, Spent]:
        """What grants have used here that the state does not know yet."""
        return self.commons.unsaved()

    def take_seat(self, grant: str, limit: int | None) -> int:
        """Take a seat for the grant; 0, or how many are taken when none is free. RecordError."""
        return self.commons.take_seat(grant, limit)

    def leave_seat(self, grant: str) -> None:
        """Give a seat back."""
        self.commons.leave_seat(grant)

    def secret(self, pid: int, length: int = SECRET_BYTES) -> bytes:
        """A new cancel secret of `length` bytes that no open session of this process with this process id has."""
        taken = {session.secret for session in self if session.pid == pid}
        while (secret := self.clock.random(length)) in taken:
            continue
        return secret

    def cancel(self, pid: int, secret: bytes, done: Callable[[], object] = lambda: None) -> None:
        """A CancelRequest came in; its session may be here or elsewhere. `done`: as `Session.cancel`."""
        if not self.cancel_here(pid, secret, done):
            self.elsewhere(pid, secret, done)

    def cancel_here(self, pid: int, secret: bytes, done: Callable[[], object] = lambda: None) -> bool:
        """Cancel what this key's session is doing; whether it is one of ours."""
        session = self.by_key(pid, secret)
        if session is not None:
            session.cancel(done)
        return session is not None

    def by_key(self, pid: int, secret: bytes) -> Session | None:
        """The session that a CancelRequest means; compared in constant time."""
        found = None
        for session in self:
            if session.pid == pid and hmac.compare_digest(session.secret, secret):
                found = session
        return found

    def tick(self) -> None:
        """Look after every deadline that may have come. An open session that nothing limits costs nothing."""
        now = self.clock.monotonic()
        if now < self._look_at:
            return
        for session in self:
            if session.look_at <= now:
                session.tick(now)
        self._look_at = min((session.look_at for session in self), default=now)

    def kill(self, id: str, *, reason: str, by: str) -> None:
        """An operator ends this session, if it is still open."""
        session = self.sessions.get(id)
        if session is not None:
            session.finish(refusal("killed", why=reason), f"ended by {by}: {reason}")

    def keep_only(self, live: dict[str, Grant], seen: set[str], over: Mapping[str, Grant] | None = None) -> None:
        """End the sessions whose grant is not in `live` any more; follow a deadline that has moved nearer.

        `seen` are the ids of the sessions that were open when `live` was asked for: it says nothing about others.
        `over`: the grants that are not in `live`, as far as they are known: who ended them, and why.
        """
        now = self.clock.monotonic()
        for session in self:
            grant = live.get(session.grant.id)
            if (grant is not None and grant.expires_at >= session.grant.expires_at) or session.id not in seen:
                continue
            if grant is None:
                ended = (over or {}).get(session.grant.id)
                if ended is not None and ended.revoked_at is not None:
                    why = f": {ended.revoke_reason}"
                    by = f"the grant was revoked by {ended.revoked_by}{why}"
                    session.finish(refusal("revoked", grant=ended.id, why=why), by)
                elif session.deadline > now + 1:
                    session.finish(refusal("revoked", grant=session.grant.id, why=""), "the grant was revoked")
                else:
                    session.finish(refusal("expired", grant=session.grant.id), "the grant expired")
            else:
                session.grant = grant
                self.follow(session, session.file)
