"""`--identity`: the keys that open encrypted recordings, and what is said where none fits.

Must not read recordings. Invariant: a key file that cannot be used is a usage error, before anything is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from proxy.cli.output import NO, USAGE, fail
from recorder import stored
from recorder.stored import BrokenError, Identity, SealedError

IdentityOption = Annotated[
    list[Path] | None,
    typer.Option("--identity", metavar="FILE", help="An age identity or ssh key that opens encrypted recordings."),
]


def identities(files: list[Path] | None) -> list[Identity]:
    """The secret keys in the files of `--identity`."""
    try:
        return [key for file in files or [] for key in stored.identities(file)]
    except (OSError, ValueError) as error:
        fail(USAGE, str(error), "age-keygen -o FILE makes one; its public key goes to recording.recipients")


def unreadable(error: SealedError | BrokenError) -> tuple[int, str]:
    """Exit code and text for a recording that cannot be read."""
    return (USAGE if isinstance(error, SealedError) else NO), str(error)
