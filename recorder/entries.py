"""What the node log can say, as frozen values: one struct per kind of line.

Field names are the JSON keys, as in `events`; `docs/reference/record.md` has them all. Knows nothing of files, keys or
chains. Invariant: a key keeps its meaning for ever; a new fact gets a new key.
"""

from typing import Any

import msgspec

from recorder.events import Event


class NodeStart(Event, frozen=True, kw_only=True, omit_defaults=True, tag="node.start"):
    """A server took the folder, or the log was made. `public` is the raw Ed25519 public key, hex."""

    pid: int
    public: str


class Opened(Event, frozen=True, kw_only=True, omit_defaults=True, tag="open"):
    """A session's recording exists: its path below the folder, and its first line's hash (zeros where it had none)."""

    id: str
    file: str
    first: str


class At(msgspec.Struct, frozen=True):
    """How far recording `id` was, and the hash of that line."""

    id: str
    seq: int
    hash: str


class Checkpoint(Event, frozen=True, kw_only=True, omit_defaults=True, tag="checkpoint"):
    """The ends of the recordings that grew since the last one."""

    heads: list[At]


class Seal(Event, frozen=True, kw_only=True, omit_defaults=True, tag="seal"):
    """A recording is finished: `state` is sealed or interrupted, `last` its last line's hash, `sha256` that of all
    its bytes."""

    id: str
    file: str
    state: str
    lines: int
    last: str
    bytes: int
    sha256: str


class NodeCut(Event, frozen=True, kw_only=True, omit_defaults=True, tag="node.cut"):
    """On opening, the log did not fit `node.head`: lines up to `last` were signed once, and only those up to `have`
    are there."""

    have: int
    last: int
    detail: str


class Stored(Event, frozen=True, kw_only=True, omit_defaults=True, tag="stored"):
    """A sealed recording lies in another form now: `file`, with `bytes` and `sha256` as stored; what it holds is what
    was sealed (`plain_bytes`, `plain_sha256`). `about` is what a list of sessions shows: a list needs no key."""

    id: str
    file: str
    was: str
    bytes: int
    sha256: str
    plain_bytes: int
    plain_sha256: str
    lines: int
    last: str
    recipients: tuple[str, ...] = ()
    about: dict[str, Any] = msgspec.field(default_factory=dict)


class Expired(Event, frozen=True, kw_only=True, omit_defaults=True, tag="expired"):
    """A recording was deleted on purpose: its stored bytes' `sha256`, when it was sealed, why and by whom."""

    id: str
    file: str
    sha256: str
    bytes: int
    sealed_at: str
    why: str
    by: str
    grant: str = ""


class Hold(Event, frozen=True, kw_only=True, omit_defaults=True, tag="hold"):
    """These recordings must not be deleted: recording `id`, or all of `grant`."""

    hold: str
    reason: str
    by: str
    id: str = ""
    grant: str = ""


class Release(Event, frozen=True, kw_only=True, omit_defaults=True, tag="release"):
    """Hold `hold` is over."""

    hold: str
    reason: str
    by: str


class KeyRotated(Event, frozen=True, kw_only=True, omit_defaults=True, tag="key.rotated"):
    """The last line that the old key signs: from the next on the log is signed with `public` (raw Ed25519, hex)."""

    public: str
    by: str


class TreeStart(Event, frozen=True, kw_only=True, omit_defaults=True, tag="tree.start"):
    """From here on there is a file `checkpoint`: the signed head of the tree over this log, called `origin`."""

    origin: str


NodeEntry = (
    NodeStart | Opened | Checkpoint | Seal | NodeCut | Stored | Expired | Hold | Release | KeyRotated | TreeStart
)
_KINDS: dict[str, type[NodeEntry]] = {
    "node.start": NodeStart,
    "open": Opened,
    "checkpoint": Checkpoint,
    "seal": Seal,
    "node.cut": NodeCut,
    "stored": Stored,
    "expired": Expired,
    "hold": Hold,
    "release": Release,
    "key.rotated": KeyRotated,
    "tree.start": TreeStart,
}


def decode_entry(line: bytes, event: str) -> NodeEntry | None:
    """The line's entry; None for an event that this version does not know, or a line that lacks what it must hold."""
    kind = _KINDS.get(event)
    try:
        return msgspec.json.decode(line, type=kind) if kind is not None else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
