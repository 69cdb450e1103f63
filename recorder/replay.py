"""Replay: a recording shown again in a terminal, in its own time, as the vendor saw it.

On a terminal in colour (NO_COLOR respected), in a pipe as a plain transcript. Must not know where recordings lie or
whether they are whole; the caller says so in `state`. Invariant: nothing that a client sent reaches the terminal as a
control character.
"""

import re
import time
from collections.abc import Callable, Iterable

from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text

from recorder.events import (
    Cancel,
    Event,
    GrantEvent,
    Login,
    Notice,
    Outcome,
    Recovered,
    SessionEnd,
    SessionStart,
    Statement,
)
from recorder.timeline import REFUSED, Entry, Other

MAX_IDLE = 2.0
"""Seconds: a longer pause is cut to this."""
_HIGHLIGHT_MOST = 20_000
# C0 and C1 controls, and marks that turn the direction of text: a statement must not play with the reader's terminal
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_TX = {"I": "", "T": "*", "E": "!"}
_INDENT = " " * 14


def visible(text: str) -> str:
    """The text with every control character written out as `\\x1b`; newline and tab stay."""
    return _CONTROL.sub(
        lambda found: f"\\x{ord(found[0]):02x}" if ord(found[0]) < 256 else f"\\u{ord(found[0]):04x}", text
    )


