"""What a client sees of answers, and how two answers differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from proxy.policy import oracle
from proxy.policy.judgement import Judgement
from tests.twoworld.worlds import Result, Scrub


def seen(results: list[Result], scrubbed: bool) -> tuple[Any, ...]:
    """What a client sees of answers, but for the order of rows and for texts that are not scrubbed yet."""
    return tuple(
        (
            r.status,
            r.tag,
            r.header,
            tuple(sorted(map(repr, r.rows))),
            r.sqlstate,
            r.position,
            r.told if scrubbed else "",
        )
        for r in results
    )


def told(results: list[Result], verdict: Judgement, scrub: Scrub | None) -> list[Result]:
    """The answers with the texts that the session leaves of errors and notices."""
    if scrub is None or not verdict.veiled:
        return results
    return [replace(r, told=repr(scrub(r.fields)), fields=b"") if r.sqlstate else r for r in results]


def cells(results: list[Result]) -> list[Any]:
    """Every value by itself, in order."""
    out: list[Any] = []
    for r in results:
        out += [r.status, r.sqlstate]
        for row in r.rows:
            out += list(row) if isinstance(row, tuple) else row.split(b"\t")
    return out


def params(verdict: Judgement) -> list[bytes | None] | None:
    """Values for the parameters of a single statement; None where it has none."""
    if b"$" not in verdict.forward or len(verdict.statements) != 1:
        return None
    numbers = [p["number"] for p in _found(oracle.tree(verdict.forward), "ParamRef") if "number" in p]
    return [b"1"] * max(numbers) if numbers and max(numbers) < 100 else None


def _found(value: Any, name: str) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        for item in value:
            yield from _found(item, name)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == name:
                yield item
            yield from _found(item, name)


def leaves_state(verdict: Judgement) -> bool:
    """Whether a session is another one after it."""
    return any(s.kind != "select" for s in verdict.statements) or b"set_config" in verdict.forward


def difference(one: list[Result], two: list[Result]) -> str:
    """The first thing in which two answers differ."""
    for a, b in zip(one, two, strict=False):
        if a.rows != b.rows:
            rows = [sorted(map(repr, r.rows)) for r in (a, b)]
            only = [[x for x in rows[i] if x not in rows[1 - i]][:2] for i in (0, 1)]
            return f"{len(a.rows)} rows {only[0]} / {len(b.rows)} rows {only[1]}"[:500]
        if a != b:
            return f"{replace(a, rows=())} / {replace(b, rows=())}"[:700]
    return f"{len(one)} / {len(two)} answers"


def changed(before: list[Any], after: list[Any]) -> str:
    """What is another one in the fingerprints of databases."""
    for a, b in zip(before, after, strict=True):
        for x, y in zip(a, b, strict=True):
            if x != y:
                if isinstance(x, str) and "=" in x:
                    return f"{sorted(set(str(y).split(',')) - set(x.split(',')))}"
                return f"{x!r} -> {y!r}"[:300]
    return "?"
