"""Properties of judging: cached equals uncached, nothing restricted survives, and nothing a client sends raises."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.policy.judge import Judge
from tests.policy.conftest import judge, judging, shop_catalog

__all__ = ["judge", "judging", "shop_catalog"]  # fixtures

WORDS = """
select from where group by order limit join left using natural on as with recursive union all distinct customers orders
app.customers hr.salaries c o id name email ssn * c.* c.ssn c.id , ( ) ; . :: + = @ -> [ ] count( lower( pg_sleep( vat(
array[ row( exists( coalesce( null 1 'x' $1 "ssn" e'\\'' /* */ -- ::text ::regclass::text explain begin read write set
show copy to stdout declare cursor for prepare execute 'hr.salaries' u&"ssn" \u00a0
"""
FRAGMENTS = [
    *WORDS.split(" "),
    "\n",
    "(select ssn from customers)",
    "with customers as (select 1 as ssn)",
]
TEXTS = st.lists(st.sampled_from(FRAGMENTS), max_size=14).map(" ".join)
NUMBERS = st.integers(min_value=-(10**12), max_value=10**12)
RELAXED = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))


@RELAXED
@given(text=TEXTS)
def test_nothing_raises_and_denials_change_nothing(judge: Judge, text: str) -> None:
    judgement = judge.judge(text.encode())
    if not judgement.allowed:
        assert judgement.refusal is not None
        assert judgement.forward == text.encode()


@RELAXED
@given(data=st.binary(max_size=60))
def test_bytes_of_any_kind_are_answered(judge: Judge, data: bytes) -> None:
    judge.judge(data)


@RELAXED
@given(text=TEXTS, number=NUMBERS, word=st.text(alphabet="abc'%_\\é", max_size=6))
def test_a_cached_verdict_is_the_uncached_one(judge: Judge, text: str, number: int, word: str) -> None:
    quoted = "'" + word.replace("'", "''") + "'"
    for base in (
        text,
        f"select name from products where id = {number} and name like {quoted}",
        f"select repeat({quoted}, {number}), {quoted}::regclass, lower({quoted}) from orders",
        f"select {quoted} from customers where email = {quoted} limit {abs(number)}",
    ):
        sql = base.encode()
        cached, plain = judge.judge(sql), judge.uncached(sql)
        assert (cached.allowed, cached.forward) == (plain.allowed, plain.forward)
        assert [(s.verdict, s.rule, s.rewritten, s.sql) for s in cached.statements] == [
            (s.verdict, s.rule, s.rewritten, s.sql) for s in plain.statements
        ]


@RELAXED
@given(text=TEXTS)
def test_a_denied_column_is_never_forwarded_with_its_table(judge: Judge, text: str) -> None:
    judgement = judge.judge(f"select * from customers c where {text or 'true'}".encode())
    if judgement.allowed:
        assert b"app.customers" in judgement.forward
        # every place where the table's name stands is a substitute that lists its columns
        assert judgement.forward.count(b"FROM app.customers)") == judgement.forward.count(b"FROM app.customers")
