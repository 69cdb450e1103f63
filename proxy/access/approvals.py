"""Who may say yes to a request, and whether enough have.

Pure: a request, the voices so far and the groups go in, a voice or an error comes out. Invariants: nobody speaks for
the request of which he is the requester or the person; nobody speaks twice, neither himself nor through a delegate;
where groups are asked, only their people count; a voice that is void counts as never given. Break-glass takes one
voice, which may be the requester's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from proxy.access.grants import GrantError
from proxy.access.model import Request, person_key


@dataclass(frozen=True, slots=True)
class Voice:
    """One yes. `for_whom`: whose it is, where that person has delegated it. `void_why`: why it no longer counts."""

    by: str
    for_whom: str | None
    groups: tuple[str, ...]
    reason: str
    at: datetime
    void_at: datetime | None = None
    void_why: str | None = None


def counting(voices: Iterable[Voice]) -> list[Voice]:
    """Those that are not void."""
    return [voice for voice in voices if voice.void_at is None]


def needed(request: Request) -> int:
    """How many voices it takes: what the policy asks for, at least one; break-glass takes one."""
    return 1 if request.break_glass else max(1, request.terms.approvals)


def missing(request: Request, voices: Sequence[Voice]) -> int:
    """How many voices are still missing."""
    return max(0, needed(request) - len(counting(voices)))


def voice(
    request: Request,
    voices: Sequence[Voice],
    *,
    by: str,
    reason: str,
    at: datetime,
    groups: Mapping[str, Sequence[str]],
    for_: Iterable[str] = (),
) -> Voice:
    """The voice that `by` may give, his own first, then one that was delegated to him (`for_`). Raises GrantError."""
    spoken = {person_key(name) for given in counting(voices) for name in (given.by, given.for_whom) if name is not None}
    concerned = {person_key(request.person): "the grant is for"}
    if not request.break_glass:
        concerned.setdefault(person_key(request.created_by), "it was asked for by")
    if person_key(by) in concerned:
        raise GrantError(f"{by} cannot decide about {request.id}: {concerned[person_key(by)]} {by}")
    if person_key(by) in spoken:
        raise GrantError(f"{by} has approved {request.id} already; {missing(request, voices)} more must be by others")
    asked = request.terms.approvers
    for name in (by, *for_):
        mine = tuple(group for group in asked if _member(name, groups.get(group, ())))
        own = name == by
        if asked and not mine:
            continue
        if not own and (person_key(name) in spoken or person_key(name) in concerned):
            continue
        return Voice(by, None if own else name, mine, reason, at)
    raise GrantError(
        f"{by} cannot decide about {request.id}: the policy {request.policy} asks {' or '.join(asked)}"
        + "".join(f"; {group} has no people in config.yaml" for group in asked if not groups.get(group))
    )


def _member(name: str, people: Sequence[str]) -> bool:
    return person_key(name) in {person_key(person) for person in people}
