"""Events: the keys that are promised are always there, and no content can stop a record."""

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

import recorder.nodelog  # noqa: F401 - its entries are events too
from recorder.events import Cancel, Event, GrantEvent, Outcome, SessionEnd, Statement, encode
from tests.recorder.support import start, statement


def test_promised_keys_are_written_even_where_they_hold_nothing() -> None:
    line = json.loads(encode(statement()))
    assert line.keys() >= {"event", "n", "sql", "params", "verdict", "rule", "rewritten"}
    line = json.loads(encode(Outcome(n=1, rows=0, bytes=0, ms=0.0, sqlstate=None)))
    assert line == {"event": "outcome", "n": 1, "rows": 0, "bytes": 0, "ms": 0.0, "sqlstate": None}
    line = json.loads(encode(SessionEnd(reason="client", detail=None, statements=0)))
    assert line == {"event": "session.end", "reason": "client", "detail": None, "statements": 0}


def test_names_of_events() -> None:
    assert json.loads(encode(start()))["event"] == "session.start"
    assert json.loads(encode(Cancel())) == {"event": "cancel"}
    assert json.loads(encode(GrantEvent(action="created", grant="g", by="ops")))["event"] == "grant"


def test_hostile_values_become_text() -> None:
    hostile = Statement(
        n=1,
        sql="select '\ud800'",
        params=[
            2**70,
            b"\x00\xff",
            Decimal("1.5"),
            datetime(2026, 1, 1, tzinfo=UTC),
            float("nan"),
            {1: "\udfff"},
            object,
        ],
        verdict="allow",
        rule=None,
        rewritten=None,
    )
    line = json.loads(encode(hostile))
    assert line["sql"] == "select '\\ud800'"
    assert line["params"][0] == str(2**70)
    assert len(line["params"]) == 7


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.binary() | st.text()


@given(st.text(st.characters(exclude_categories=())), st.lists(VALUES))
def test_any_statement_is_one_line_of_json(sql: str, params: list[object]) -> None:
    event = Statement(n=1, sql=sql, params=params, verdict="deny", rule="parser", rewritten=None)
    line = encode(event)
    assert b"\n" not in line
    assert json.loads(line)["verdict"] == "deny"
    assert len(json.loads(line)["params"]) == len(params)


def test_no_event_has_a_key_of_the_line() -> None:
    kinds = [*Event.__subclasses__()]
    assert len(kinds) >= 14  # with those of the node log
    for kind in kinds:
        assert not {"seq", "at", "prev", "event", "key", "sig"} & set(kind.__struct_fields__), kind


def test_every_event_and_key_is_in_the_reference() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "record.md").read_text()
    sections = dict(re.findall(r"^### `([a-z.]+)`\n(.*?)(?=^##)", text, re.DOTALL | re.MULTILINE))
    kinds = {str(kind.__struct_config__.tag): kind for kind in Event.__subclasses__()}
    assert sections.keys() == kinds.keys()
    for name, kind in kinds.items():
        for key in kind.__struct_fields__:
            assert f"`{key}`" in sections[name], (name, key)
