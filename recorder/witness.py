"""The newest checkpoint in a file outside of the recordings folder, such as beside the state, or in the state itself.

It tells of a folder that was put back as a whole to what it was: the file then knows more lines than the log has. And
the folder keeps how much the state has seen, which tells of a state that was put back. Must not know who compares.
Invariant: it never goes back, and never over to another history.
"""

import os
from pathlib import Path

from recorder import checkpoint, files, tree
from recorder.checkpoint import Checkpoint
from recorder.files import RecordError

CONFIRMED = ".witnessed"


class Witness:
    """Keeps `file` for the log of a folder. Called with each new checkpoint, as a `Ship`."""

    def __init__(self, file: Path, directory: Path) -> None:
        self._file = file
        self._log = directory / files.NODE
        self._fits = False

    def __call__(self, note: bytes) -> None:
        """OSError when it cannot be kept; RecordError where the log is not the one that the file has seen. The file
        then stays as it is, and verify goes on saying so."""
        if not self._fits:  # once: from there on the tree only grows
            old = self._old()
            if old is not None and not fits(self._log, old):
                raise RecordError(
                    f"the node log is not the one that {self._file} has seen ({old.size} lines): it was put back, or "
                    f"written anew; `recording verify` says more. Remove that file only if you know why"
                )
            self._fits = True
        new = self._file.with_name(f"{self._file.name}.new")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(fd, "wb") as file:
            file.write(note)
            file.flush()
            os.fsync(file.fileno())
        files.give(new)
        new.replace(self._file)

    def _old(self) -> Checkpoint | None:
        try:
            return checkpoint.parse(self._file.read_bytes())
        except FileNotFoundError:
            return None


def fits(log: Path, old: Checkpoint) -> bool:
    """Whether the log of now is the one that `old` was made of, grown or not. OSError."""
    frontier = tree.Frontier()
    with log.open("rb") as lines:
        for raw in lines:
            if frontier.size == old.size or not raw.endswith(b"\n"):
                break
            frontier.add(tree.leaf(raw[:-1]))
    return frontier.size == old.size and frontier.root() == old.root


def confirmed(directory: Path) -> int:
    """The lines of the log that the state surely has a checkpoint of; 0 where none is known. OSError."""
    try:
        text = (directory / CONFIRMED).read_text("ascii")
    except FileNotFoundError:
        return 0
    return int(text) if text.strip().isdigit() else 0


def confirm(directory: Path, size: int) -> None:
    """The state has a checkpoint of so many lines. OSError."""
    file = directory / CONFIRMED
    new = file.with_name(f"{CONFIRMED}.new")
    new.write_text(f"{size}\n", "ascii")
    new.chmod(0o600)
    files.give(new)
    new.replace(file)
