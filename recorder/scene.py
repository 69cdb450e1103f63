"""The scene: what of each event stands on the screen, as the vendor saw it, as lines of styled text.

Replay, live tail and the exports that look like a terminal all draw with this. Must not know terminals, time or files.
Invariant: nothing that a client or a server sent reaches a terminal as a control character.
"""

from __future__ import annotations

import re
from functools import lru_cache

from rich.syntax import Syntax
from rich.text import Text

from recorder.events import (
    Cancel,
    Event,
    GrantEvent,
    HoldEvent,
    Login,
    Notice,
    Notification,
    Outcome,
    Recovered,
    Rows,
    SessionEnd,
    SessionStart,
    Statement,
)
from recorder.grid import Grid
from recorder.timeline import REFUSED, Entry, Other

HIGHLIGHT_MOST = 20_000
# C0 and C1 controls, and marks that turn the direction of text: a statement must not play with the reader's terminal
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_TX = {"I": "", "T": "*", "E": "!"}
INDENT = " " * 14


def visible(text: str) -> str:
    """The text with every control character written out as `\\x1b`; newline and tab stay."""
    return _CONTROL.sub(
        lambda found: f"\\x{ord(found[0]):02x}" if ord(found[0]) < 256 else f"\\u{ord(found[0]):04x}", text
    )