class Player:
    """Prints entries as they come. `sleep` waits for seconds; a test gives its own."""

    def __init__(
        self,
        console: Console,
        *,
        speed: float = 1.0,
        max_idle: float = MAX_IDLE,
        wait: bool = True,
        rewritten: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if speed <= 0 or max_idle < 0:
            raise ValueError("speed must be above 0, and max-idle not below 0")
        self._console = console
        self._speed = speed
        self._max_idle = max_idle
        self._wait = wait
        self._rewritten = rewritten
        self._sleep = sleep
        self._at = 0.0
        self._database = ""
        self._running: dict[int, Statement] = {}
        self._last: int | None = None

    def play(self, entries: Iterable[Entry], *, state: str) -> None:
        """Show them all; `state` (sealed, open, …) is shown with the head."""
        for entry in entries:
            self._pause(entry.offset)
            self._show(entry, state)

    def _pause(self, offset: float) -> None:
        gap, self._at = offset - self._at, offset
        if self._wait and gap > 0:
            self._sleep(min(gap, self._max_idle) / self._speed)

    def _show(self, entry: Entry, state: str) -> None:
        event = entry.event
        match event:
            case SessionStart():
                self._head(event, entry, state)
            case Statement():
                self._statement(event, entry)
            case Outcome():
                self._outcome(event)
            case Notice():
                style = "red" if event.severity in ("ERROR", "FATAL", "PANIC") else "cyan"
                self._below(f"{event.severity}:  {visible(event.text)}", style)
            case Cancel():
                self._line(entry, "cancel requested", "yellow")
            case SessionEnd():
                self._end(event, entry)
            case Recovered():
                torn = f", {event.bytes} torn bytes cut aside" if event.bytes else ""
                self._line(entry, f"INTERRUPTED: {visible(event.detail)}{torn}", "bold yellow")
            case Login() | GrantEvent() | Other() | Event():
                self._line(entry, _plain(event), "")

    def _head(self, start: SessionStart, entry: Entry, state: str) -> None:
        self._database = visible(start.database)
        color = {"sealed": "green", "damaged": "bold white on red"}.get(state, "yellow")
        self._print(Text.assemble(("session ", "bold"), (visible(start.session), "bold"), "  ", (state, color)))
        client = visible(start.application_name) or "unnamed client"
        for text in (
            f"{visible(start.person)} ({visible(start.vendor)}) by grant {visible(start.grant)} to {self._database}",
            f"{client} from {visible(start.client_address)}, {start.tls or 'no TLS'}",
            f"policy {visible(start.policy)} {start.policy_revision[:12]}, started {entry.at:%Y-%m-%d %H:%M:%S} UTC",
        ):
            self._print(Text(text, "dim"))
        self._print(Text(""))

    def _statement(self, statement: Statement, entry: Entry) -> None:
        self._running[statement.n] = statement
        self._last = statement.n
        refused = statement.verdict in REFUSED
        mark = f"{_TX.get(statement.tx, '?')}> "
        sql = visible(statement.sql)
        code = Text(sql, "red") if refused else self._highlight(sql)
        lines = code.split("\n", allow_blank=True)
        self._print(Text.assemble((_clock(entry.offset), "dim"), " ", (f"{self._database}={mark}", "bold"), lines[0]))
        for line in lines[1:]:
            self._print(Text.assemble(_INDENT, (f"{self._database}-{mark}", "dim"), line))
        if statement.params:
            shown = ", ".join(f"${n} = {_value(value)}" for n, value in enumerate(statement.params, 1))
            self._below(shown, "dim")
        reason = visible(statement.reason)
        if refused:
            word = "REFUSED" if statement.verdict == "deny" else "HELD"
            self._below(f"✗ {word} by rule {statement.rule}: {reason}", "bold red")
        elif statement.verdict == "mask":
            self._below(f"masked: {reason}", "yellow")
        elif statement.rule and statement.rule.startswith("observe."):
            rule = statement.rule.removeprefix("observe.")
            would = {"allow": "", "mask": "would be masked: "}.get(rule, f"would be refused by rule {rule}: ")
            if would or reason:
                self._below(would + reason, "yellow")
        if self._rewritten and statement.rewritten:
            self._below(f"ran as: {visible(statement.rewritten)}", "dim")

    def _outcome(self, outcome: Outcome) -> None:
        statement = self._running.pop(outcome.n, None)
        if statement is not None and statement.verdict in REFUSED:
            return  # its refusal is already shown
        which = "" if self._last == outcome.n else f"[{outcome.n}] "
        took = f"{outcome.ms:.1f} ms"
        if outcome.sqlstate is not None:
            self._below(f"{which}ERROR {visible(outcome.sqlstate)} · {took}", "red")
            return
        tag, rows = visible(outcome.tag or ""), _count(outcome.rows, "row")
        if not tag or tag.startswith("SELECT"):
            parts = [rows]
        else:
            parts = [tag, rows] if outcome.rows and not tag.endswith(f" {outcome.rows}") else [tag]
        if outcome.bytes:
            parts.append(f"{outcome.bytes:,} B")
        self._below(which + " · ".join([*parts, took]), "green")

    def _end(self, end: SessionEnd, entry: Entry) -> None:
        detail = f" ({visible(end.detail)})" if end.detail else ""
        self._line(entry, f"ended: {visible(end.reason)}{detail}", "bold")
        refused = f", {end.refused} refused" if end.refused else ""
        self._below(f"{_count(end.statements, 'statement')}{refused}, {_count(end.rows, 'row')}", "dim")

    def _line(self, entry: Entry, text: str, style: str) -> None:
        self._print(Text.assemble((_clock(entry.offset), "dim"), " ", (text, style)))

    def _below(self, text: str, style: str) -> None:
        for line in text.split("\n"):
            self._print(Text(_INDENT + line, style))

    def _highlight(self, sql: str) -> Text:
        if not self._console.color_system or len(sql) > _HIGHLIGHT_MOST:
            return Text(sql)
        code = Syntax("", "postgresql", theme="ansi_dark").highlight(sql)
        code.rstrip()
        return code

    def _print(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True, highlight=False)


def _clock(offset: float) -> str:
    minutes, seconds = divmod(offset, 60)
    return f"[{int(minutes) // 60}:{int(minutes) % 60:02d}:{seconds:06.3f}]"


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _value(value: object) -> str:
    return "NULL" if value is None else visible(repr(value) if isinstance(value, str) else str(value))


def _plain(event: Event | Other) -> str:
    if isinstance(event, Other):
        name, data = event.event, event.data
    else:
        name = str(event.__struct_config__.tag)
        data = {field: getattr(event, field) for field in event.__struct_fields__}
    return visible(
        name + " " + " ".join(f"{key}={value}" for key, value in data.items() if value not in (None, "", {}))
    )
