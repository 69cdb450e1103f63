"""Searching, held against a plain look through the same statements."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder import search, search_feed, search_store
from recorder.events import Outcome, Statement
from recorder.journal import Recorder
from recorder.search import Query, QuerySyntaxError
from recorder.search_store import SearchIndexError
from tests.recorder.support import START, Ticker, end, start

PEOPLE = [("jane", "acme"), ("joe", "zeta")]
TABLES = ["app.customers", "app.orders", "hr.pay"]


@dataclass
class Known:
    """One statement that was played, as the plain look has it."""

    session: str
    person: str
    vendor: str
    n: int
    sql: str
    verdict: str
    rule: str | None
    tables: list[str]
    rows: int
    words: set[str]


def played(folder: Path, sessions: int = 3, statements: int = 20) -> list[Known]:
    clock, known = Ticker(), []
    recorder = Recorder(folder, now=clock)
    for s in range(sessions):
        person, vendor = PEOPLE[s % 2]
        recording = recorder.open(f"s-{s}", start(f"s-{s}", person=person, vendor=vendor, grant=f"g-{s}"))
        for n in range(1, statements + 1):
            x = s * statements + n
            tables = [TABLES[x % 3]] + ([TABLES[0]] if x % 5 == 0 else [])
            deny = x % 4 == 0
            sql = f"select c{x % 7} from {', '.join(tables)} where note = 'word{x % 6}' and deny_{x % 2} is null"
            rule = ("table", "column")[x % 8 == 0] if deny else None
            verdict = "deny" if deny else "allow"
            rows = 0 if deny else 10 ** (x % 5)
            recording.append(
                Statement(
                    n=n, sql=sql, params=[f"p{x % 3}", None, 5], verdict=verdict, rule=rule, rewritten=None,
                    kind="select", tables=tables, functions=["pg_catalog.lower"],
                )
            )  # fmt: skip
            recording.append(Outcome(n=n, rows=rows, bytes=rows, ms=1, sqlstate="42501" if deny else None))
            facts = f"{verdict} {rule or ''} select {person} {vendor} {'42501' if deny else ''} {' '.join(tables)} "
            words = set(re.findall(r"[\w$]+", f"{sql} {facts} p{x % 3} 5 pg_catalog lower".lower()))
            known.append(Known(f"s-{s}", person, vendor, n, sql, verdict, rule, tables, rows, words))
        recording.close(end(statements))
    recorder.close()
    search_feed.update(folder)
    return known


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Known]]:
    folder = tmp_path_factory.mktemp("record")
    return folder, played(folder)


def found(folder: Path, **asked: Any) -> list[tuple[str, int]]:
    return [(hit.session, hit.n) for hit in search.search(folder, Query(**{"limit": 1000, **asked})).hits]


WORD = st.sampled_from(
    ["customers", "orders", "deny", "word1", "word3", "p1", "jane", "acme", "lower", "c3", "nothing"]
)
FILTER = {
    "person": st.sampled_from(["jane", "joe", "jan"]),
    "verdict": st.sampled_from(["deny", "allow"]),
    "table": st.sampled_from(["app.customers", "customers", "pay", "app"]),
    "rule": st.sampled_from(["table", "column"]),
    "session": st.sampled_from(["s-1", "s-2", "s"]),
    "min_rows": st.sampled_from([1, 10, 11, 5000, 10_000, 10**9]),
}


@settings(max_examples=150, deadline=None)
@given(
    words=st.lists(st.tuples(st.sampled_from(["AND", "OR", "NOT"]), WORD), max_size=3),
    filters=st.fixed_dictionaries({}, optional=FILTER),
    few=st.sampled_from([0, 3, search.FEW]),
)
def test_as_a_plain_look_finds_it(
    world: tuple[Path, list[Known]], words: list[tuple[str, str]], filters: dict[str, Any], few: int
) -> None:
    folder, known = world
    text = ""  # ((a AND b) NOT c) OR d: every step in brackets, so that precedence does not matter
    for operator, word in words:
        text = f"({text} {operator} {word})" if text else word

    def fits(one: Known) -> bool:
        holds = True
        for at, (operator, word) in enumerate(words):
            has = word in one.words
            after = {"AND": holds and has, "OR": holds or has, "NOT": holds and not has}
            holds = after[operator] if at else has
        for name, value in filters.items():
            if name == "table":
                holds = holds and any(table == value or table.endswith(f".{value}") for table in one.tables)
            elif name == "min_rows":
                holds = holds and one.rows >= value
            else:
                holds = holds and getattr(one, name) == value
        return holds

    expected = [(one.session, one.n) for one in reversed(known) if fits(one)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "FEW", few)  # both ways to look for large results
        assert found(folder, text=text, **filters) == expected


def test_pages_join_without_a_gap_or_a_double(world: tuple[Path, list[Known]]) -> None:
    folder, known = world
    seen: list[tuple[str, int]] = []
    after: str | None = None
    pages = 0
    while True:
        page = search.search(folder, Query(text="select", limit=7, after=after))
        seen += [(hit.session, hit.n) for hit in page.hits]
        pages += 1
        if page.next is None:
            break
        after = page.next
    assert pages == -(-len(known) // 7)
    assert seen == [(one.session, one.n) for one in reversed(known)]
    with pytest.raises(QuerySyntaxError, match="is not the `next` of a page"):
        found(folder, after="x")


def test_a_period(world: tuple[Path, list[Known]]) -> None:
    folder, known = world
    hits = search.search(folder, Query(limit=1000)).hits
    middle = hits[20].at
    assert len(found(folder, since=middle)) == 21
    assert len(found(folder, until=middle, text="select")) == len(known) - 21
    assert found(folder, since=START + timedelta(days=1)) == []


def test_what_a_hit_says(world: tuple[Path, list[Known]]) -> None:
    folder, known = world
    hit = search.search(folder, Query(limit=1)).hits[0]
    last = known[-1]
    assert (hit.session, hit.n, hit.seq, hit.sql, hit.cut) == ("s-2", 20, 40, last.sql, False)
    assert (hit.person, hit.vendor, hit.grant, hit.database) == ("jane", "acme", "g-2", "app")
    assert (hit.verdict, hit.rule, hit.rows, hit.sqlstate) == ("deny", "table", 0, "42501")
    assert (hit.tables, hit.functions) == (last.tables, ["pg_catalog.lower"])
    assert Path(hit.recording).exists()


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("customers AND", "it ends too soon"),
        ("AND customers", 'syntax error near "AND"'),
        ("(customers", "stands without its )"),
        ("customers) OR (orders", "stands without its ("),
        ('"customers', "a quoted phrase does not end"),
        ("colour:red", "there is no field 'colour'"),
        ("customers,orders", 'syntax error near ","'),
        ("*", "unknown special query"),
        ("customers\0", "a character that no text has"),
        ("customers\udcff", "a character that no text has"),
    ],
)
def test_what_cannot_be_read_is_said(world: tuple[Path, list[Known]], query: str, says: str) -> None:
    with pytest.raises(QuerySyntaxError) as error:
        found(world[0], text=query, person="jane")
    assert says in str(error.value)
    with pytest.raises(QuerySyntaxError, match=re.escape(says)):
        found(world[0], text=query, min_rows=10**9)  # where no word is looked for


@pytest.mark.parametrize(
    ("query", "like"),
    [
        ("app.customers", '"app customers"'),
        ('"from app.customers"', '"from app customers"'),
        ("tables:hr.pay", "tables : (hr AND pay)"),
        ("word3 p0", "word3 AND p0"),
        ("cust*", "customers"),
        ("note = 'word1'", "note AND word1"),
    ],
)
def test_words_as_people_type_them(world: tuple[Path, list[Known]], query: str, like: str) -> None:
    assert found(world[0], text=query) == found(world[0], text=like) != []


def test_a_client_cannot_pass_for_another(tmp_path: Path) -> None:
    """A filter's word in the text of a statement is a word of that text, and not the filter's."""
    from recorder.search_words import key

    recorder = Recorder(tmp_path, now=Ticker())
    recording = recorder.open("s-1", start())
    sql = f"select '{key('person', 'joe')} keys:{key('verdict', 'deny')}'"
    recording.append(Statement(n=1, sql=sql, params=[key("person", "joe")], verdict="allow", rule=None, rewritten=None))
    recorder.close()
    search_feed.update(tmp_path)
    assert found(tmp_path, person="joe") == []
    assert found(tmp_path, verdict="deny") == []
    assert found(tmp_path, person="jane") == [("s-1", 1)]


def test_no_index_and_a_broken_one(tmp_path: Path) -> None:
    with pytest.raises(SearchIndexError, match="there is no search index"):
        found(tmp_path)
    played(tmp_path, 1, 2)
    search_store.place(tmp_path).write_bytes(b"nonsense" * 1000)
    with pytest.raises(SearchIndexError, match="rebuild it"):
        found(tmp_path)
    search_feed.rebuild(tmp_path)
    assert len(found(tmp_path)) == 2
