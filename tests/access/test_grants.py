"""Grants in a real store: tokens that open, tokens that no longer do, and steps that are recorded or do not happen."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from proxy.access import tables
from proxy.access.grants import GrantError, GrantNotFound, Grants
from proxy.access.model import Grant
from proxy.access.store import Store
from proxy.clock import FakeClock
from proxy.scram import PLAIN, ClientExchange, ServerExchange, Verifier

HOUR = timedelta(hours=1)
WISH: dict[str, Any] = {
    "person": "jo@vendor.example",
    "vendor": "Acme",
    "database": "app",
    "policy": "reader",
    "policy_revision": "ab" * 32,
    "policy_text": "name: reader\n",
    "reason": "ticket 42",
    "length": 4 * HOUR,
    "created_by": "root",
}


class Told(list[tuple[str, dict[str, Any]]]):
    """What `emit` was told."""

    def __call__(self, action: str, detail: dict[str, Any]) -> None:
        self.append((action, detail))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def grants(store: Store, clock: FakeClock, told: Told) -> Grants:
    return Grants(store, clock, told)


def opens(token: str, verifier: Verifier) -> bool:
    """Does this token pass a whole SCRAM exchange?"""
    server = ServerExchange(verifier, nonce=b"server", binding=None)
    client = ClientExchange(token, nonce=b"client", binding=None, offered=(PLAIN,))
    return server.final(client.final(server.first(PLAIN, client.first()))) is not None


async def test_a_new_grant_and_its_token(grants: Grants, clock: FakeClock) -> None:
    grant, token = await grants.create(**WISH, bind_ip="203.0.113.7")
    assert len(grant.id) == 10
    assert len(token) == 35
    assert grant.bind_ip == "203.0.113.7/32"
    assert (grant.starts_at, grant.expires_at) == (clock.now(), clock.now() + 4 * HOUR)
    assert await grants.get(grant.id) == grant
    found, verifier = await grants.login(grant.id)
    assert found == grant
    assert opens(token, verifier)
    assert not opens(token + "x", verifier)


async def test_the_token_is_nowhere(grants: Grants, store: Store, told: Told) -> None:
    _, token = await grants.create(**WISH)
    async with store.read() as connection:
        row = (await connection.execute(sa.select(tables.grants))).mappings().one()
    assert token not in repr(dict(row)) + repr(told)


async def test_an_unknown_name_gets_a_mock_that_stays_the_same(grants: Grants) -> None:
    for name in ("g-00000000", "postgres", "", "g-\x00", "x" * 5000, "\udcff", "G-7K3M9X2Q", "' or 1=1 --"):
        grant, verifier = await grants.login(name)
        assert grant is None
        assert verifier == (await grants.login(name))[1]
        assert (verifier.iterations, len(verifier.salt)) == (4096, 16)
        assert not opens("", verifier)


async def test_a_login_is_one_query(grants: Grants, store: Store) -> None:
    grant, _ = await grants.create(**WISH)
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        seen.append(statement)

    sa.event.listen(store._engine.sync_engine, "before_cursor_execute", note)
    await grants.login(grant.id)
    known, seen[:] = [s for s in seen if s.startswith("SELECT")], []
    await grants.login("nobody")
    assert known == [s for s in seen if s.startswith("SELECT")]
    assert len(known) == 1


async def test_a_new_token_kills_the_old_one(grants: Grants, told: Told) -> None:
    grant, old = await grants.create(**WISH)
    new = await grants.rotate(grant.id, by="root")
    _, verifier = await grants.login(grant.id)
    assert opens(new, verifier)
    assert not opens(old, verifier)
    assert told[-1] == ("token", {"grant": grant.id, "by": "root", "person": grant.person})


async def test_revoked_once_and_for_all(grants: Grants, clock: FakeClock, told: Told) -> None:
    grant, _ = await grants.create(**WISH)
    revoked = await grants.revoke(grant.id, reason="done", by="ann")
    clock.advance(60)
    assert await grants.revoke(grant.id, reason="again", by="bob") == revoked
    assert (revoked.state(clock.now()), revoked.revoke_reason) == ("revoked", "done")
    assert [action for action, _ in told] == ["created", "revoked"]
    with pytest.raises(GrantError, match="is revoked; a token for it would open nothing"):
        await grants.rotate(grant.id)
    assert (await grants.login(grant.id))[0] == revoked  # so that a right proof can be told why


async def test_live_is_what_has_neither_ended_nor_been_revoked(grants: Grants, clock: FakeClock) -> None:
    short, _ = await grants.create(**WISH | {"length": HOUR})
    long, _ = await grants.create(**WISH)
    later, _ = await grants.create(**WISH, starts_at=clock.now() + HOUR)
    ended, _ = await grants.create(**WISH)
    await grants.revoke(ended.id, reason="done", by="root")
    assert set(await grants.live()) == {short.id, long.id, later.id}
    clock.advance(3600)
    assert set(await grants.live()) == {long.id, later.id}
    assert (await grants.get(later.id)).state(clock.now()) == "active"


async def test_the_newest_first(grants: Grants, clock: FakeClock) -> None:
    made: list[Grant] = []
    for _ in range(3):
        made.insert(0, (await grants.create(**WISH))[0])
        clock.advance(1)
    assert await grants.list() == made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": timedelta(0)}, "longer than no time"),
        ({"length": -HOUR}, "longer than no time"),
        ({"length": timedelta(days=999_999_999)}, "cannot last that long"),
        ({"person": " "}, "person must not be empty"),
        ({"reason": "a\nb"}, "reason must be one line"),
        ({"reason": "\x1b[2J"}, "reason must be one line"),
        ({"vendor": "x" * 501}, "vendor must be one line"),
        ({"bind_ip": "office"}, "not an address or network"),
    ],
)
async def test_what_makes_no_sense(grants: Grants, told: Told, change: dict[str, Any], message: str) -> None:
    with pytest.raises(GrantError, match=message):
        await grants.create(**WISH | change)
    assert await grants.list() == []
    assert told == []


async def test_a_window_that_is_over(grants: Grants, clock: FakeClock) -> None:
    with pytest.raises(GrantError, match="over before it begins"):
        await grants.create(**WISH, starts_at=clock.now() - 5 * HOUR)


async def test_an_unknown_grant(grants: Grants) -> None:
    for id_ in ("g-00000000", "", "nonsense\x00"):
        with pytest.raises(GrantNotFound):
            await grants.get(id_)
        with pytest.raises(GrantNotFound):
            await grants.revoke(id_, reason="x", by="y")
        with pytest.raises(GrantNotFound):
            await grants.rotate(id_)


async def test_what_cannot_be_recorded_does_not_happen(store: Store, clock: FakeClock) -> None:
    grant, token = await Grants(store, clock).create(**WISH)

    def broken(_action: str, _detail: dict[str, Any]) -> None:
        raise OSError("no space left")

    grants = Grants(store, clock, broken)
    with pytest.raises(OSError, match="no space left"):
        await grants.create(**WISH)
    with pytest.raises(OSError, match="no space left"):
        await grants.revoke(grant.id, reason="x", by="y")
    with pytest.raises(OSError, match="no space left"):
        await grants.rotate(grant.id)
    assert await grants.list() == [grant]
    assert opens(token, (await grants.login(grant.id))[1])


async def test_it_survives_a_restart(url: str, tmp_path: Path, clock: FakeClock) -> None:
    store = await Store.open(url)
    grant, token = await Grants(store, clock).create(**WISH)
    await store.close()
    store = await Store.open(url)
    found, verifier = await Grants(store, clock).login(grant.id)
    await store.close()
    assert found == grant
    assert opens(token, verifier)
