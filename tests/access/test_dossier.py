"""What the state knows of a grant, for an auditor: all of it, and no secret."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
import sqlalchemy as sa

from proxy.access import dossier, tables
from proxy.access.grants import GrantNotFound, Grants
from proxy.access.model import Terms
from proxy.access.requests import Requests, Wish
from proxy.access.store import Store
from proxy.clock import FakeClock

WISH = Wish(
    person="Jo@vendor.example", vendor="Acme", database="app", policy="reader", policy_revision="ab",
    policy_text="name: reader\n", terms=Terms(approvals=1, agreements=("nda",)), purpose="audit",
    length=timedelta(hours=1), ticket="OPS-1",
)  # fmt: skip


async def test_it_has_every_part_and_no_verifier(store: Store) -> None:
    clock = FakeClock()
    requests = Requests(store, clock)
    request = await requests.create(WISH, by="sponsor", lapse=timedelta(days=1))
    _, grant = await requests.approve(request.id, by="ann", reason="fine")
    assert grant is not None
    await Grants(store, clock).rotate(grant.id)
    async with store.write() as connection:
        text = {"sha256": "cd" * 32, "name": "nda", "version": "1", "text": "# NDA ü\n", "first_seen": clock.now()}
        await connection.execute(tables.agreement_texts.insert().values(text))
        for id, name, person in (("a1", "nda", "jo@vendor.example"), ("a2", "other", "jo@vendor.example"),
                                 ("a3", "nda", "somebody@else.example")):  # fmt: skip
            values = {
                "id": id, "person_key": person, "person": person, "agreement": name, "sha256": "cd" * 32,
                "signed_as": "Jo Vendor", "how": "paper", "address": "", "at": clock.now(), "recorded_by": "ann",
                "file_name": "../../scan.pdf", "file_sha256": "ef" * 32, "file": b"%PDF",
            }  # fmt: skip
            await connection.execute(tables.acceptances.insert().values(values))
        verifier = (await connection.execute(sa.select(tables.grants.c.verifier))).scalar_one()
    found = await dossier.collect(store, grant.id)
    assert found.policy == b"name: reader\n"
    assert found.parts["request"]["ticket"] == "OPS-1"
    assert [one["by"] for one in found.parts["approvals"]] == ["ann"]
    assert found.parts["grant"]["terms"] == {"approvals": 1, "agreements": ["nda"]}
    assert [one["id"] for one in found.parts["acceptances"]] == ["a1"]
    assert found.agreements == {("nda", "cd" * 32): "# NDA ü\n".encode()}
    assert found.papers == {"efefefefefef-_.._scan.pdf": b"%PDF"}
    shown = json.dumps(found.parts)
    assert verifier
    assert verifier not in shown
    assert "SCRAM" not in shown


async def test_an_unknown_grant(store: Store) -> None:
    with pytest.raises(GrantNotFound):
        await dossier.collect(store, "g-nothing0")
