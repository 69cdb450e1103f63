"""What one policy would newly allow or refuse compared with another, in words.

On a catalog it compares what both show of each table, so that patterns mean tables; without one it compares what is
declared. Pure. Invariant: two policies between which nothing is said here judge every statement alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from proxy.policy.bind import Bound, entry_for
from proxy.policy.model import Hold, Mask, Policy, SqlMask, Table, Window
from proxy.units import format_duration, format_size

Effect = Literal["allows", "refuses", "changes"]
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DURATIONS = frozenset({"statement_timeout", "idle", "transaction"})
_ORDER = {"allows": 0, "refuses": 1, "changes": 2}


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: `what` names its place, `effect` says what the second policy does compared with the first."""

    what: str
    effect: Effect
    text: str


def compare(a: Policy, b: Policy) -> list[Change]:
    """What `b` declares otherwise than `a`."""
    found = _settings(a, b)
    if a.mode == b.mode == "enforce":
        for pattern in sorted({*a.model.tables, *b.model.tables}):
            found += _declared(pattern, _entry(a, pattern), _entry(b, pattern))
    return sorted(found, key=lambda c: _ORDER[c.effect])


def compare_on(a: Bound, b: Bound) -> list[Change]:
    """What `b` shows otherwise than `a`, both bound to one catalog."""
    found = _settings(a.policy, b.policy)
    if a.policy.mode == b.policy.mode == "enforce":
        for schema, name in sorted({*a.relations, *b.relations}):
            if schema not in ("pg_catalog", "information_schema"):
                found += table(a, b, schema, name)
    return sorted(found, key=lambda c: _ORDER[c.effect])


def table(a: Bound, b: Bound, schema: str, name: str, only: Iterable[str] | None = None) -> list[Change]:
    """What `b` shows otherwise of one table; `only`: of these columns."""
    mine, theirs = a.relations.get((schema, name)), b.relations.get((schema, name))
    what = f"{schema}.{name}"
    entries = entry_for(a.policy.model.tables, schema, name), entry_for(b.policy.model.tables, schema, name)
    old, new = (found[1] if found else Table() for found in entries)
    if mine is None or theirs is None:
        if theirs is not None:
            return [Change(what, "allows", f"readable: {_described(new, theirs.columns)}")]
        if mine is None:
            return []
        why = b.refused.get((schema, name))
        return [Change(what, "refuses", f"no longer readable{': ' + why if why else ''}")]
    columns = [c for c in mine.relation.columns if only is None or c in only]
    found = [
        Change(f"{what}.{c}", "allows" if c in theirs.columns else "refuses", _shown(c in theirs.columns, new, c))
        for c in columns
        if (c in mine.columns) != (c in theirs.columns)
    ]
    both = [c for c in columns if c in mine.columns and c in theirs.columns]
    return found + _masks(what, both, old, new) + _rows(what, old, new)


def _shown(shown: bool, entry: Table, column: str) -> str:
    if not shown:
        return "hidden; it was shown"
    mask = entry.mask.get(column)
    return f"shown, masked as {_mask(mask)}; it was hidden" if mask else "shown; it was hidden"


def _masks(what: str, columns: Iterable[str], old: Table, new: Table) -> list[Change]:
    found = []
    for column in columns:
        before, after = old.mask.get(column), new.mask.get(column)
        if before == after:
            continue
        if after is None:
            found.append(Change(f"{what}.{column}", "allows", f"shown as it is; it was masked as {_mask(before)}"))
        elif before is None:
            found.append(Change(f"{what}.{column}", "refuses", f"masked as {_mask(after)}; it was shown as it is"))
        else:
            text = f"masked as {_mask(after)}; it was masked as {_mask(before)}"
            found.append(Change(f"{what}.{column}", "changes", text))
    return found


def _rows(what: str, old: Table, new: Table) -> list[Change]:
    if old.rows == new.rows:
        return []
    if new.rows is None:
        return [Change(what, "allows", f"all rows; it was only those where {old.rows}")]
    if old.rows is None:
        return [Change(what, "refuses", f"only rows where {new.rows}; it was all of them")]
    return [Change(what, "changes", f"rows where {new.rows}; it was those where {old.rows}")]


def _mask(mask: Mask | None) -> str:
    return f"({mask.sql})" if isinstance(mask, SqlMask) else str(mask)


