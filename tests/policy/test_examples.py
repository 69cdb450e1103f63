"""The example policies in policies/ are good files, fit a real shop, and their own tests pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.catalog import Catalog
from proxy.cli.policy_check import run_tests
from proxy.policy.judge import Judge
from proxy.policy.load import Policies

FOLDER = Path(__file__).parents[2] / "policies"


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda f: f.stem)
def test_an_example_policy_holds(shop_catalog: Catalog, file: Path) -> None:
    policies = Policies(FOLDER)
    assert policies.load() == []
    judge = Judge(policies.get(file.stem), shop_catalog)
    assert judge.problems == []
    rows = run_tests(judge, "app")
    assert rows
    assert [row for row in rows if not row["ok"]] == []
