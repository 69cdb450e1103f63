"""Every form of export: whole, harmless, and in the words of its format. Covers recorder.exchanges, recorder.page,
recorder.export_asciicast and recorder.export_html too."""

from __future__ import annotations

import csv
import io
import json
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder import export_html, timeline
from recorder.events import Event
from recorder.exchanges import Exchange, exchanges
from recorder.export import FORMATS
from recorder.export_csv import HEAD, cell
from recorder.scene import visible
from tests.recorder.scenes import HOSTILE, done, record, said, scene
from tests.recorder.support import sealed

STATEMENTS = 7 + len(HOSTILE)


def exported(path: Path, form: str) -> str:
    out = io.StringIO(newline="")
    FORMATS[form][1](path, out, ())
    return out.getvalue()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("record"), person=HOSTILE[0], application_name=HOSTILE[1])


@pytest.mark.parametrize("form", FORMATS)
def test_no_form_plays_with_a_terminal(path: Path, form: str) -> None:
    text = exported(path, form)
    if form == "asciicast":
        text = re.sub(r"\\u001b\[[0-9;]*m", "", text)
        assert "\\u001b" not in text
    assert not set(text) & set("\x1b\x07\x9b\u202e")
    assert "你好" in text


@pytest.mark.parametrize("form", FORMATS)
def test_an_empty_recording_and_one_without_an_end(tmp_path: Path, form: str) -> None:
    (tmp_path / "x").write_bytes(b"")
    exported(tmp_path / "x", form)
    (whole,) = sealed(tmp_path)
    lines = whole.read_bytes().splitlines(keepends=True)
    whole.write_bytes(b"".join(lines[:2]))
    assert "select 1" in exported(whole, form) or form == "asciicast"


def test_exchanges(path: Path) -> None:
    found = list(exchanges(timeline.read(path), rows=True))
    statements = [one for one in found if isinstance(one, Exchange)]
    assert [one.statement.n for one in statements] == list(range(1, STATEMENTS + 1))
    assert [one.outcome is None for one in statements] == [False] * (STATEMENTS - 1) + [True]
    assert [len(one.rows) for one in statements[:6]] == [1, 0, 0, 0, 0, 1]
    assert len(found) == STATEMENTS + 1 + 1 + 1 + len(HOSTILE) + 2  # start, notice, notification, notices, cancel, end


def test_exchanges_of_a_pipeline(tmp_path: Path) -> None:
    events: list[Event] = [said(1, "a"), said(2, "b"), said(3, "c"), done(2), done(1), done(9), done(3)]
    found = list(exchanges(timeline.read(record(tmp_path, events))))
    assert [one.statement.n for one in found if isinstance(one, Exchange)] == [1, 2, 3]
    assert all(one.outcome for one in found if isinstance(one, Exchange))


def test_csv(path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(exported(path, "csv"), newline="")))
    assert len(rows) == STATEMENTS
    first = rows[0]
    assert tuple(first) == HEAD
    assert (first["n"], first["verdict"], first["rows"], first["first_ms"]) == ("1", "mask", "2", "0.5")
    assert first["params"] == '["DE"]'
    assert first["columns"] == "app.customers.id"
    assert rows[-1]["rows"] == ""
    for row in rows:
        for value in row.values():
            assert value.strip()[:1] not in set("=+-@|%＝＋－＠"), value


@given(st.text())
def test_no_cell_is_a_formula(text: str) -> None:
    shown = cell(text)
    assert not shown.strip() or shown.strip()[0] not in "=+-@"
    assert text.isprintable() is False or shown.removeprefix("'") in (text, text.removeprefix("'"))


def test_asciicast(path: Path) -> None:
    header, *events = [json.loads(line) for line in exported(path, "asciicast").splitlines()]
    assert header["version"] == 3
    assert header["term"].keys() >= {"cols", "rows"}
    assert header["timestamp"] == 1795424400
    assert {code for _, code, _ in events} == {"o", "m", "x"}
    assert all(after >= 0 and isinstance(data, str) for after, _, data in events)
    *_, last = timeline.read(path)
    assert sum(after for after, _, _ in events) == pytest.approx(last.offset)
    assert sum(code == "m" for _, code, _ in events) == 1 + len(HOSTILE)
    assert events[-1] == [0.0, "x", "0"]
    shown = "".join(data for _, code, data in events if code == "o")
    assert "\n" not in shown.replace("\r\n", "")
    assert "REFUSED by rule statement: DELETE changes data" in shown


class Tags(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.shown = ""
        self._in: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self._in = [*self._in[: len(self._in) - self._in[::-1].index(tag) - 1]]

    def handle_data(self, data: str) -> None:
        if self._in[-1:] not in (["script"], ["style"]):
            self.shown += data


def harmless(text: str) -> Tags:
    """A page that can run and fetch nothing but what we put in it."""
    found = Tags(text)
    allowed = {
        "html", "head", "meta", "title", "style", "body", "main", "script", "h1", "h2", "p", "div", "span", "b",
        "svg", "g",
        "rect", "line", "text", "form", "input", "select", "option", "output", "pre", "time", "table", "tr", "th", "td",
        "footer", "code", "ul", "li", "small", "thead", "tbody",
    }  # fmt: skip
    assert {tag for tag, _ in found.tags} <= allowed
    for tag, attributes in found.tags:
        assert not {name for name in attributes if name.startswith("on") or name in ("src", "href", "style", "action")}
        assert tag != "link"
    policy = next(a["content"] or "" for t, a in found.tags if t == "meta" and a.get("http-equiv"))
    assert policy.startswith("default-src 'none';")
    for name in ("style", "script"):
        for source in re.findall(rf"<{name}>(.*?)</{name}>", text, re.DOTALL):
            assert f"'sha256-{b64encode(sha256(source.encode()).digest()).decode()}'" in policy
    assert len(re.findall("<script>", text)) <= 1
    assert "url(" not in text.split("</style>", maxsplit=1)[0]
    assert "@import" not in text
    return found


def test_html(path: Path) -> None:
    text = exported(path, "html")
    found = harmless(text)
    statements = [attributes for tag, attributes in found.tags if (attributes.get("class") or "").startswith("s ")]
    assert len(statements) == STATEMENTS
    assert [(one.get("class"), one.get("data-tables"), one.get("data-rows")) for one in statements[:4]] == [
        ("s masked", "app.customers", "2"),
        ("s refused", "app.customers", "0"),
        ("s ok", "", "0"),
        ("s failed", "", "0"),
    ]
    for hostile in HOSTILE:
        assert visible(hostile) in found.shown.replace("\xa0", " ")
    assert "2 of 2,000 rows, of which 2 were recorded" in found.shown
    assert "a***@x" in found.shown


def test_html_shows_so_many_rows_of_a_result(tmp_path: Path) -> None:
    from recorder.events import Rows

    values = [[[str(n)] for n in range(at, at + 90)] for at in range(0, 540, 90)]
    events: list[Event] = [said(1, "select"), *(Rows(n=1, values=part) for part in values), done(1, 540)]
    text = exported(record(tmp_path, events), "html")
    assert text.count("<td>") == export_html.MOST_ROWS
    assert "200 of 540 rows, of which 540 were recorded" in text


def test_text_is_the_transcript(path: Path) -> None:
    text = exported(path, "text")
    assert "app=> delete from app.customers\n              ✗ REFUSED by rule statement: DELETE changes data\n" in text
    assert "heard on news (3 bytes)" in text
    assert len(scene()) > 50
