"""One open session: the gate and the results together, and the one way in which it ends.

Bytes come in through `client_data` and `upstream_data`, go out through the two pipes. Whatever ends the session
(a peer that leaves or breaks the protocol, a deadline, a broken recording, a bug) comes through `end`, once.
Invariant: after `end` nothing is forwarded in either direction, what the client is told comes after a whole message,
and the recording is closed with the true reason.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from proxy.policy.judge import Judges
from proxy.session.channel import Pipe
from proxy.session.gate import Bounds, Gate
from proxy.session.refusals import Refusal, refusal
from proxy.session.results import Results
from proxy.session.talk import Aids, Record, Talk, Tally, for_answers, for_record
from proxy.tasks import spawn
from proxy.wire import build, framing
from proxy.wire.framing import ProtocolViolation
from recorder import events
from recorder.journal import RecordError

log = structlog.get_logger()

LEDGER_FULL: Final = 50_000
"""Replies owed at which daypass stops reading from the client."""
LEDGER_LOW: Final = 10_000
PATIENT: Final = 1 << 16
"""Bytes that are read from a client while it waits for another person's yes."""


class Relay:
    """An open session. `on_end` is called once, with whether the upstream still works on something."""

    def __init__(
        self,
        *,
        client: Pipe,
        upstream: Pipe,
        judge: Judges,
        recording: Record,
        monotonic: Callable[[], float],
        tally: Tally,
        bounds: Bounds,
        on_end: Callable[[bool], None],
        observe: bool = False,
        aids: Aids | None = None,
        cancel: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self._client = client
        self._upstream = upstream
        self._on_end = on_end
        self._full = self._client_blocked = self._upstream_blocked = False
        self._cancelling = 0
        """Cancels that are on their way."""
        self._stalled = False
        """Whether the client's lane waits for the upstream's answers."""
        self._cancel = cancel
        self.ended = False
        self.reason = ""
        self.talk = Talk(
            judge=judge,
            recording=recording,
            monotonic=monotonic,
            tally=tally,
            end=self.end,
            observe=observe,
            aids=aids,
        )
        self.talk.stop = self._stop
        self.talk.recorded = self._recorded
        self._results = Results(self.talk, to_client=client.write)
        self._gate = Gate(self.talk, forward=upstream.write, reply=self._results.tell, bounds=bounds, pause=self._wait)

    @property
    def busy(self) -> bool:
        """Whether the upstream owes replies."""
        return bool(self.talk.ledger.entries)

    # Bytes

    def client_data(self, data: bytes) -> None:
        """The client sent bytes."""
        self._client_lane(data)

    def _client_lane(self, data: bytes | None) -> None:
        """Bytes for the gate, or None: what it waited for is here."""
        if self.ended:
            return
        try:
            if data is None:
                self._gate.resume()
            else:
                self._gate.data(data)
        except ProtocolViolation as violation:
            self.end(refusal("protocol", text=violation.text), violation.text)
        except RecordError as broken:
            self.end(refusal("recording"), str(broken))
        except Exception:
            log.exception("session_bug", session=self.talk.recording.id)
            self.end(refusal("bug"), "internal error in the client lane")
        else:
            if len(self.talk.ledger.entries) > LEDGER_FULL and not self._full:
                self._full = True
                self._pace()
            elif self.talk.waits:
                self._pace()

    def upstream_data(self, data: bytes) -> None:
        """The upstream sent bytes."""
        if self.ended:
            return
        try:
            self._results.data(data)
        except ProtocolViolation as violation:
            self.end(refusal("upstream broken"), violation.text)
        except RecordError as broken:
            self.end(refusal("recording"), str(broken))
        except Exception:
            log.exception("session_bug", session=self.talk.recording.id)
            self.end(refusal("bug"), "internal error in the upstream lane")
        else:
            if self._full and len(self.talk.ledger.entries) < LEDGER_LOW:
                self._full = False
                self._pace()
            if self._stalled and not self.talk.ledger.ready_owed:
                self._stalled = False
                self._client_lane(None)
                self._pace()

    # Flow control: the slower peer sets the pace, and what daypass keeps is bounded

    def client_blocked(self, blocked: bool) -> None:
        """The client takes no more for now, or again. It is not read either: refusals would pile up for it."""
        self._client_blocked = blocked
        self._pace()

    def upstream_blocked(self, blocked: bool) -> None:
        """The upstream takes no more for now, or again."""
        self._upstream_blocked = blocked
        self._pace()

    def _pace(self) -> None:
        self._upstream.hold(self._client_blocked)
        # Whoever waits for another person's yes is still read, so that daypass sees it leave.
        patient = self.talk.waits and self._gate.kept < PATIENT
        waits = (self._gate.paused and not patient) or self._cancelling > 0
        self._client.hold(self._client_blocked or self._upstream_blocked or self._full or waits)

    def _wait(self, work: Callable[[], Awaitable[None]]) -> None:
        """The client's lane waits for `work`; nothing more is read from the client until then."""
        if work is for_answers or work is for_record:
            self._stalled = work is for_answers
            self._pace()
            return

        async def wait() -> None:
            try:
                await work()
            except Exception:
                log.exception("session_bug", session=self.talk.recording.id)
                self.end(refusal("bug"), "internal error while the client's lane waited")
                return
            self._client_lane(None)
            self._pace()

        self._pace()
        spawn(wait(), name=f"wait {self.talk.recording.id}")

    def _recorded(self) -> None:
        """What the gate committed is on the disk, or will never be."""
        self._client_lane(None)
        self._pace()

    def _stop(self) -> None:
        """Cancel what the upstream is doing. A cancel that comes late must not hit the next statement."""
        if self._cancel is None:
            return

        def done() -> None:
            self._cancelling -= 1
            self._pace()

        self._cancelling += 1
        self._pace()
        self._cancel(done)

    # Ends of connections

    def client_lost(self) -> None:
        """The client's connection is gone."""
        if self._gate.terminated and self.busy:
            # It said goodbye with work still running; Postgres finishes that too, and closes after it.
            self.client_blocked(False)  # who is gone takes everything, and nothing else would ever say so
            return
        self.end(None, "" if self._gate.terminated else "the connection was lost")

    def upstream_lost(self) -> None:
        """The upstream's connection is gone."""
        said = self._results.fatal
        if said is not None:
            self.end(None, f"{said.sqlstate}: {said.text}", reason="upstream")
        elif self._gate.terminated:
            self.end(None, "")
        else:
            self.end(refusal("upstream lost"), "the upstream closed the connection without a word")

    # Messages of daypass's own

    def notice(self, text: str, *, code: str = "00000", hint: str = "") -> bool:
        """Tell the client something, if a message can be put in right now; whether it could."""
        if self.ended or not self._results.between:
            return False
        self._client.write(build.notice(text=text, code=code, hint=hint))
        self._note("NOTICE", code, text)
        return True

    def greeting(self, text: str) -> bytes:
        """The notice with which the client is greeted, on record."""
        self._note("NOTICE", "00000", text)
        return build.notice(text=text)

    def at_login(self, messages: bytes) -> None:
        """Record the notices among what the server sent before the session began, all of which the client gets."""
        for kind, start, stop in framing.spans(messages):
            if kind == framing.NOTICE:
                self.talk.note(self.talk.told(messages[start:stop]))

    def rejudge(self, judge: Judges) -> None:
        """From the next message on another judge decides; what was prepared is judged again before it runs."""
        self.talk.judge = judge
        self.talk.observe = judge.policy.mode == "observe"
        self.talk.meter.apply(judge.limits)

    # The end

    def end(self, no: Refusal | None, detail: str, *, reason: str = "") -> None:
        """End the session: tell the client, let go of the upstream, close the recording. Only the first call counts."""
        if self.ended:
            return
        self.ended = True
        self.reason = reason or (no.reason if no is not None else "client")
        busy = self.busy
        sqlstate = no.sqlstate if no is not None else "08006"
        try:
            for entry in self.talk.ledger.entries:
                self.talk.fail(entry, sqlstate)
            if no is not None:
                self._note(no.severity, no.sqlstate, no.text)
        except RecordError as broken:
            log.error("record_failed", session=self.talk.recording.id, reason=str(broken))
        if no is not None and self._results.between:
            self._client.write(no.message)
        self._client.close()
        if not busy and not self._gate.within:
            # Inside of a message it could be the missing end, and what is not recorded would run.
            self._upstream.write(build.TERMINATE)
        self._upstream.close()
        try:
            self.talk.recording.close(
                events.SessionEnd(
                    reason=self.reason,
                    detail=detail or None,
                    statements=self.talk.n,
                    refused=self.talk.refused,
                    rows=self.talk.rows,
                    bytes=self.talk.octets,
                )
            )
        except RecordError as broken:
            log.error("record_failed", session=self.talk.recording.id, reason=str(broken))
        self._on_end(busy)

    def _note(self, severity: str, sqlstate: str, text: str) -> None:
        self.talk.recording.append(events.Notice(severity=severity, sqlstate=sqlstate, text=text))
