"""A step of access in the installation's recording: its event, from where, on the disk when the call returns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxy.clock import FakeClock
from proxy.session.telling import event_of, teller
from recorder.events import AccessEvent, GrantEvent
from recorder.files import RecordError


def test_a_step_of_a_grant_and_one_of_something_else() -> None:
    own = event_of("revoked", {"grant": "g-1", "by": "ann", "reason": "done"}, "host")
    assert own == GrantEvent(action="revoked", grant="g-1", by="ann", detail={"reason": "done", "where": "host"})
    assert event_of("token", {"grant": "g-1", "by": "ann"}) == GrantEvent(
        action="token", grant="g-1", by="ann", detail={}
    )
    other = event_of("request.created", {"request": "r-1", "by": "sam", "grant": "g-1"}, "host")
    assert other == AccessEvent(
        action="request.created", by="sam", where="host", detail={"request": "r-1", "grant": "g-1"}
    )


def test_it_is_on_the_disk(tmp_path: Path) -> None:
    tell = teller(tmp_path / "recordings", FakeClock().now, "host")
    tell("request.created", {"request": "r-1", "by": "sam"})
    tell("created", {"grant": "g-1", "by": "ann"})
    lines = (tmp_path / "recordings" / "installation.jsonl").read_text().splitlines()
    first, second = map(json.loads, lines)
    assert (first["event"], first["action"], first["by"], first["where"]) == (
        "access",
        "request.created",
        "sam",
        "host",
    )
    assert (second["event"], second["grant"], second["detail"]) == ("grant", "g-1", {"where": "host"})
    assert second["at"] == "2026-01-05T09:00:00Z"


def test_what_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "recordings").write_text("in the way")
    with pytest.raises(RecordError):
        teller(tmp_path / "recordings", FakeClock().now)("created", {"grant": "g-1", "by": "ann"})
