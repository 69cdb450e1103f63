"""The judging process from its own side."""

from __future__ import annotations

from proxy.policy import worker_process
from proxy.policy.judge import Judge


def test_a_charter_makes_the_same_judge(judge: Judge) -> None:
    again = worker_process.Charter.of(judge).judge()
    assert again.mark == judge.mark
    assert again.uncached(b"select * from app.customers") == judge.uncached(b"select * from app.customers")
