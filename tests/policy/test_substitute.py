"""Substitution: the edited text must read as the edited tree, and a slip is a refusal."""

from __future__ import annotations

import pytest

from proxy.policy import oracle
from proxy.policy.judge import Judge
from proxy.policy.refusal import Refused
from proxy.policy.substitute import Edit, apply, verify


def test_edits_apply_in_order_of_place() -> None:
    assert apply(b"abcdef", [Edit(4, 5, b"X"), Edit(1, 2, b""), Edit(3, 3, b"-")]) == b"ac-dXf"
    with pytest.raises(Refused):
        apply(b"abcdef", [Edit(1, 4, b"X"), Edit(2, 3, b"Y")])


def test_a_slip_is_refused() -> None:
    tree = [raw["stmt"] for raw in oracle.tree(b"select a from t")]
    verify(b"select a  from t", tree)
    for other in (b"select b from t", b"select a from t; select 1", b"select a from", b""):
        with pytest.raises(Refused):
            verify(other, tree)


@pytest.mark.parametrize(
    "sql",
    [
        'select "c" . * from "app" . "customers" "c"',
        "select * from app/* x */./* y */customers",
        "select * from app -- x\n . customers",
        "select customers.id, app.customers.name from app.customers",
        "select policy_shop.app.customers.id from policy_shop.app.customers",
        "select a.id from customers a, customers b, (select * from customers) c where exists (select 1 from customers)",
        "select * from customers natural join orders",
        "select * from ((customers c join orders o on true) j join customers k on true)",
        "select c.id, c.name, max(c.email), (select count(*) from orders) from customers c group by c.id having true",
        "select distinct c.name from customers c group by (c.id), c.name",
        "with customers as (select * from customers) select * from customers",
        "select * from customers customers(a, b)",
        "copy (select * from customers) to stdout",
        "prepare p as select * from customers where id = $1",
        "declare c cursor for select * from customers",
        "select * from customers; select * from orders",
        "select 'é', * from customers -- ü",
    ],
)
def test_no_mention_of_the_table_is_left(judge: Judge, sql: str) -> None:
    judgement = judge.judge(sql.encode())
    assert judgement.refusal is None
    forward = judgement.forward.decode()
    assert "ssn" not in forward
    assert forward.count("FROM app.customers") >= 1
    again = oracle.statements(judgement.forward)
    assert len(again) == len(judgement.statements)
