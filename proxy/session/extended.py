"""The extended protocol's half of the gate: Parse, Bind, Describe, Execute, Close.

A text is judged at Parse and again before it runs when the judge has changed since. An Execute is what runs a
statement, so it is what the record shows, with the values of its Bind; a Parse or Bind that is sent before anything
executes it is recorded for itself. Invariant: what is not known under a name is never run.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from msgspec.structs import replace

from proxy.policy.judgement import RUNNING, Statement
from proxy.session.answers import Answers, held_back
from proxy.session.budget import Ended
from proxy.session.names import NAME_BYTES, Change, Portal, Prepared
from proxy.session.naming import follow, named, what_waits
from proxy.session.refusals import Refusal, refusal
from proxy.session.streaming import Streamed, not_kept, unread
from proxy.session.talk import Talk
from proxy.wire import build, client, params
from proxy.wire.framing import HEADER
from proxy.wire.framing import PARSE as PARSE_MESSAGE
from proxy.wire.ledger import BIND, CLOSE, DESCRIBE, EXECUTE, PARSE, Owed

NO_PORTAL: Final = b" "
"""The name under which a server is asked for the unnamed portal that it does not have."""
PORTAL_DESCRIBED: Final = Owed(DESCRIBE)
"""Has nothing of its own, so one entry stands for all."""


class Extended:
    """Handlers for one session; each returns None to forward its message as it is, or what goes in its place."""

    __slots__ = ("_answers", "_bound", "_longest", "_parsed", "_talk")

    def __init__(self, talk: Talk, answers: Answers, longest: int) -> None:
        self._talk = talk
        self._answers = answers
        self._longest = longest
        self._parsed: tuple[Prepared, Owed, bytes] | None = None
        self._bound: tuple[Portal, Owed, bytes] | None = None

    def record_unexecuted(self) -> None:
        """The batch ends here: record what is sent with it and not executed in it."""
        if self._parsed is not None:
            self._record_parse(*self._parsed)
        if self._bound is not None:
            self._record_bind(*self._bound)

    def parse(self, data: bytes, pos: int, stop: int) -> bytes | None:
        """Judge a statement's text."""
        talk = self._talk
        name, sql, types = client.parse(data, pos, stop)
        if len(sql) > self._longest:
            no = refusal("too long", size=len(sql), limit=self._longest)
            digest = hashlib.sha256(data[pos - HEADER : stop]).hexdigest()
            return self._answers.too_long(no, not_kept(stop - pos + HEADER, digest), extended=True)
        if self._parsed is not None:
            self._record_parse(*self._parsed)
        judgement = talk.judgement(sql, types)
        statements = judgement.statements
        if not judgement.allowed and judgement.refusal is not None:
            first = talk.n + 1
            shown = name.decode("utf-8", "surrogateescape")
            for statement in statements:
                talk.record(statement, protocol="parse", name=shown)
            return self._answers.deny(judgement.refusal, range(first, talk.n + 1), extended=True)
        names = talk.names
        if talk.observe:
            names.make_room(len(sql))
        elif not names.room(len(sql)):
            return self._answers.bad_name(refusal("too many names"), None, name, b"")
        special = None if judgement.plain else judgement
        prepared = Prepared(sql, types, statements[0] if statements else None, talk.judge, special)
        entry = Owed(PARSE, 0, talk.active, [names.put(names.statements, name, prepared)], special)
        talk.ledger.entries.append(entry)
        self._parsed = (prepared, entry, name)
        return build.parse(name, judgement.forward, types) if judgement.edits else None

    def bind(self, data: bytes, pos: int, stop: int) -> bytes | None:
        """Keep the values of a portal for the record."""
        talk = self._talk
        names = talk.names
        name, source, formats, raw = client.bind(data, pos, stop)
        if self._bound is not None:
            self._record_bind(*self._bound)
        prepared = names.statements.get(source[:NAME_BYTES])
        talk.settle(prepared)
        if prepared is None or prepared.judge is not talk.judge:
            no = self._answers.usable(prepared, source.decode("utf-8", "replace"))
            if no is not None:
                return self._answers.bad_name(no, prepared, source, name)
        if prepared is None:
            prepared = self._unknown()
        if talk.observe:
            names.make_room(stop - pos)
        elif not names.room(stop - pos):
            return self._answers.bad_name(refusal("too many names"), prepared, source, name)
        values = params.decode_all(raw, formats, prepared.types, talk.types) if raw else []
        if talk.literals is not None:
            values = talk.literals.values(values)
        portal = Portal(source.decode("utf-8", "surrogateescape"), prepared, values, stop - pos)
        if talk.shown is not None and talk.shown.rows:
            portal.formats = client.result_formats(data, pos, stop)
        change = names.put(names.portals, name, portal)
        entry = Owed(BIND, 0, talk.active, [change], prepared.judgement)
        talk.ledger.entries.append(entry)
        self._bound = (portal, entry, name)
        return None

    def streamed(self, message: Streamed) -> None:
        """A Parse or Bind has passed that is too long to be kept; nothing is refused in this session."""
        self.record_unexecuted()
        talk = self._talk
        names = talk.names
        if message.kind == PARSE_MESSAGE:
            name = message.head[0]
            text = Prepared(b"", (), unread(message.reason), talk.judge, unread=True)
            entry = Owed(PARSE, 0, talk.active, [names.put(names.statements, name, text)])
            self._parsed = (text, entry, name)
        else:
            name, statement = message.head
            prepared = names.statements.get(statement[:NAME_BYTES]) or self._unknown()
            portal = Portal(statement.decode("utf-8", "surrogateescape"), prepared, [], unread=message.reason)
            entry = Owed(BIND, 0, talk.active, [names.put(names.portals, name, portal)], prepared.judgement)
            self._bound = (portal, entry, name)
        talk.ledger.entries.append(entry)

    def _unknown(self) -> Prepared:
        """What stands for a name that daypass does not know, where the server may say what it thinks of it."""
        statement = unread("nothing is known under this name", "observe.name")
        return Prepared(b"", (), statement, self._talk.judge, unread=True)

    def execute(self, data: bytes, pos: int, stop: int) -> bytes | None:
        """Run a portal: this is the statement that the record shows."""
        talk = self._talk
        name = client.execute(data, pos, stop)
        portal = talk.names.portals.get(name[:NAME_BYTES])
        elsewhere: bytes | None = None
        if portal is None:
            if not talk.observe:
                no = refusal("no portal", name=name.decode("utf-8", "replace"))
                return self._answers.bad_name(no, None, b"", name)
            portal = Portal("", self._unknown(), None)
            # See Gate._unnamed: not even the server may look for what a Query left under the empty name.
            elsewhere = build.execute(NO_PORTAL) if not name else None
        talk.settle(portal)
        prepared = portal.prepared
        statement = prepared.statement
        if statement is not None and statement.kind in RUNNING:
            talk.settle(named(statement, talk))
        if prepared.judge is not talk.judge:
            no_longer = self._answers.usable(prepared, portal.name)
            if no_longer is not None:
                return self._answers.bad_name(no_longer, prepared, portal.name.encode("utf-8", "replace"), name)
        if prepared.judgement is not None and prepared.judgement.held and statement is not None:
            held = self._waiting(portal, statement, name)
            if held is not None:
                n = self._record_refused(portal, held_back(held, (statement,))[0], name)
                return self._answers.held(held, range(n, n + 1), extended=True)
        limited = self._limited(prepared)
        if limited is not None and statement is not None:
            refused = replace(statement, verdict="deny", rule=limited.rule, reason=limited.text)
            n = self._record_refused(portal, refused, name)
            talk.plan(n)
            return self._answers.limited(limited, range(n, n + 1), extended=True)
        if self._parsed is not None and self._parsed[0] is prepared:
            self._parsed = None
        if self._bound is not None and self._bound[0] is portal:
            self._bound = None
        portal.runs += 1
        # A portal that is executed again goes on where it was suspended, and so does an SQL cursor.
        fresh = portal.runs == 1 and portal.params is not None
        if portal.unread:
            shown = name.decode("utf-8", "surrogateescape")
            n = talk.record(portal.shown, protocol="extended", name=portal.name, portal=shown)
        else:
            n = talk.record_run(prepared, portal.params if fresh else None, portal.name, name, fresh=fresh)
        talk.plan(n)
        made: list[Change] | None = None
        if fresh and statement is not None and prepared.about_names:
            no_name, made = follow(statement, talk, self._answers)
            if no_name is not None:
                portal.runs -= 1
                talk.denied(n, no_name.sqlstate, "name")
                return self._answers.answer(no_name, extended=True)
        entry = Owed(EXECUTE, n, talk.active, made, prepared.judgement)
        entry.portal = portal
        talk.ledger.entries.append(entry)
        if talk.shown is not None and talk.shown.rows:
            talk.shown.runs[n] = portal
        return elsewhere

    def _waiting(self, portal: Portal, statement: Statement, name: bytes) -> Refusal | None:
        """What a run from the start waits for: another person's yes; or why it did not come."""
        waits: Statement | None = None
        if portal.runs == 0 and portal.params is not None:
            waits = statement if portal.prepared.inner else what_waits(statement, self._talk)
        return None if waits is None else self._talk.approval(b"\0" + name, waits, portal.params)

    def _record_refused(self, portal: Portal, statement: Statement, name: bytes) -> int:
        return self._talk.record(
            statement,
            protocol="extended",
            params=portal.params,
            name=portal.name,
            portal=name.decode("utf-8", "surrogateescape"),
        )

    def _limited(self, prepared: Prepared) -> Ended | None:
        """The limit that does not let a prepared statement run now."""
        talk = self._talk
        talk.asked = None
        if talk.meter.unlimited or prepared.statement is None:
            return None
        return talk.limited(talk.judgement(prepared.sql, prepared.types), prepared.types)

    def describe(self, data: bytes, pos: int, stop: int) -> bytes | None:
        """Note which statement's parameter types the answer will tell; the record of later values needs them."""
        what, name = client.target(data, pos, stop)
        talk = self._talk
        prepared = talk.names.statements.get(name[:NAME_BYTES]) if what == client.STATEMENT else None
        if talk.shown is not None and talk.shown.rows and what == client.PORTAL:
            portal = talk.names.portals.get(name[:NAME_BYTES])
            prepared = portal.prepared if portal is not None else None
        talk.ledger.entries.append(PORTAL_DESCRIBED if prepared is None else Owed(DESCRIBE, undo=prepared))
        if what == client.PORTAL and not name and name not in talk.names.portals:
            return build.describe(client.PORTAL, NO_PORTAL)  # as for an Execute of it
        return None

    def close(self, data: bytes, pos: int, stop: int) -> bytes | None:
        """Forget a name."""
        what, name = client.target(data, pos, stop)
        names = self._talk.names
        kept: dict[bytes, Any] = names.statements if what == client.STATEMENT else names.portals
        self._talk.ledger.entries.append(Owed(CLOSE, undo=[names.put(kept, name, None)]))
        return None

    def _record_parse(self, prepared: Prepared, entry: Owed, name: bytes) -> None:
        self._parsed = None
        entry.n = self._talk.record(
            prepared.statement,
            protocol="parse",
            sql=prepared.shown,
            name=name.decode("utf-8", "surrogateescape"),
        )

    def _record_bind(self, portal: Portal, entry: Owed, name: bytes) -> None:
        """Planning may already compute with the values of a Bind."""
        self._bound = None
        entry.n = self._talk.record(
            portal.shown,
            protocol="bind",
            sql=portal.prepared.shown,
            params=None if portal.unread else portal.params,
            name=portal.name,
            portal=name.decode("utf-8", "surrogateescape"),
        )
