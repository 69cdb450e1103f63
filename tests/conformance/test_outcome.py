"""What counts as a difference: the judgement of `make conformance` on reports that are made up here."""

from __future__ import annotations

import json

from tests.conformance.known import KNOWN, Known, cause
from tests.conformance.outcome import differences, read, still
from tests.conformance.suites import SUITES

KNOWN_HERE = [Known("driver", "t.py::*user*", "the user is the grant")]


def report(**outcomes: str) -> list[str]:
    return [json.dumps([f"t.py::{name}", outcome, ""]) for name, outcome in outcomes.items()]


def test_only_what_passes_directly_and_not_through_daypass_counts() -> None:
    direct = read(report(good="passed", bad="failed", user="passed", gone="passed", skips="passed", worse="passed"))
    through = read(report(good="passed", bad="passed", user="failed", skips="skipped", worse="failed", new="failed"))
    found = differences("driver", "plain", direct, through, KNOWN_HERE)
    assert [(each.test, each.through, each.cause) for each in found] == [
        ("t.py::gone", "missing", None),
        ("t.py::skips", "skipped", None),
        ("t.py::user", "failed", "the user is the grant"),
        ("t.py::worse", "failed", None),
    ]
    assert direct.counts == "5/1/0"
    only_tls = [Known("driver", "t.py::user", "the client library keeps it", "tls")]
    assert cause("driver", "plain", "t.py::user", only_tls) is None
    assert cause("driver", "tls", "t.py::user", only_tls) == "the client library keeps it"
    assert [each.cause for each in differences("other", "plain", direct, through, KNOWN_HERE)] == [None] * 4


def test_flaky_tests_drop_out_in_the_second_pair_of_runs() -> None:
    direct, through = read(report(a="passed", b="passed", c="passed")), read(report(a="failed", b="failed"))
    found = differences("driver", "plain", direct, through, [])
    again = read(report(a="passed", b="failed", c="passed")), read(report(a="failed", b="failed", c="passed"))
    assert [each.test for each in still(found, *again)] == ["t.py::a"]


def test_a_test_that_is_told_twice_has_failed_once() -> None:
    assert read([*report(a="failed"), *report(a="passed")]).outcomes == {"t.py::a": "failed"}
    assert read([*report(a="passed"), *report(a="failed")]).outcomes == {"t.py::a": "failed"}


def test_known_differences_name_suites_and_causes() -> None:
    names = {suite.name for suite in SUITES}
    for each in KNOWN:
        assert each.suite in names or each.suite == "sqlalchemy-*"
        assert len(each.cause.split()) > 2, each
        assert each.test.strip("*"), "a pattern that fits everything hides bugs"
