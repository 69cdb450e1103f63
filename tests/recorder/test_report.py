"""Reports, and the charts in them (recorder.charts, recorder.page): what is counted is what is written."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recorder import charts, report
from recorder.charts import Moment
from recorder.oddities import Odd
from recorder.summary import Summary, Use, summarise
from tests.recorder.scenes import HOSTILE, record
from tests.recorder.support import START
from tests.recorder.test_export import harmless

MADE = datetime(2026, 12, 1, 8, 30, tzinfo=UTC)

GOLDEN = """\
# Access report: vendor acme

2026-11-23 09:00 UTC to 2026-11-23 09:00 UTC; made 2026-12-01 08:30 UTC.

- sessions: **1**
- statements: **24**
- refused: **18**
- masked: **1**
- failed: **1**
- rows: **2,002**
- bytes: **20 KiB**
- connected: **0:17 min**
- Persons: jane
- Vendors: acme
- Grants: g-7k3m9x2q
- Databases: app
- Policies: vendor-readonly
- Addresses: 203.0.113.7
- Clients: psql

## Unusual

- 18 statements were refused in one session"""


def test_markdown(tmp_path: Path) -> None:
    record(tmp_path)
    text = report.markdown(summarise(tmp_path, vendor="acme"), made=MADE)
    shown = re.sub(r"refused in one session.*", "refused in one session", text)
    shown = re.sub(r"bytes: \*\*.*\*\*", "bytes: **20 KiB**", shown)
    shown = re.sub(r"connected: \*\*.*\*\*", "connected: **0:17 min**", shown)
    assert shown.startswith(GOLDEN)
    assert "\n| app.orders | 1 | 2,000 |\n" in text
    assert "\n| app.customers.id | 1 |\n" in text
    assert "\n| statement | 1 |\n" in text
    assert "\n| 2026-11-23T09:00:00Z | 24 | 18 |\n" in text


def test_markdown_takes_nothing_for_its_own(tmp_path: Path) -> None:
    record(tmp_path, vendor="[x](http://evil.example) <b>|`")
    text = report.markdown(summarise(tmp_path), made=MADE)
    assert "[x](" not in text
    assert r"\[x\](http://evil.example) \<b\>\|\`" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) in (3, 4) for row in rows)
    assert not re.search(r"(?<!\\)<", text)


def test_html_is_harmless_and_says_the_same(tmp_path: Path) -> None:
    record(tmp_path, person=HOSTILE[0])
    total = summarise(tmp_path)
    text = report.html(total, made=MADE)
    found = harmless(text)
    assert "script-src &#x27;none&#x27;" in text
    assert "<script>" not in text
    for words in ("Access report: all sessions", "Tables by rows", "Refusals by rule", "app.orders", "2,000 rows"):
        assert words in found.shown
    assert sum(tag == "svg" for tag, _ in found.tags) == 3


def test_nothing() -> None:
    total = Summary()
    assert "nothing was recorded" in report.markdown(total, made=MADE)
    harmless(report.html(total, made=MADE))


def test_what_is_left_out_is_said() -> None:
    total = Summary(
        sessions=40,
        tables={f"app.t{n:02}": Use(1, n) for n in range(40)},
        unusual=[Odd("slow", f"slow {n}", f"s-{n}", START) for n in range(9)] + [Odd("damaged", "gone", "s-9")],
        persons={f"p{n:02}": n for n in range(11)},
        since=START,
    )
    text = report.markdown(total, made=MADE)
    assert "\n15 more.\n" in text
    assert text.index("- gone (s-9)") < text.index("- slow 0 (s-0, 2026-11-23 09:00 UTC)")
    assert "- … the same in 4 more sessions" in text
    assert "- Persons: p10, p09, p08, p07, p06, p05, p04, p03 and 3 more" in text
    assert "2026-11-23 09:00 UTC to now" in text


@pytest.mark.parametrize("days", [0, 0.001, 0.1, 3, 40, 400, 4000])
def test_every_moment_is_in_a_bar(days: float) -> None:
    moments = [Moment(START + timedelta(days=days * n / 50), n, n // 2) for n in range(1, 51)]
    drawn = charts.over_time(moments)
    said = [
        (int(a.replace(",", "")), int(b.replace(",", "")))
        for a, b in re.findall(r": ([\d,]+) statements, ([\d,]+) refused", drawn)
    ]
    assert sum(count for count, _ in said) == sum(m.number for m in moments)
    assert sum(refused for _, refused in said) == sum(m.refused for m in moments)
    assert len(said) <= 97
    for x, y, width, height in re.findall(
        r'<rect class="\w+" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', drawn
    ):
        assert 50 <= float(x) <= float(x) + float(width) <= charts.WIDTH
        assert 0 <= float(y) <= float(y) + float(height) <= 169


def test_bars_beside_names() -> None:
    drawn = charts.beside([("<b>&", 10, "10 rows"), ("x" * 60, 0, "none")], title="t")
    assert "&lt;b&gt;&amp;" in drawn
    assert "x" * 41 not in drawn.split("<title>" + "x")[0]
    assert charts.beside([], title="t") == charts.over_time([]) == ""