def _described(entry: Table, columns: Iterable[str] | None = None) -> str:
    """What an entry shows, in words; `columns` are those of the table where they are known."""
    if entry.columns is not None:
        shown = (
            ", ".join(c for c in entry.columns if columns is None or c in columns) or "no columns, only how many rows"
        )
    else:
        shown = f"all columns but {', '.join(entry.deny)}" if entry.deny else "all columns"
    known = entry.mask if columns is None else {c: m for c, m in entry.mask.items() if c in set(columns)}
    masks = "".join(f"; {c} masked as {_mask(m)}" for c, m in known.items())
    return f"{shown}{masks}{f'; only rows where {entry.rows}' if entry.rows else ''}"


# -- what is declared ----------------------------------------------------------------------------------------------


def _entry(policy: Policy, pattern: str) -> Table | None:
    """The entry under a pattern, or the wider one that holds for a plain name."""
    found = policy.model.tables.get(pattern)
    if found is None and not any(c in pattern for c in "*?["):
        wider = entry_for(policy.model.tables, *pattern.split(".", 1))
        return wider[1] if wider else None
    return found


def _declared(pattern: str, old: Table | None, new: Table | None) -> list[Change]:
    if old is None or new is None:
        if new is not None:
            return [Change(pattern, "allows", f"readable: {_described(new)}")]
        return [Change(pattern, "refuses", "no longer readable")] if old is not None else []
    found = _declared_columns(pattern, old, new)
    either = dict.fromkeys([*old.mask, *new.mask])
    found += _masks(pattern, [c for c in either if _shows(old, c) and _shows(new, c)], old, new)
    found += _rows(pattern, old, new)
    if old.trusted != new.trusted:
        effect: Effect = "allows" if new.trusted else "refuses"
        found.append(Change(pattern, effect, "trusted" if new.trusted else "no longer trusted"))
    return found


def _shows(entry: Table, column: str) -> bool:
    return column in entry.columns if entry.columns is not None else column not in entry.deny


def _declared_columns(pattern: str, old: Table, new: Table) -> list[Change]:
    named = dict.fromkeys([*(old.columns or ()), *old.deny, *(new.columns or ()), *new.deny])
    found = [
        Change(f"{pattern}.{c}", "allows" if _shows(new, c) else "refuses", _shown(_shows(new, c), new, c))
        for c in named
        if _shows(old, c) != _shows(new, c)
    ]
    if old.columns is not None and new.columns is None:
        found.append(Change(pattern, "allows", f"{_described(Table(deny=new.deny))}; it was only those listed"))
    if old.columns is None and new.columns is not None:
        found.append(Change(pattern, "refuses", f"only {', '.join(new.columns)}; it was {_described(old)}"))
    return found


# -- everything but tables -----------------------------------------------------------------------------------------


def _settings(a: Policy, b: Policy) -> list[Change]:
    old, new = a.model, b.model
    found: list[Change] = []
    if old.mode != new.mode:
        if new.mode == "observe":
            found.append(Change("mode", "allows", "observe: everything; it is recorded, and nothing is refused"))
        else:
            found.append(Change("mode", "refuses", "enforce: whatever the policy does not name"))
    found += _members("databases", old.databases, new.databases, "may be used on {}", "may no longer be used on {}")
    if old.search_path != new.search_path:
        text = f"{_words(new.search_path)}; it was {_words(old.search_path)}"
        found.append(Change("search_path", "changes", text))
    found += _members("functions", old.functions.allow, new.functions.allow, "{}() may run", "{}() may no longer run")
    for name in type(new.limits).model_fields:
        found += _limit(name, getattr(old.limits, name), getattr(new.limits, name))
    found += _window(old.window, new.window)
    found += _network(a.network, b.network)
    if old.greeting != new.greeting:
        found.append(Change("greeting", "changes", "on; it was off" if new.greeting else "off; it was on"))
    found += _approvals(old.approvals, new.approvals)
    found += _hold(old.hold, new.hold)
    for key, need in (("agreements", "the agreement {}"), ("prechecks", "the precheck {}")):
        found += [
            Change(c.what, "refuses" if c.effect == "allows" else "allows", c.text)
            for c in _members(
                key, getattr(old, key), getattr(new, key), f"a grant needs {need}", f"a grant no longer needs {need}"
            )
        ]
    return found


def _members(what: str, old: list[str], new: list[str], added: str, removed: str) -> list[Change]:
    return [Change(what, "allows", added.format(x)) for x in dict.fromkeys(new) if x not in old] + [
        Change(what, "refuses", removed.format(x)) for x in dict.fromkeys(old) if x not in new
    ]


