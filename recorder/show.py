"""What the commands print for people: a verification, a list of sessions, one session. JSON comes from the values'
`to_dict`.

Shared by `python -m recorder` and `daypass`. Must not read files. Invariant: text from recordings passes `visible`
before it is shown.
"""

from datetime import datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from recorder.index import Session
from recorder.replay import visible
from recorder.timeline import Summary
from recorder.verify import Report

_COLORS = {"sealed": "green", "open": "cyan", "interrupted": "yellow", "expired": "dim", "damaged": "bold red"}


def report(console: Console, result: Report) -> None:
    """One line for each recording that needs a look, its findings, and the sum."""
    states: dict[str, int] = {}
    for checked in result.recordings:
        states[checked.state] = states.get(checked.state, 0) + 1
        if checked.findings or len(result.recordings) <= 20:
            lines = "" if checked.lines is None else f"  {checked.lines} lines"
            if not checked.read:
                lines = "  intact (contents not read)" if not checked.findings else "  (contents not read)"
            _print(console, Text.assemble(_state(checked.state), " ", (visible(checked.id), "bold"), (lines, "dim")))
        for found in checked.findings:
            where = found.file if found.line is None else f"{found.file}:{found.line}"
            _print(console, Text(f"    {found.kind}: {visible(where)} {visible(found.detail)}", "red"))
    key = result.key
    if key.fingerprint is None:
        _print(console, Text(f"No signature was checked: no public key at {key.file}", "bold red"))
    else:
        how = "given" if key.source == "given" else "found beside the recordings"
        _print(console, Text(f"Signatures checked with key {key.fingerprint} ({how}: {key.file})", "dim"))
    if result.log.origin is not None:
        seen = result.log.checkpoints + result.log.given
        given = f", {result.log.given} of them given" if result.log.given else ""
        held = f"Node log {result.log.origin}: {result.log.lines} lines, held against {seen} checkpoints{given}"
        _print(console, Text(held, "dim"))
    counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "no recordings"
    unread = sum(not checked.read for checked in result.recordings)
    counted += f"; the contents of {unread} were not read (--identity FILE)" if unread else ""
    verdict = Text("intact", "bold green") if result.ok else Text("NOT INTACT", "bold red")
    _print(console, Text.assemble(verdict, f": {counted}"))


def sessions(console: Console, listed: list[Session]) -> None:
    """`session list` for people."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("SESSION", "PERSON", "DATABASE", "GRANT", "STARTED", "LASTED", "STATE"):
        table.add_column(name, no_wrap=name in ("SESSION", "STARTED", "STATE"))
    for name in ("STATEMENTS", "REFUSED"):
        table.add_column(name, justify="right")
    for session in listed:
        table.add_row(
            *(
                Text(visible(text or "-"))
                for text in (session.session, session.person, session.database, session.grant)
            ),
            _time(session.started_at),
            _lasted(session.started_at, session.ended_at),
            _state(session.state),
            _number(session.statements),
            _number(session.refused),
        )
    if not console.is_terminal:  # a pipe has no width: one line for each session
        console.width = console.measure(table, options=console.options.update(max_width=10_000)).maximum
    console.print(table, soft_wrap=False)


def session(console: Console, one: Session, total: Summary) -> None:
    """`session show` on a terminal."""
    start = total.start
    rows = [
        ("session", one.session),
        ("state", one.state),
        ("person", f"{one.person or '-'} ({one.vendor or '-'})"),
        ("grant", one.grant or "-"),
        ("database", one.database or "-"),
        ("policy", f"{one.policy or '-'} {start.policy_revision[:12] if start else ''}".rstrip()),
        ("client", f"{one.application_name or 'unnamed'} from {one.client_address or '-'}"),
        ("tls", (start.tls if start else None) or "none"),
        ("started", _time(one.started_at)),
        ("ended", f"{_time(one.ended_at)} {one.end or ''}".rstrip()),
        ("statements", f"{total.statements} ({total.refused} refused, {total.failed} failed)"),
        ("rows", f"{total.rows:,} ({total.bytes:,} bytes)"),
        ("recording", one.recording),
    ]
    if start is not None and start.signing:
        rows.insert(2, ("signing", ", ".join(start.signing)))
    for name, value in rows:
        shown = _state(value) if name == "state" else Text(visible(value))
        _print(console, Text.assemble((f"{name:<11}", "bold"), shown))


def _state(state: str) -> Text:
    return Text(f"{state:<11}", _COLORS.get(state, ""))


def _time(at: datetime | None) -> str:
    return "-" if at is None else f"{at:%Y-%m-%d %H:%M:%SZ}"


def _lasted(start: datetime | None, end: datetime | None) -> str:
    if start is None or end is None:
        return "-"
    seconds = max(0, round((end - start).total_seconds()))
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _number(count: int | None) -> str:
    return "-" if count is None else str(count)


def _print(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=True, highlight=False)
