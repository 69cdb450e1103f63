"""Steps of access on their way into the installation's own recording, from whatever process takes them.

Brings together what `access` says (an action and its detail) and the recorder's events. Invariant: when the call
returns, the step is on the disk; RecordError means that the step must not happen.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from recorder.events import AccessEvent, Event, GrantEvent
from recorder.journal import append_installation


def teller(
    directory: Path, now: Callable[[], datetime], where: str = "", *, installation: str | None = None
) -> Callable[[str, dict[str, Any]], None]:
    """An `emit` for access that writes into the recordings folder. `where`: from where the step is taken;
    `installation`: whose folder it must be."""

    def emit(action: str, detail: dict[str, Any]) -> None:
        append_installation(directory, event_of(action, detail, where), now, installation=installation)

    return emit


def event_of(action: str, detail: dict[str, Any], where: str = "") -> Event:
    """The event of a step. An action without a dot is a grant's; others begin with what they are about."""
    rest = {key: value for key, value in detail.items() if key not in {"grant", "by"}}
    if "." not in action:
        if where:
            rest["where"] = where
        return GrantEvent(action=action, grant=detail["grant"], by=detail["by"], detail=rest)
    rest = {key: value for key, value in detail.items() if key != "by"}
    return AccessEvent(action=action, by=detail["by"], where=where, detail=rest)