def _words(values: Iterable[str]) -> str:
    return ", ".join(values) or "none"


def _limit(name: str, old: float | None, new: float | None) -> list[Change]:
    return _bound(f"limits.{name}", old, new, lambda value: _amount(name, value))


def _bound(what: str, old: float | None, new: float | None, form: Any) -> list[Change]:
    """A value that allows more the larger it is, and everything where it is absent."""
    if old == new:
        return []
    if new is None:
        return [Change(what, "allows", f"no limit; it was {form(old)}")]
    if old is None:
        return [Change(what, "refuses", f"at most {form(new)}; there was no limit")]
    return [Change(what, "allows" if new > old else "refuses", f"at most {form(new)}; it was {form(old)}")]


def _amount(name: str, value: float) -> str:
    if name in _DURATIONS:
        return format_duration(value)
    return format_size(int(value)) if name.startswith("bytes") else f"{value:,.10g}"


def _window(old: Window, new: Window) -> list[Change]:
    found = _bound("window.max", old.max, new.max, format_duration)
    before, after = _weekdays(old.days), _weekdays(new.days)
    for effect, days in (("allows", after - before), ("refuses", before - after)):
        if days:
            when = ", ".join(d for d in _DAYS if d in days)
            text = f"also on {when}" if effect == "allows" else f"no longer on {when}"
            found.append(Change("window.days", effect, text))  # type: ignore[arg-type]  # one of the two above
    if old.hours != new.hours:
        (start, end), (first, last) = _minutes(new.hours), _minutes(old.hours)
        wraps = end <= start or last <= first
        wider, tighter = start <= first and end >= last, start >= first and end <= last
        effect_: Effect = "changes" if wraps or wider == tighter else "allows" if wider else "refuses"
        found.append(Change("window.hours", effect_, f"{new.hours or 'all day'}; it was {old.hours or 'all day'}"))
    if old.timezone != new.timezone:
        found.append(Change("window.timezone", "changes", f"{new.timezone}; it was {old.timezone}"))
    return found


def _weekdays(text: str | None) -> frozenset[str]:
    """`mon-wed,fri` as a set; a range may pass over Sunday."""
    days: set[str] = set()
    for part in (text or "mon-sun").split(","):
        first, _, last = part.partition("-")
        start, end = _DAYS.index(first), _DAYS.index(last.split("-")[-1] or first)
        days |= {_DAYS[i % 7] for i in range(start, end + 1 + (7 if end < start else 0))}
    return frozenset(days)


def _minutes(hours: str | None) -> tuple[int, int]:
    start, end = (60 * int(t[:2]) + int(t[3:]) for t in (hours or "00:00-24:00").split("-"))
    return start, end


def _network(old: tuple[str, ...], new: tuple[str, ...]) -> list[Change]:
    if set(old) == set(new):
        return []
    if not new:
        return [Change("network", "allows", f"from everywhere; it was only from {_words(old)}")]
    if not old:
        return [Change("network", "refuses", f"only from {_words(new)}; it was from everywhere")]
    return _members("network", list(old), list(new), "also from {}", "no longer from {}")


def _approvals(old: Any, new: Any) -> list[Change]:
    before, after = (x.count if x else 0 for x in (old, new))
    found = []
    if before != after:
        text = f"{after or 'no'} needed; it was {before or 'none'}"
        found.append(Change("approvals", "refuses" if after > before else "allows", text))
    if old and new and set(old.from_) != set(new.from_):
        text = f"from {_words(new.from_)}; it was from {_words(old.from_)}"
        found.append(Change("approvals", "changes", text))
    return found


def _hold(old: Hold | None, new: Hold | None) -> list[Change]:
    """What waits for another person's yes counts as refused until then."""
    before, after = ([*x.tables, *(f"{f}()" for f in x.functions)] if x else [] for x in (old, new))
    found = [
        Change("hold", "refuses" if c.effect == "allows" else "allows", c.text)
        for c in _members("hold", before, after, "{} waits for an approval", "{} no longer waits for an approval")
    ]
    if old and new and set(old.from_) != set(new.from_):
        found.append(Change("hold", "changes", f"approved by {_words(new.from_)}; it was by {_words(old.from_)}"))
    if old and new and old.timeout != new.timeout:
        text = f"waits for {format_duration(new.timeout)}; it was {format_duration(old.timeout)}"
        found.append(Change("hold", "changes", text))
    return found
