"""Every rule id in the code has its row in docs/reference/rules.md, and the other way round."""

from __future__ import annotations

import re
from pathlib import Path

from proxy.policy.model import Limits, PolicyModel, Table, Window

ROOT = Path(__file__).parents[2]
RAISED = re.compile(
    r"(?:Refused|_refused?)\(\s*\"([a-z]+(?:\.[a-z]+)?)\"|rule=\"([a-z.]+)\"|\"(catalog)\" if system"
    r"|Ended\(\"([a-z.]+)\"|RULE: Final = \"([a-z.]+)\""
)


def test_every_rule_is_documented() -> None:
    raised = {
        next(filter(None, match.groups()))
        for file in [*(ROOT / "proxy" / "policy").glob("*.py"), *(ROOT / "proxy" / "session").glob("*.py")]
        for match in RAISED.finditer(file.read_text())
    }
    table = (ROOT / "docs/reference/rules.md").read_text()
    documented = {
        rule for row in re.findall(r"^\| (`[^|]+`) \|", table, re.M) for rule in re.findall(r"`([a-z.]+)`", row)
    }
    raised |= {"limit.rows", "limit.bytes"}  # made from the limit's name
    assert (
        raised - {"policy", "observe.statement"} == documented
    )  # "policy" is a finding of `policy check`, never a verdict


def test_every_key_is_documented() -> None:
    text = (ROOT / "docs/reference/policy.md").read_text()
    for model in (PolicyModel, Table, Limits, Window):
        for name in model.model_fields:
            assert f"`{name.rstrip('_')}`" in text, name