class Scene:
    """Draws the entries of one recording, in order. `color`: whether SQL is highlighted."""

    def __init__(self, *, color: bool = False, rewritten: bool = False) -> None:
        self._color = color
        self._rewritten = rewritten
        self._database = ""
        self._running: dict[int, Statement] = {}
        self._grids: dict[int, Grid] = {}
        self._last: int | None = None

    def draw(self, entry: Entry, *, state: str = "") -> list[Text]:
        """The lines of one entry; `state` (sealed, open, …) is shown with the session's head."""
        event = entry.event
        match event:
            case SessionStart():
                return self._head(event, entry, state)
            case Statement():
                return self._statement(event, entry)
            case Rows():
                return self._rows(event)
            case Outcome():
                return self._outcome(event)
            case Notice():
                style = "red" if event.severity in ("ERROR", "FATAL", "PANIC") else "cyan"
                return self._below(f"{visible(event.severity)}:  {visible(event.text)}", style) + self._more(event)
            case Notification():
                said = f': "{visible(event.payload)}"' if event.payload is not None else f" ({event.bytes} bytes)"
                return [_line(entry, f"heard on {visible(event.channel)}{said}", "cyan")]
            case HoldEvent():
                return self._hold(event, entry)
            case Cancel():
                return [_line(entry, "cancel requested", "yellow")]
            case SessionEnd():
                return self._end(event, entry)
            case Recovered():
                torn = f", {event.bytes} torn bytes cut aside" if event.bytes else ""
                return [_line(entry, f"INTERRUPTED: {visible(event.detail)}{torn}", "bold yellow")]
            case Login() | GrantEvent() | Other() | Event():
                return [_line(entry, _plain(event), "")]

    def forget(self) -> None:
        """Entries are drawn from another place on: nothing is running."""
        self._running.clear()
        self._grids.clear()
        self._last = None

    def prompt(self, statement: Statement) -> str:
        """The prompt before a statement, as psql shows it."""
        return f"{self._database}={_TX.get(statement.tx, '?')}> "

    def _head(self, start: SessionStart, entry: Entry, state: str) -> list[Text]:
        self._database = visible(start.database)
        color = {"sealed": "green", "damaged": "bold white on red"}.get(state, "yellow")
        lines = [Text.assemble(("session ", "bold"), (visible(start.session), "bold"), "  ", (state, color))]
        client = visible(start.application_name) or "unnamed client"
        for text in (
            f"{visible(start.person)} ({visible(start.vendor)}) by grant {visible(start.grant)} to {self._database}",
            f"{client} from {visible(start.client_address)}, {visible(start.tls or 'no TLS')}",
            f"policy {visible(start.policy)} {visible(start.policy_revision[:12])}, "
            f"started {entry.at:%Y-%m-%d %H:%M:%S} UTC",
        ):
            lines.append(Text(text, "dim"))
        if start.signing:
            lines.append(Text(f"to sign: {visible(', '.join(start.signing))}", "yellow"))
        return [*lines, Text("")]

    def _statement(self, statement: Statement, entry: Entry) -> list[Text]:
        self._running[statement.n] = statement
        self._last = statement.n
        refused = statement.verdict in REFUSED
        mark = f"{_TX.get(statement.tx, '?')}> "
        sql = visible(statement.sql)
        code = Text(sql, "red") if refused else self._highlight(sql)
        parts = code.split("\n", allow_blank=True)
        first = Text.assemble((clock(entry.offset), "dim"), " ", (f"{self._database}={mark}", "bold"), parts[0])
        lines = [first]
        lines += [Text.assemble(INDENT, (f"{self._database}-{mark}", "dim"), part) for part in parts[1:]]
        if statement.params:
            shown = ", ".join(f"${n} = {value(param)}" for n, param in enumerate(statement.params, 1))
            lines += self._below(shown, "dim")
        lines += self._verdict(statement)
        if self._rewritten and statement.rewritten:
            lines += self._below(f"ran as: {visible(statement.rewritten)}", "dim")
        return lines

    def _verdict(self, statement: Statement) -> list[Text]:
        reason = visible(statement.reason)
        if statement.verdict in REFUSED:
            return self._below(f"✗ REFUSED by rule {visible(str(statement.rule))}: {reason}", "bold red")
        if statement.verdict == "hold":
            return self._below(f"held, and approved: {reason}", "yellow")
        if statement.verdict == "mask":
            return self._below(f"masked: {reason}", "yellow")
        if statement.rule and statement.rule.startswith("observe."):
            rule = visible(statement.rule.removeprefix("observe."))
            would = {"allow": "", "mask": "would be masked: "}.get(rule, f"would be refused by rule {rule}: ")
            if would or reason:
                return self._below(would + reason, "yellow")
        return []

    def _rows(self, rows: Rows) -> list[Text]:
        grid = self._grids.setdefault(rows.n, Grid())
        style = {"head": "bold", "rule": "dim", "note": "dim italic"}
        return [Text(INDENT + visible(text), style.get(kind, "")) for kind, text in grid.take(rows)]

    def _outcome(self, outcome: Outcome) -> list[Text]:
        grid = self._grids.pop(outcome.n, None)
        statement = self._running.pop(outcome.n, None)
        if statement is not None and statement.verdict in REFUSED:
            return []  # its refusal is already shown
        which = "" if self._last == outcome.n else f"[{outcome.n}] "
        took = f"{outcome.ms:.1f} ms"
        if outcome.sqlstate is not None:
            said = f": {visible(outcome.error)}" if outcome.error else ""
            return self._below(f"{which}ERROR {visible(outcome.sqlstate)}{said} · {took}", "red") + self._more(outcome)
        tag, rows = visible(outcome.tag or ""), count(outcome.rows, "row")
        if not outcome.counted:
            parts = [tag or "done", "not counted"]
        elif not tag or tag.startswith("SELECT"):
            parts = [rows]
        else:
            parts = [tag, rows] if outcome.rows and not tag.endswith(f" {outcome.rows}") else [tag]
        if outcome.bytes:
            parts.append(f"{outcome.bytes:,} B")
        if grid is not None and grid.rows < outcome.rows:
            parts.append(f"{grid.rows:,} of them recorded")
        return self._below(which + " · ".join([*parts, took]), "green")

    def _hold(self, hold: HoldEvent, entry: Entry) -> list[Text]:
        by = f" by {visible(hold.by)}" if hold.by else ""
        rule = f" (rule {visible(hold.rule)})" if hold.rule else ""
        reason = f": {visible(hold.reason)}" if hold.reason else ""
        style = "bold red" if hold.state in ("denied", "timeout", "unavailable") else "yellow"
        lines = [_line(entry, f"hold {visible(hold.hold)} {visible(hold.state)}{by}{rule}{reason}", style)]
        return lines + (self._below(visible(hold.sql), "yellow") if hold.sql else [])

    def _more(self, said: Notice | Outcome) -> list[Text]:
        lines = []
        for name, text in (("DETAIL", said.detail), ("HINT", said.hint)):
            if text:
                lines += self._below(f"{name}:  {visible(text)}", "dim")
        return lines

    def _end(self, end: SessionEnd, entry: Entry) -> list[Text]:
        detail = f" ({visible(end.detail)})" if end.detail else ""
        refused = f", {end.refused} refused" if end.refused else ""
        sums = f"{count(end.statements, 'statement')}{refused}, {count(end.rows, 'row')}"
        return [_line(entry, f"ended: {visible(end.reason)}{detail}", "bold"), *self._below(sums, "dim")]

    def _below(self, text: str, style: str) -> list[Text]:
        return [Text(INDENT + line, style) for line in text.split("\n")]

    def _highlight(self, sql: str) -> Text:
        return _highlighted(sql).copy() if self._color and len(sql) <= HIGHLIGHT_MOST else Text(sql)


@lru_cache(maxsize=1000)
def _highlighted(sql: str) -> Text:
    code = Syntax("", "postgresql", theme="ansi_dark").highlight(sql)
    code.rstrip()
    return code


def _line(entry: Entry, text: str, style: str) -> Text:
    return Text.assemble((clock(entry.offset), "dim"), " ", (text, style))


def clock(offset: float) -> str:
    """A place in a recording, as `[0:01:02.345]`."""
    minutes, seconds = divmod(offset, 60)
    return f"[{int(minutes) // 60}:{int(minutes) % 60:02d}:{seconds:06.3f}]"


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def value(of: object) -> str:
    """A parameter as it is shown."""
    return "NULL" if of is None else visible(repr(of) if isinstance(of, str) else str(of))


def _plain(event: Event | Other) -> str:
    if isinstance(event, Other):
        name, data = event.event, event.data
    else:
        name = str(event.__struct_config__.tag)
        data = {field: getattr(event, field) for field in event.__struct_fields__}
    return visible(
        name + " " + " ".join(f"{key}={value}" for key, value in data.items() if value not in (None, "", {}))
    )
