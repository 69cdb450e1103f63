"""What backup tools print about their last backup: pgBackRest's `info --output=json`, WAL-G's `backup-list --json`.

Pure: bytes in, the newest good backup out. What they print is not trusted to have its usual form.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


class NoBackupError(Exception):
    """There is no good backup; the text says why."""


@dataclass(frozen=True, slots=True)
class Backup:
    """The newest good one."""

    label: str
    kind: str
    at: datetime


def of_pgbackrest(out: bytes, stanza: str | None) -> Backup:
    """The newest backup of a stanza, or of the only one there is. Raises NoBackupError."""
    stanzas = [entry for entry in _parsed(out) if isinstance(entry, dict)]
    names = [str(entry.get("name")) for entry in stanzas]
    if stanza is not None:
        stanzas = [entry for entry in stanzas if entry.get("name") == stanza]
    if not stanzas:
        there = f"there are: {', '.join(names)}" if names else "there is none"
        raise NoBackupError(f"pgbackrest knows no stanza {stanza}; {there}" if stanza else "pgbackrest knows no stanza")
    if len(stanzas) > 1:
        raise NoBackupError(f"pgbackrest has several stanzas ({', '.join(names)}): name one with `stanza`")
    status = stanzas[0].get("status")
    if not isinstance(status, dict) or status.get("code") != 0:
        said = status.get("message") if isinstance(status, dict) else None
        raise NoBackupError(f"pgbackrest says of stanza {stanzas[0].get('name')}: {said or 'nothing'}")
    found = []
    for entry in _list(stanzas[0].get("backup")):
        stop = entry.get("timestamp", {}).get("stop") if isinstance(entry.get("timestamp"), dict) else None
        if isinstance(stop, int) and entry.get("error") is not True:
            found.append(Backup(str(entry.get("label")), str(entry.get("type")), datetime.fromtimestamp(stop, UTC)))
    return _newest(found, "pgbackrest")


def of_walg(out: bytes) -> Backup:
    """The newest backup in WAL-G's list. Raises NoBackupError."""
    found = []
    for entry in _parsed(out):
        said = entry.get("finish_time") or entry.get("time") if isinstance(entry, dict) else None
        try:
            at = datetime.fromisoformat(str(said))
        except ValueError:
            continue
        if at.tzinfo is not None and at.year > 1:  # Go's zero time: it is not known
            name = str(entry.get("backup_name"))
            found.append(Backup(name, "delta" if "_D_" in name else "full", at.astimezone(UTC)))
    return _newest(found, "wal-g")


def _newest(found: list[Backup], tool: str) -> Backup:
    if not found:
        raise NoBackupError(f"{tool} lists no good backup")
    return max(found, key=lambda backup: backup.at)


def parsed(out: bytes) -> Any:
    """The JSON that a program printed; lines before it that are none are what it logs. Raises ValueError."""
    text = out.decode("utf-8", "strict").strip()
    try:
        return json.loads(text)
    except ValueError:
        lines = text.splitlines()
        start = next(
            (n for n, line in enumerate(lines) if line.startswith(("[{", "[]", "{", "[\n")) or line == "["), None
        )
        if start is None:
            raise
        return json.loads("\n".join(lines[start:]))


def _parsed(out: bytes) -> list[Any]:
    try:
        return _list(parsed(out))
    except ValueError:
        raise NoBackupError("it printed no JSON") from None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
