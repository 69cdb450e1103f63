"""A psql script: what was asked, in order, to be run again against a test copy.

Only what Postgres took is run; what was refused, failed, or has no outcome stands in comments. psql cuts text as the
server does, but takes `:name` for a variable of its own and a backslash for a command: a text with these is handed to
the server as a value (`\\gexec`). Invariant: nothing that a client sent gets out of a comment, no value out of its
literal, and nothing of either is an order to psql.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TextIO

from recorder import timeline
from recorder.events import SessionStart
from recorder.exchanges import Exchange, exchanges
from recorder.scene import clock, visible
from recorder.stored import Identity

_LINE_ENDS: Final = re.compile(r"\r\n|\r|\n")
_PREPARABLE: Final = re.compile(r"\s*(?:select|with|values|insert|update|delete|merge|table)\b", re.IGNORECASE)
_ENDS: Final = re.compile(r"\s*(?:commit|end)\b", re.IGNORECASE)
_COPY_IN: Final = re.compile(r"\bfrom(?:\s|/\*.*?\*/|--[^\n]*\n)*(?:stdin|stdout)\b", re.IGNORECASE | re.DOTALL)
_PARAMETER: Final = re.compile(r"\$\d")
# psql's variables hold what others have said: :LAST_ERROR_MESSAGE can bring a command in, which psql would then run.
_PSQL: Final = re.compile(r"\\|:(?:['\"]?[^\W\d]|\{\?)")


class _Unwritable(Exception):
    """A value that SQL text cannot hold."""


def write(path: Path, out: TextIO, keys: Sequence[Identity] = ()) -> None:
    """The script of a recording."""
    script = _Script(out)
    for one in exchanges(timeline.read(path, keys)):
        if isinstance(one, Exchange):
            script.statement(one)
        elif isinstance(one.event, SessionStart):
            script.head(one.event, one.at)


class _Script:
    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._prepared: dict[str, str] = {}
        self._names = "daypass"

    def head(self, start: SessionStart, at: datetime) -> None:
        """Whose session it was, and how to run it."""
        # A client that could tell the names would prepare something else under them.
        self._names = f"daypass_{hashlib.sha256(f'{start.session} {at.isoformat()}'.encode()).hexdigest()[:8]}"
        when = f"{at:%Y-%m-%d %H:%M:%S} UTC"
        self._say(f"session {start.session}: {start.person} ({start.vendor}) on {start.database}, {when}")
        self._say("Run it against a test copy: psql -X -f THIS postgresql://…/copy")
        if start.literals != "keep":
            self._say(f"Literals were not kept ({start.literals}): statements with constants do not run as they stand.")
        self._out.write("\n\\set ON_ERROR_STOP off\n\\timing on\n\n")

    def statement(self, one: Exchange) -> None:
        """One statement with its comment."""
        said, outcome = one.statement, one.outcome
        what = f"{said.n}  {clock(one.entry.offset)}"
        why = _why_not(one)
        if why is not None or outcome is None:
            self._say(f"{what}  {why}")
            self._in_comments(said.sql)
            return
        tag = outcome.tag or f"{outcome.rows} rows"
        self._say(f"{what}  {tag} in {outcome.ms:.1f} ms{f', masked: {said.reason}' if said.verdict == 'mask' else ''}")
        try:
            self._run(said.sql, said.params, outcome.tag)
        except _Unwritable as cause:
            self._say(f"cannot be run again: {cause}")
            self._in_comments(said.sql)

    def _run(self, sql: str, params: Sequence[Any] | None, tag: str | None) -> None:
        if tag == "ROLLBACK" and _ENDS.match(sql):
            self._say("the transaction had failed, so this rolled back:")
            self._in_comments(sql)
            self._out.write("rollback;\n\n")
        elif not params or not _PARAMETER.search(sql):
            self._out.write(f"{_ended(sql)}\n\n")
        elif not _PREPARABLE.match(sql):
            raise _Unwritable("its parameters have no place in SQL text")
        else:
            values = ", ".join(literal(value) for value in params)
            name = self._prepared.get(sql)
            if name is None:
                name = self._prepared[sql] = f"{self._names}_{len(self._prepared) + 1}"
                self._out.write(f"{_ended(f'prepare {name} as {sql}')}\n")
            self._out.write(f"execute {name}({values});\n\n")

    def _say(self, text: str) -> None:
        self._out.write(f"-- {visible(' '.join(text.split()))}\n")

    def _in_comments(self, sql: str) -> None:
        self._out.write("".join(f"--   {line}\n" for line in _LINE_ENDS.split(visible_lines(sql))) + "\n")


def _why_not(one: Exchange) -> str | None:
    """Why a statement is not run again."""
    said, outcome = one.statement, one.outcome
    if one.refused:
        return f"refused by rule {said.rule}: {said.reason}"
    if outcome is None:
        return "has no outcome: the session ended in it"
    if outcome.sqlstate is not None:
        return f"failed with {outcome.sqlstate}{f': {outcome.error}' if outcome.error else ''}"
    if not outcome.sent:
        return "was not sent"
    if not said.sql:
        return "its text was not kept"
    if (outcome.tag or "").startswith("COPY") and _COPY_IN.search(said.sql):
        return "its data was not recorded: psql would take the rest of this script for it"
    return "is a function call of the protocol" if said.protocol == "function" else None


def visible_lines(sql: str) -> str:
    """The text with its line ends as newlines, and every other control character written out."""
    return visible(_LINE_ENDS.sub("\n", sql))


def _ended(sql: str) -> str:
    """The statement with its semicolon, also where it ends in a comment; where psql would read it in its own way, as a
    value that the server gives back to be run."""
    text = sql.rstrip()
    if _PSQL.search(text.replace("::", "  ")):
        tag = "daypass"
        while f"${tag}" in text:
            tag += "_"
        return f"select ${tag}${text}${tag}$ \\gexec"
    if "--" in text.rsplit("\n", 1)[-1]:
        return f"{text}\n;"
    return text if text.endswith(";") else f"{text};"


def literal(value: Any) -> str:
    """A parameter as a literal without a type: Postgres gives it the parameter's."""
    if value is None:
        return "NULL"
    if isinstance(value, dict):
        kind, raw = value.get("type"), value.get("hex", value.get("base64"))
        raise _Unwritable(f"a value of type {kind} is recorded as bytes" if raw is not None else "a value is no text")
    text = _array(value) if isinstance(value, list) else _plain(value)
    if "\0" in text:
        raise _Unwritable("a value holds a NUL")
    quoted = text.replace("'", "''")
    # E'' means the same whatever standard_conforming_strings says.
    return "E'" + quoted.replace("\\", "\\\\") + "'" if "\\" in quoted else f"'{quoted}'"


def _plain(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _array(values: list[Any]) -> str:
    """An array's text."""
    parts = []
    for value in values:
        if value is None:
            parts.append("NULL")
        elif isinstance(value, list):
            parts.append(_array(value))
        elif isinstance(value, dict):
            raise _Unwritable("an element of an array is recorded as bytes")
        else:
            parts.append('"' + _plain(value).replace("\\", "\\\\").replace('"', '\\"') + '"')
    return "{" + ",".join(parts) + "}"
