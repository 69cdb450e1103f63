"""Postgres's own constructs in words that sqlglot reads: names of tables, columns and functions stay as they are."""

import pytest

from proxy.policy.refusal import Refused
from proxy.policy.transcribe import transcribe


@pytest.mark.parametrize(
    ("text", "plainer"),
    [
        ("select a <@> b, @ c, @-d, e ~<~ f from t", "select a + b, + c, +d, e + f from t"),
        ("select a operator(app.<<<) b", "select a + b"),
        ("select a + b, c = d, e <> f, g != h", "select a + b, c = d, e <> f, g != h"),
        ("select a <<| any (select b from t)", "select a + any (select b from t)"),
        ("select box '(1,2)', app.mood E'ok', date '2024-01-01'", "select text '(1,2)', text E'ok', text '2024-01-01'"),
        ("select interval '1 2' day to second(2)", "select interval '1 2' day to second(2)"),
        ("select a::cube, b::\"Odd\".\"T\", c::regtype[]", "select a::text, b::text, c::text[]"),
        ("select a::int, cast(b as numeric(10,2))", "select a::int, cast(b as numeric(10,2))"),
        ("select g::geometry(4326)", "select g::text"),
        ("select cube(1, 2), delete(h, 'a'), lower(x)", "select \"cube\"(1, 2), \"delete\"(h, 'a'), lower(x)"),
        ("select $1,$2", "select  $1 , $2 "),
        ("select a from t order by a using <, b using operator(pg_catalog.>)", "select a from t order by a , b "),
        ("select * from a join b using (i) as j where j.i = 1", "select * from a join b using (i) where j.i = 1"),
        ("select collation for (a)", 'select "pg_collation_for" (a)'),
        ("select xmlparse(content a), xmlserialize(document b as text)", 'select "xmlparse"( a), cast( b as text)'),
    ],
)  # fmt: skip
def test_plainer_words(text: str, plainer: str) -> None:
    assert transcribe(text) == plainer


def test_search_and_cycle_go() -> None:
    query = "with recursive r(a, b) as (select 1, 2 union all select a, b from r) {} select * from r"
    search, cycle = "search depth first by a, b set o", "cycle a set found to true default false using path"
    assert transcribe(query.format(f"{search} {cycle}")) == query.format(" ")
    assert transcribe(query.format("cycle a set c using p")) == query.format("")


def test_what_stands_in_quotes_or_comments_is_left() -> None:
    text = """select 'a <@> b' as "c <@> d", $$box '1'$$ /* x::cube */ from "cube" -- using <"""
    assert transcribe(text) == text


def test_offsets_are_bytes() -> None:
    assert transcribe("select 'ä€', größe <-> ñ from tür") == "select 'ä€', größe + ñ from tür"


def test_no_sql_is_a_refusal() -> None:
    with pytest.raises(Refused):
        transcribe("select from where")
