"""Charts as inline SVG: bars over time, and bars beside names.

Must not know what is counted. Invariants: a chart needs no script and no file beside it; names pass `page.text`; every
bar says its number in words too (`title`), and none is drawn outside of the chart.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from recorder.page import text

WIDTH: Final = 1000
_STEPS: Final = [timedelta(**step) for step in (
    {"seconds": 1}, {"seconds": 5}, {"seconds": 15}, {"minutes": 1}, {"minutes": 5}, {"minutes": 15}, {"hours": 1},
    {"hours": 6}, {"days": 1}, {"days": 7}, {"days": 30},
)]  # fmt: skip
_MOST_BARS: Final = 96


class Moment(NamedTuple):
    """Something that was counted at a time: how many, and how many of them were refused."""

    at: datetime
    number: int
    refused: int


def over_time(moments: Sequence[Moment], *, least: timedelta = timedelta(seconds=1)) -> str:
    """Bars over time, refused ones in another colour; the step is chosen so that there are at most 96 (not below
    `least`). Empty where nothing was counted."""
    if not moments:
        return ""
    first, last = min(m.at for m in moments), max(m.at for m in moments)
    step = next((s for s in _STEPS if s >= least and (last - first) / s < _MOST_BARS), (last - first) / _MOST_BARS)
    begin = datetime.fromtimestamp(first.timestamp() // step.total_seconds() * step.total_seconds(), UTC)
    bars = [[0, 0] for _ in range(int((last - begin) / step) + 1)]
    for moment in moments:
        bar = bars[int((moment.at - begin) / step)]
        bar[0] += moment.number
        bar[1] += moment.refused
    top = max(1, *(bar[0] for bar in bars))
    left, right, height, base = 52.0, 12.0, 150.0, 168.0
    each = (WIDTH - left - right) / max(len(bars), 12)
    out = [_open(196, "Statements over time")]
    for part in (0.5, 1.0):
        y = base - height * part
        out.append(f'<line class="grid" x1="{left}" x2="{WIDTH - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        if float(top * part).is_integer():
            label = f"{top * part:,.0f}"
            out.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    out.append(f'<line class="grid" x1="{left}" x2="{WIDTH - right}" y1="{base}" y2="{base}"/>')
    for number, (count, refused) in enumerate(bars):
        if count:
            x, wide = left + number * each, max(each - min(each * 0.2, 3), 1)
            said = f"{_when(begin + number * step, step)}: {count:,} statements, {refused:,} refused"
            out.append(f"<g><title>{text(said)}</title>{_bar(x, base, wide, height * count / top, 'bar')}")
            out.append(f"{_bar(x, base, wide, height * refused / top, 'refused') if refused else ''}</g>")
    for number in sorted({0, len(bars) // 2, len(bars) - 1}):
        anchor = "start" if number == 0 else "middle"
        x = left + number * each + (0 if number == 0 else each / 2)
        if x > WIDTH - 80:
            x, anchor = WIDTH - right, "end"
        if number == 0 or x > left + 130:
            moment_text = text(_when(begin + number * step, step))
            out.append(f'<text x="{x:.1f}" y="{base + 18}" text-anchor="{anchor}">{moment_text}</text>')
    return "".join(out) + "</svg>\n"


def beside(named: Sequence[tuple[str, int, str]], *, title: str, kind: str = "bar") -> str:
    """A bar for each name, with its number and what is said of it."""
    if not named:
        return ""
    row, top = 24, max(1, *(count for _, count, _ in named))
    out = [_open(row * len(named) + 12, title)]
    for at, (name, count, said) in enumerate(named):
        y = at * row + 8
        wide = 430 * count / top
        shown = name if len(name) <= 40 else name[:39] + "…"
        out.append(f'<text class="name" x="270" y="{y + 14}" text-anchor="end">{text(shown)}</text>')
        out.append(f'<g><title>{text(name)}: {text(said)}</title><rect class="{kind}" x="280" y="{y + 2}" rx="2"')
        out.append(f' width="{max(wide, 2):.1f}" height="16"/></g>')
        out.append(f'<text x="{288 + max(wide, 2):.1f}" y="{y + 14}">{text(said)}</text>')
    return "".join(out) + "</svg>\n"


def _bar(x: float, base: float, wide: float, high: float, kind: str) -> str:
    high = max(high, 1.0)
    return f'<rect class="{kind}" x="{x:.1f}" y="{base - high:.1f}" width="{wide:.1f}" height="{high:.1f}"/>'


def _open(height: float, title: str) -> str:
    return f'<svg class="chart" role="img" viewBox="0 0 {WIDTH} {height:g}"><title>{text(title)}</title>'


def _when(at: datetime, step: timedelta) -> str:
    if step >= timedelta(days=1):
        return f"{at:%Y-%m-%d}"
    return f"{at:%Y-%m-%d %H:%M}" if step >= timedelta(minutes=1) else f"{at:%Y-%m-%d %H:%M:%S}"
