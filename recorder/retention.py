"""Deleting what is old enough, keeping what is held, and saying so in the node log before it is done.

A recording's age counts from its seal. Its tombstone (`expired`) is written first and its files go afterwards: a crash
leaves a file that is on its way out and never one that is missing. Must not decide how long to keep. Invariant:
what is under a legal hold is not deleted, and nothing is deleted without a tombstone.
"""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from recorder import files, pack, stored
from recorder.entries import Expired, Hold, Opened, Release, Seal, Stored
from recorder.events import SessionStart
from recorder.nodelog import Follower, NodeLog
from recorder.sinks import held as owed
from recorder.stored import BrokenError, SealedError


class HoldError(Exception):
    """There is nothing to hold, or no such hold."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sealed recording that is old enough, and the hold that keeps it, if one does."""

    id: str
    file: str
    sealed_at: datetime
    size: int
    sha256: str
    grant: str
    hold: Hold | None


@dataclass(slots=True)
class Kept:
    """What the node log says about keeping: seals, stored forms, deletions, holds in force."""

    opened: dict[str, str] = field(default_factory=dict)
    sealed: dict[str, tuple[Seal, datetime]] = field(default_factory=dict)
    stored: dict[str, Stored] = field(default_factory=dict)
    expired: dict[str, Expired] = field(default_factory=dict)
    holds: dict[str, tuple[Hold, datetime]] = field(default_factory=dict)


def read(directory: Path) -> Kept:
    """Read the node log of a folder, unchecked. OSError."""
    kept = Kept()
    path = directory / files.NODE
    for at, entry in Follower(path).timed() if path.exists() else ():
        if isinstance(entry, Opened):
            kept.opened[entry.id] = entry.file
        elif isinstance(entry, Seal):
            kept.sealed[entry.id] = (entry, datetime.fromisoformat(at))
        elif isinstance(entry, Stored):
            kept.stored[entry.id] = entry
        elif isinstance(entry, Expired):
            kept.expired[entry.id] = entry
        elif isinstance(entry, Hold):
            kept.holds[entry.hold] = (entry, datetime.fromisoformat(at))
        elif isinstance(entry, Release):
            kept.holds.pop(entry.hold, None)
    return kept


def due(directory: Path, now: datetime, retention: float) -> list[Candidate]:
    """The recordings whose seal is `retention` seconds old, the oldest first, also those that are held. OSError."""
    kept = read(directory)
    return sorted(_due(directory, kept, now - timedelta(seconds=retention)), key=lambda one: one.sealed_at)


def _due(directory: Path, kept: Kept, before: datetime) -> Iterator[Candidate]:
    for id_, (seal, at) in kept.sealed.items():
        if at > before or id_ in kept.expired:
            continue
        entry: Stored | Seal = kept.stored.get(id_, seal)
        if not (directory / entry.file).exists():
            entry = seal
            if not (directory / seal.file).exists():
                continue  # missing: verify says so, and a tombstone would hide it
        grant = _grant(directory, entry)
        held = next((hold for hold, _ in kept.holds.values() if hold.id == id_ or hold.grant == grant != ""), None)
        yield Candidate(id_, entry.file, at, entry.bytes, entry.sha256, grant, held)


def _grant(directory: Path, entry: Stored | Seal) -> str:
    if isinstance(entry, Stored):
        return str(entry.about.get("grant", ""))
    try:
        with stored.reading(directory / entry.file) as lines:
            return msgspec.json.decode(lines.readline(), type=SessionStart).grant
    except (OSError, SealedError, BrokenError, msgspec.DecodeError, UnicodeDecodeError):
        return ""


def prune(
    directory: Path, now: Callable[[], datetime], retention: float, *, why: str, by: str
) -> tuple[list[Candidate], list[Candidate]]:
    """Delete what is due; (deleted, kept by a hold). Finishes what an earlier call left. Another process at it: nothing
    is done. OSError, RecordError."""
    with pack.alone(directory) as ours:
        if not ours:
            return [], []
        kept = read(directory)
        for tombstone in kept.expired.values():
            _remove(directory, tombstone)
        gone: list[Candidate] = []
        held: list[Candidate] = []
        for one in sorted(_due(directory, kept, now() - timedelta(seconds=retention)), key=lambda one: one.sealed_at):
            (gone if one.hold is None else held).append(one)
        if gone:
            node = NodeLog(directory, sync=True)
            try:
                for one in gone:
                    _delete(directory, node, one, now(), why, by)
            finally:
                node.close()
    return gone, held


def _delete(directory: Path, node: NodeLog, one: Candidate, at: datetime, why: str, by: str) -> None:
    tombstone = Expired(
        id=one.id,
        file=one.file,
        sha256=one.sha256,
        bytes=one.size,
        sealed_at=one.sealed_at.isoformat().replace("+00:00", "Z"),
        why=why,
        by=by,
        grant=one.grant,
    )
    node.append([(at, tombstone)])
    _remove(directory, tombstone)


def _remove(directory: Path, tombstone: Expired) -> None:
    """The recording in whatever form, and what a crash had cut aside of it."""
    path = directory / tombstone.file
    stem = stored.session_id(path)
    for suffix in (*stored.SUFFIXES, f"{stored.PLAIN}.torn"):
        path.with_name(stem + suffix).unlink(missing_ok=True)
    owed.drop(directory, tombstone.id)


def hold(directory: Path, now: Callable[[], datetime], *, id_: str = "", grant: str = "", reason: str, by: str) -> Hold:
    """Keep one recording, or all of a grant, until `release`. HoldError where it is gone; RecordError."""
    if id_ in read(directory).expired:
        raise HoldError(f"recording {id_} was deleted already")
    entry = Hold(hold=f"h-{secrets.token_hex(4)}", id=id_, grant=grant, reason=reason, by=by)
    _append(directory, entry, now)
    return entry


def release(directory: Path, now: Callable[[], datetime], name: str, *, reason: str, by: str) -> Hold:
    """End a hold. HoldError where there is none of that name; RecordError."""
    holds = read(directory).holds
    if name not in holds:
        there = f"there are {', '.join(holds)}" if holds else "there is none"
        raise HoldError(f"there is no hold {name} in force; {there}")
    _append(directory, Release(hold=name, reason=reason, by=by), now)
    return holds[name][0]


def _append(directory: Path, entry: Hold | Release, now: Callable[[], datetime]) -> None:
    # Not beside a deletion: what it decided before must not be done after.
    with pack.alone(directory, patience=5.0) as ours:
        if not ours:
            raise HoldError("another process is packing or deleting recordings here; try again in a moment")
        node = NodeLog(directory, sync=True)
        try:
            node.append([(now(), entry)])
        finally:
            node.close()
