"""The two-world test in short, for every change: one fixed seed, and one that is new each time and printed."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator

import msgspec
import pytest

from proxy.demo.postgres import PostgresServer
from proxy.policy.judge import Judge
from proxy.policy.judgement import Judgement
from tests.support.postgres import Servers, bindirs
from tests.twoworld.mutate import tokens
from tests.twoworld.report import Report
from tests.twoworld.run import Runner, run
from tests.twoworld.source import Source
from tests.twoworld.statements import Statements
from tests.twoworld.vocabulary import Vocabulary
from tests.twoworld.worlds import Stage, stage

NEW = random.randrange(1 << 32)


class Blind(Judge):
    """A guard that lets everything through as it is."""

    def judge(self, sql: bytes, param_types: tuple[int, ...] = ()) -> Judgement:
        return self.uncached(sql)

    def uncached(self, sql: bytes) -> Judgement:
        return msgspec.structs.replace(super().uncached(sql), allowed=True, forward=sql, edits=(), veiled=False)


@pytest.fixture(scope="module")
def server(pg_servers: Servers) -> PostgresServer:
    return pg_servers.get(bindirs()[0])


@pytest.fixture(scope="module")
def shared(server: PostgresServer) -> Iterator[Stage]:
    with stage(server, "short", "shared", casts=NEW % 2 == 0) as made:
        yield made


def _clean(made: Stage, seed: int, statements: int, credential: str) -> None:
    print(f"python -m tests.twoworld --statements {statements} --seed {seed} --credential {credential}")
    report = run(made, seed, lambda: iter(range(statements)), [])
    print(report.text())
    assert not report.findings, "\n".join(finding.text() for finding in report.findings)
    assert report.figures["ran OK"] > statements / 10


@pytest.mark.parametrize("seed", [1, NEW], ids=["fixed", "new"])
def test_no_statement_tells_a_secret(shared: Stage, seed: int) -> None:
    _clean(shared, seed, 300, "shared")


@pytest.mark.thorough
def test_no_statement_tells_a_secret_to_a_role(server: PostgresServer) -> None:
    with stage(server, "role", "ephemeral") as made:
        _clean(made, NEW, 200, "ephemeral")


@pytest.mark.parametrize(
    ("steps", "kind"),
    [
        (["select id, tax_no from people order by id"], "harm: worlds differ"),
        (["select count(*) from notes"], "harm: worlds differ"),
        (["select random(), tax_no from people order by 2"], "harm: worlds differ"),
        (["begin read write", "select nextval('shop.invoice_no')", "commit"], "harm: effect"),
        (["select wages(1) is null"], "harm: effect"),
        (["select 1 / (amount - 8880001) from vault.pay where person_id = 1"], "harm: worlds differ"),
    ],
)
def test_the_test_can_fail(shared: Stage, steps: list[str], kind: str) -> None:
    made = dataclasses.replace(shared, judge=Blind(shared.judge.policy, shared.catalog))
    report = Report()
    runner = Runner(made, Source(Vocabulary(made), 1, []), report)
    runner.case(0, ["select 1"])
    runner.case(1, steps)
    runner.flush()
    assert kind in {finding.kind for finding in report.findings}, report.findings


def test_a_seed_makes_the_same_statements_again(shared: Stage) -> None:
    first, second = (Source(Vocabulary(shared), NEW, []) for _ in range(2))
    assert [first.steps(n) for n in range(60)] == [second.steps(n) for n in range(59, -1, -1)][::-1]
    text = Statements(random.Random(NEW), first.words).query()
    assert "".join(tokens(text)) == text
