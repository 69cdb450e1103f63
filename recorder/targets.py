"""What a person means by ID, FILE or DIR on a command line.

Shared by `python -m recorder` and `daypass recording`. Must not print. Invariant: a name that means nothing is an
error that says what would have been understood; it never silently means "everything".
"""

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from recorder import files, index, nodelog, stored
from recorder.events import SessionStart
from recorder.index import NotFoundError
from recorder.stored import BrokenError, SealedError

INSTALLATION_ID = "installation"


@dataclass(frozen=True, slots=True)
class Target:
    """A recordings folder; in it these recordings (None: all), read from `copies` where they lie elsewhere."""

    directory: Path
    ids: frozenset[str] | None = None
    copies: dict[str, Path] = field(default_factory=dict)


def resolve(wanted: str | None, directory: Path | None) -> Target:
    """The recordings that `wanted` names; `directory` is the installation's folder, if one is known. NotFoundError,
    or FileNotFoundError where the folder itself is not there."""
    if wanted is None:
        if directory is None:
            raise NotFoundError("say which recordings: a folder, a file, or an id together with the folder")
        return Target(_existing(directory))
    path = Path(wanted)
    if path.is_dir():
        return _folder(path.absolute())
    if path.is_file() or _was_there(path.absolute()):
        return _file(path.absolute(), directory)
    if directory is None:
        raise NotFoundError(f"{wanted} is neither a file nor a folder, and an id needs the recordings folder")
    return _id(wanted, _existing(directory))


def recording_file(wanted: str, target: Target) -> tuple[Path, Target]:
    """The one file that `wanted`, resolved to `target`, names. NotFoundError where it names none or several."""
    if target.ids is None or len(target.ids) != 1:
        raise NotFoundError(f"{wanted} is no single recording; name one")
    (id_,) = target.ids
    if id_ in target.copies:
        return target.copies[id_], target
    if id_ == INSTALLATION_ID:
        return target.directory / files.INSTALLATION, target
    return index.find(target.directory, id_).path, target


def _existing(directory: Path) -> Path:
    if not directory.is_dir():
        raise FileNotFoundError(f"no recordings folder at {directory}")
    return directory.absolute()


def _root(path: Path) -> Path | None:
    """The recordings folder that `path` lies in: the nearest above it with a node log or a key."""
    for folder in (path, *path.parents):
        if (folder / files.NODE).exists() or (folder / "keys" / "public.pem").exists():
            return folder
    return None


def _folder(path: Path) -> Target:
    root = _root(path)
    if root is None or root == path:
        return Target(path)
    below = path.relative_to(root).as_posix() + "/"
    return Target(root, frozenset(stored.session_id(file) for file in _files(root) if file.startswith(below)))


def _files(root: Path) -> set[str]:
    """Every recording of a folder, on disk or named in its node log."""
    node = root / files.NODE
    named = nodelog.known_files(node) if node.exists() else set()
    return named | set(stored.session_files(root)) | {files.INSTALLATION}


def _was_there(path: Path) -> bool:
    """Whether this is the path of a recording that somebody removed."""
    root = _root(path.parent)
    return root is not None and path.relative_to(root).as_posix() in _files(root)


def _file(path: Path, directory: Path | None) -> Target:
    root = _root(path.parent)
    if root is not None:
        file = path.relative_to(root).as_posix()
        if file in (files.NODE, files.HEAD):
            return Target(root, frozenset())
        if file not in _files(root):
            raise NotFoundError(f"{path} is no recording")
        return Target(root, frozenset({stored.session_id(path)}))
    if directory is None:
        raise NotFoundError(
            f"{path} lies in no recordings folder; its seal is in the node log of the folder it came from"
        )
    try:
        with stored.reading(path) as lines:
            id_ = msgspec.json.decode(lines.readline(), type=SessionStart).session
    except (msgspec.DecodeError, UnicodeDecodeError, SealedError, BrokenError):
        id_ = stored.session_id(path)
    if id_ not in {session.session for session in index.sessions(directory)}:
        raise NotFoundError(f"{path} holds no recording that {directory} knows")
    return Target(_existing(directory), frozenset({id_}), {id_: path})


def _id(wanted: str, directory: Path) -> Target:
    if wanted == INSTALLATION_ID:
        return Target(directory, frozenset({wanted}))
    return Target(directory, frozenset({index.find(directory, wanted).session}))
