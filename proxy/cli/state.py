"""How commands work on the state: opened, acted on, closed; what goes wrong becomes an exit code.

It knows which errors mean what to a caller, and nothing of what is done. Each step is recorded before it counts.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from proxy.access.agreements import Agreements, Texts
from proxy.access.alerts import Alerts
from proxy.access.findings import Findings
from proxy.access.grants import GrantError, GrantNotFound, Grants
from proxy.access.holds import Holds
from proxy.access.people import People
from proxy.access.removals import Removals
from proxy.access.requests import Requests
from proxy.access.reviews import Reviews
from proxy.access.store import Emit, Store, StoreError
from proxy.cli.output import UNREACHABLE, USAGE, fail
from proxy.clock import Clock, SystemClock
from proxy.config import Config, nearest
from proxy.session.telling import teller
from recorder.files import RecordError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Access:
    """What a command may work with."""

    config: Config
    store: Store
    clock: Clock
    emit: Emit
    grants: Grants
    requests: Requests
    holds: Holds
    people: People
    removals: Removals
    reviews: Reviews
    alerts: Alerts
    findings: Findings
    agreements: Agreements


def where() -> str:
    """From where a command is run: this host, and the address behind an SSH session."""
    far = os.environ.get("SSH_CONNECTION", "").split(" ")[0]
    return socket.gethostname() + (f" from {far}" if far else "")


def with_access(cfg: Config, action: Callable[[Access], Awaitable[T]]) -> T:
    """Runs `action` on the state of `cfg`. Exits 2 on what makes no sense, 3 where the state cannot be reached."""
    clock = SystemClock()

    async def main() -> T:
        store = await Store.open(cfg.state)
        try:
            groups = cfg.people.groups
            identity, _ = await store.identity()
            emit = teller(cfg.recording.dir, clock.now, where(), installation=identity)
            access = Access(
                config=cfg,
                store=store,
                clock=clock,
                emit=emit,
                grants=Grants(store, clock, emit),
                requests=Requests(store, clock, emit, groups),
                holds=Holds(store, clock, emit, groups),
                people=People(store, clock, emit),
                removals=Removals(store, clock, emit),
                reviews=Reviews(store, clock, emit, groups, cfg.reviews.from_),
                alerts=Alerts(store, clock, emit),
                findings=Findings(store, clock, emit, groups),
                agreements=Agreements(store, clock, Texts(cfg.agreements), emit),
            )
            return await action(access)
        finally:
            await store.close()

    try:
        return asyncio.run(main())
    except GrantNotFound as error:
        noun = next(word for word in ("request", "hold", "grant") if word in str(error))
        fail(USAGE, str(error), f"daypass {noun} list shows them all")
    except GrantError as error:
        fail(USAGE, str(error))
    except StoreError as error:
        fail(UNREACHABLE, str(error), "daypass doctor checks the state")
    except RecordError as error:
        fail(
            UNREACHABLE, f"this cannot be recorded, so it was not done: {error}", "daypass doctor checks recording.dir"
        )


def unknown(what: str, name: str, known: list[str], where: str) -> NoReturn:
    """Exits 2: there is no such thing, and there are these."""
    guess = nearest(name, known)
    hint = f"did you mean {guess}? " if guess else ""
    fail(USAGE, f"there is no {what} {name!r} in {where}", f"{hint}There are: {', '.join(known) or 'none'}")
