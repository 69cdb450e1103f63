"""Plain recordings that a sink still owes somebody, kept past the moment when packing encrypts and removes them.

    .sinks/held/<bytes of the node log>@<id>.jsonl     another name of the plain file: no byte is copied

The machine cannot read what it has encrypted, so packing gives the plain file this name before it removes the other.
Must not know sinks beyond their cursors. Invariant: a held file goes when every cursor has passed it, and when its
recording is deleted on purpose.
"""

import contextlib
import os
from pathlib import Path

from recorder import files
from recorder.files import RecordError
from recorder.sinks import cursor

FOLDER = "held"


def keep(directory: Path, id_: str, plain: Path) -> None:
    """The recording `id_`, whose seal is in the node log, is about to lose its plain form. OSError: it must not."""
    if not any(_wants_lines(directory, name) for name in cursor.known(directory)):
        return
    folder = directory / cursor.FOLDER / FOLDER
    files.make_folder(folder)
    files.give(folder)
    seen = (directory / files.NODE).stat().st_size
    with contextlib.suppress(FileExistsError):
        os.link(plain, folder / f"{seen}@{id_}.jsonl")
    files.sync_folder(folder)


def find(directory: Path, id_: str) -> Path | None:
    """The plain lines of a recording that lies encrypted."""
    return next((directory / cursor.FOLDER / FOLDER).glob(f"*@{id_}.jsonl"), None)


def drop(directory: Path, id_: str) -> None:
    """The recording is deleted, whoever was owed it. OSError."""
    for file in (directory / cursor.FOLDER / FOLDER).glob(f"*@{id_}.jsonl"):
        file.unlink(missing_ok=True)


def release(directory: Path) -> None:
    """Let go what no sink needs any more. OSError, RecordError."""
    held = list((directory / cursor.FOLDER / FOLDER).glob("*@*.jsonl"))
    if not held:
        return
    cursors = [cursor.load(directory, name) for name in cursor.known(directory)]
    for file in held:
        seen, _, id_ = file.name.removesuffix(".jsonl").partition("@")
        if all(one.node >= int(seen) and id_ not in one.open for one in cursors):
            file.unlink(missing_ok=True)


def _wants_lines(directory: Path, name: str) -> bool:
    try:
        return cursor.load(directory, name).lines
    except RecordError:
        return True
