"""Which judge a grant gets: pinned and current policy, catalogs, policies that go."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from proxy.access.model import Grant
from proxy.catalog import Catalog
from proxy.clock import FakeClock
from proxy.policy.load import Policies, parse
from proxy.session.commons import Commons
from proxy.session.judging import Bench
from proxy.session.refusals import LoginRefused
from proxy.session.registry import Registry, Session
from tests.session.conftest import NARROW, READER
from tests.session.playbook import Playbook


def a_grant(text: str) -> Grant:
    now = FakeClock().now()
    return Grant(
        id="g-1", person="Ana", vendor="Acme", database="shop", policy="reader",
        policy_revision=parse(text, "test").revision, policy_text=text, reason="test", bind_ip=None, created_at=now,
        created_by="op", starts_at=now, expires_at=now + timedelta(hours=1), revoked_at=None, revoke_reason=None,
    )  # fmt: skip


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "reader.yaml").write_text(READER)
    bench = Bench(Policies(tmp_path), b"secret")
    assert bench.reload() == []
    return bench


def test_without_a_catalog_there_is_no_judge(bench: Bench) -> None:
    bench.unknown("shop", "no route to host")
    with pytest.raises(LoginRefused) as caught:
        bench.for_grant(a_grant(READER))
    assert caught.value.refusal.sqlstate == "57P03"
    assert "no route" not in caught.value.refusal.text
    assert "no route" in caught.value.truth
    assert not bench.ready


def test_judges_are_shared(bench: Bench, shop_catalog: Catalog) -> None:
    bench.know("shop", shop_catalog)
    assert bench.ready
    assert bench.for_grant(a_grant(READER)) is bench.for_grant(a_grant(READER))


def test_a_pinned_policy_and_another_file_must_both_allow(bench: Bench, shop_catalog: Catalog, tmp_path: Path) -> None:
    bench.know("shop", shop_catalog)
    (tmp_path / "reader.yaml").write_text(NARROW)
    assert bench.changed
    bench.reload()
    judge = bench.for_grant(a_grant(READER))
    assert judge.judge(b"select * from products").allowed
    assert not judge.judge(b"select * from orders").allowed
    (tmp_path / "reader.yaml").write_text(READER)
    bench.reload()
    assert not bench.for_grant(a_grant(NARROW)).judge(b"select * from orders").allowed


def test_beside_a_policy_that_enforces_one_that_observes_says_nothing(
    bench: Bench, shop_catalog: Catalog, tmp_path: Path
) -> None:
    bench.know("shop", shop_catalog)
    watching = "name: reader\nmode: observe\ndatabases: [shop]\n"
    was_observed = a_grant(watching)
    judge = bench.for_grant(was_observed)
    assert judge.policy.mode == "enforce"
    assert not judge.judge(b"select * from orders, pg_authid").allowed
    settings = bench.settings(was_observed)
    assert settings["default_transaction_read_only"] == "on"
    assert "search_path" in settings
    (tmp_path / "reader.yaml").write_text(watching)
    bench.reload()
    assert bench.for_grant(a_grant(READER)).policy.mode == "enforce"
    assert bench.for_grant(was_observed).policy.mode == "observe"


@pytest.mark.parametrize("begins", [READER, READER + "mode: observe\n"])
def test_a_session_that_was_only_observed_ends_when_its_policy_begins_to_refuse(
    bench: Bench, shop_catalog: Catalog, make_play: Callable[..., Playbook], tmp_path: Path, begins: str
) -> None:
    bench.know("shop", shop_catalog)
    watching = "name: reader\nmode: observe\ndatabases: [shop]\n"
    play = make_play(watching, observe=True)
    registry = Registry(FakeClock(), Commons(tmp_path / "run"))
    session = Session(
        id="s-play", grant=a_grant(watching), relay=play.relay, pid=1, secret=b"", deadline=1e9,
        cancel_upstream=lambda done: done(), warned=True,
    )  # fmt: skip
    registry.sessions["s-play"] = session
    (tmp_path / "reader.yaml").write_text(begins)
    bench.reload()
    bench.renew(registry)
    assert play.relay.ended is (begins == READER)
    assert play.client_heard() == (["FATAL 57P01"] if begins == READER else [])


def test_a_policy_that_is_gone_or_names_other_databases_opens_nothing(
    bench: Bench, shop_catalog: Catalog, tmp_path: Path
) -> None:
    bench.know("shop", shop_catalog)
    (tmp_path / "reader.yaml").write_text(READER.replace("[shop]", "[other]"))
    bench.reload()
    with pytest.raises(LoginRefused, match="no longer exists"):
        bench.for_grant(a_grant(READER))
    (tmp_path / "reader.yaml").unlink()
    bench.reload()
    with pytest.raises(LoginRefused, match="no longer exists"):
        bench.for_grant(a_grant(READER))


def test_a_broken_file_leaves_the_last_good_one_in_force(bench: Bench, shop_catalog: Catalog, tmp_path: Path) -> None:
    bench.know("shop", shop_catalog)
    (tmp_path / "reader.yaml").write_text("name: reader\ntables: 7\n")
    assert bench.reload()
    assert bench.for_grant(a_grant(READER)).judge(b"select * from orders").allowed
