"""What prechecks found, in a real store: kept, recorded where it changes, passed once, overridden by the right."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from proxy.access.findings import Findings
from proxy.access.grants import GrantError, Grants
from proxy.access.model import Grant, Terms
from proxy.access.prechecks import Finding
from proxy.access.requests import Requests, Wish
from proxy.access.store import Store
from proxy.clock import FakeClock

GROUPS = {"owners": ["Olga", "anna"]}
GOOD = Finding("wal", True, "archived 1m ago", {"age_seconds": 60})
BAD = Finding("wal", False, "17m old", {"age_seconds": 1020})
LAG = Finding("lag", True, "1 replica, at most 0s behind")
HOUR = timedelta(hours=1)


class Told(list[tuple[str, dict[str, Any]]]):
    def __call__(self, action: str, detail: dict[str, Any]) -> None:
        self.append((action, detail))

    def of(self, action: str) -> list[dict[str, Any]]:
        return [detail for name, detail in self if name == action]


class House:
    def __init__(self, store: Store) -> None:
        self.clock, self.told = FakeClock(), Told()
        self.findings = Findings(store, self.clock, self.told, GROUPS)
        self.grants = Grants(store, self.clock, self.told)
        self.requests = Requests(store, self.clock, self.told, GROUPS)

    async def grant(self, **terms: Any) -> Grant:
        wish = Wish(
            person="Jo", vendor="Acme", database="app", policy="reader", policy_revision="ab", policy_text="name: r",
            terms=Terms(prechecks=("lag", "wal"), approvals=1, approvers=("owners",), **terms), purpose="ticket",
            length=4 * HOUR, rollback_note="restore",
        )  # fmt: skip
        request = await self.requests.create(wish, by="sam", lapse=HOUR)
        _, grant = await self.requests.approve(request.id, by="anna", reason="fine")
        assert grant is not None
        return grant


@pytest.fixture
def house(store: Store) -> House:
    return House(store)


async def test_a_grant_is_checked_once_all_hold(house: House) -> None:
    grant = await house.grant()
    assert grant.state(house.clock.now()) == "waiting"
    assert not await house.findings.keep(grant, [GOOD]), "lag was not looked at"
    assert not await house.findings.keep(grant, [GOOD, LAG], final=False)
    assert house.told.of("precheck.passed") == []
    assert await house.findings.keep(grant, [GOOD, LAG])
    assert not await house.findings.keep(grant, [GOOD, LAG]), "once"
    checked = await house.grants.get(grant.id)
    assert checked.checked_at == house.clock.now()
    assert checked.state(house.clock.now()) == "active"
    assert checked.version == grant.version + 1
    (passed,) = house.told.of("precheck.passed")
    assert passed["held"] == {"wal": "archived 1m ago", "lag": "1 replica, at most 0s behind"}
    assert (passed["grant"], passed["by"]) == (grant.id, "daypass")


async def test_only_a_change_of_what_fails_is_recorded_and_the_last_finding_is_kept(house: House) -> None:
    grant = await house.grant()
    for minute in range(5):
        late = dataclasses.replace(BAD, why=f"{17 + minute}m old")
        assert not await house.findings.keep(grant, [late, LAG])
        house.clock.advance(60)
    assert [detail["failed"] for detail in house.told.of("precheck.failed")] == [{"wal": "17m old"}]
    kept = await house.findings.of(grant.id)
    assert [(row.name, row.ok, row.why) for row in kept] == [("lag", True, LAG.why), ("wal", False, "21m old")]
    assert kept[1].evidence == {"age_seconds": 1020}
    assert await house.grants.failing(grant.id) == "wal: 21m old"
    both = [BAD, dataclasses.replace(LAG, ok=False, why="no replica")]
    await house.findings.keep(grant, both)
    assert len(house.told.of("precheck.failed")) == 2
    assert await house.grants.failing(grant.id) == "lag: no replica; wal: 17m old"


async def test_a_grant_that_is_over_is_not_checked_any_more(house: House) -> None:
    grant = await house.grant()
    await house.grants.revoke(grant.id, reason="done", by="anna")
    assert not await house.findings.keep(grant, [GOOD, LAG])
    with pytest.raises(GrantError, match="is revoked"):
        await house.findings.override(grant.id, by="olga", reason="all the same")


async def test_an_approver_overrides_with_a_reason_and_what_failed_is_on_the_record(house: House) -> None:
    grant = await house.grant()
    await house.findings.keep(grant, [BAD])
    found, failed = await house.findings.override(grant.id, by="OLGA", reason="anna restores by hand")
    assert failed == {"wal": "17m old", "lag": "not looked at yet"}
    assert found.checked_at == house.clock.now()
    assert (await house.grants.get(grant.id)).state(house.clock.now()) == "active"
    kept = await house.findings.of(grant.id)
    assert {row.overridden_by for row in kept} == {"OLGA"}
    assert {row.override_reason for row in kept} == {"anna restores by hand"}
    (step,) = house.told.of("precheck.overridden")
    assert step["failed"] == failed
    assert step["reason"] == "anna restores by hand"
    with pytest.raises(GrantError, match="waits for no precheck"):
        await house.findings.override(grant.id, by="olga", reason="again")


@pytest.mark.parametrize(
    ("by", "why"),
    [
        ("jo ", "the grant is for"),
        ("SAM", "it was asked for by"),
        ("pete", "asks owners"),
        ("", "by must not be empty"),
    ],
)
async def test_who_may_not_override(house: House, by: str, why: str) -> None:
    grant = await house.grant()
    with pytest.raises(GrantError, match=why):
        await house.findings.override(grant.id, by=by, reason="please")
    with pytest.raises(GrantError, match="reason must not be empty"):
        await house.findings.override(grant.id, by="olga", reason=" ")
    assert (await house.grants.get(grant.id)).unchecked


async def test_the_note_is_the_request_s_by_who_asked(house: House) -> None:
    grant = await house.grant()
    assert await house.findings.note(grant) == ("restore", "sam")
    assert await house.findings.note(dataclasses.replace(grant, request=None)) == (None, "")
