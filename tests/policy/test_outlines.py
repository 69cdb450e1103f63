"""proxy/policy/outlines.py: an outline may only join texts that Postgres's own lexer joins too."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy import oracle, outlines
from proxy.policy.judgement import SPACE
from tests.policy.conftest import Judging


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        (b"select a from t where id = 42;", b"select a from t where id = \x01;"),
        (b"select a from t where n in (1, 'x y') limit 5", b"select a from t where n in (\x01, \x01) limit \x01"),
        (b"select a from t1 where b2 = 1.5", b"select a from t1 where b2 = 1.5"),
        (b"select 1234567890", b"select 1234567890"),
    ],
)
def test_plain_constants_leave_holes(sql: bytes, found: bytes) -> None:
    assert outlines.outline(sql) == found


@pytest.mark.parametrize(
    "sql",
    [
        b"select 'it''s'", b"select E'a'", b"select B'1'", b"select x'1f'", b"select U&'a'", b"select $1",
        b"select $$a$$",
        b'select "a b"', b"select 1 -- 2", b"select /* 1 */ 2", b"select 'a\\b'", "select 'ä'".encode(),
        b"select 'a\0b'",
        b"select 'a", b"select \x01", b"select 'a\nb'", b"select '" + b"a" * 3000 + b"'",
    ],
)  # fmt: skip
def test_what_is_not_plain_has_no_outline(sql: bytes) -> None:
    assert outlines.outline(sql) is None


@pytest.mark.parametrize(
    "sql",
    [
        b"select -5", b"select 'a'\n'b'", b"select interval(3) '5'", b"select x::varchar(10) from t",
        b"select a from t order by 1", b"select 1e5, 2", b"select 1..2",
    ],
)  # fmt: skip
def test_where_postgres_sees_other_constants_the_outline_is_not_used(sql: bytes) -> None:
    found = outlines.outline(sql)
    assert found is None or not outlines.fits(found, oracle.normalize(sql))


WORDS = """
select from where t a a1 = , ( ) ; . : :: + - * [ ] 'x' 'x_y' '' ' 1 22 333333333 4444444444 1.5 .5 1e3 0x1f 1_0
interval date timestamp varchar(3) order by limit offset is null in any cast( as int ) E'a' & U& x' $ " -- /*
"""
PIECES = st.sampled_from(WORDS.split())
TEXTS = st.lists(st.tuples(PIECES, st.sampled_from(("", " ", "\n"))), max_size=14).map(
    lambda pieces: "".join(word + space for word, space in pieces).encode()
)
OTHER = st.tuples(st.integers(0, 999_999_999), st.text(" !#%&()*+,./0189:;<=>?@AZ[]^_`az{|}~", max_size=8))


@given(TEXTS, st.lists(OTHER, min_size=14, max_size=14))
def test_texts_of_one_outline_have_one_shape(sql: bytes, others: list[tuple[int, str]]) -> None:
    sql = b"select " + sql
    found, shape = outlines.outline(sql), oracle.normalize(sql)
    if found is None or not outlines.fits(found, shape):
        return
    first, *rest = found.split(outlines.HOLE)
    spans = iter(others)
    twin, at = first, len(first)
    for part in rest:
        number, text = next(spans, (7, "x"))
        quoted = sql[at : at + 1] == b"'"
        at = sql.index(b"'", at + 1) + 1 if quoted else at + len(sql[at:]) - len(sql[at:].lstrip(b"0123456789"))
        twin += (b"'" + text.encode() + b"'" if quoted else b"%d" % number) + part
        at += len(part)
    assert outlines.outline(twin) in (found, None)
    assert oracle.normalize(twin) == shape


def test_the_judge_gives_each_text_of_an_outline_its_own_words(judging: Judging) -> None:
    judge = judging("name: r\ndatabases: [shop]\nsearch_path: [app]\ntables: {app.orders: {}}\n")
    texts = [b"select id from orders where id = %d and status = 'x%d' " % (n, n) for n in range(50)]
    for sql in [*texts, *texts]:
        found = judge.at_once(sql)
        assert found is not None
        assert found.allowed
        assert (found.forward, found.statements[0].sql) == (sql, sql.decode().strip(SPACE))
        assert found == judge.uncached(sql)
    assert judge.at_once(b"select id from orders where id = 5 and secret = 'x'") is not None
