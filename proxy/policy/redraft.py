"""A policy file with other tables, functions and tests in it: its text is edited, and what stays is left as written.

Works on the lines of a file in YAML's block style; one that is not is written anew. Knows nothing of what the entries
mean. Invariant: the text that comes out loads, and says of everything but the parts that were replaced what it said.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import yaml

from proxy.policy.load import parse
from proxy.policy.model import Policy, Table

WIDTH = 110
_Section = tuple[int, int]


def redraft(
    policy: Policy,
    *,
    tables: Mapping[str, Table],
    functions: Collection[str],
    search_path: Collection[str] = (),
    dropped_tests: Collection[int] = (),
) -> str:
    """The policy's text with these tables and functions, in enforce mode, without some of its tests (by index)."""
    root = yaml.compose(policy.text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode) or root.flow_style or "&" in policy.text or "<<" in policy.text:
        return _anew(policy, tables, functions, search_path, dropped_tests)
    lines = policy.text.splitlines()
    found = _sections([key for key, _ in root.value], len(lines), lines)
    nodes = {key.value: value for key, value in root.value}
    out: list[str] = lines[: min(start for start, _ in found.values())]
    for name, (start, end) in found.items():
        body, rest = _parted(lines[start:end])
        if name == "mode" and policy.mode == "observe":
            body = []
        elif name == "tables":
            body = _tables(policy, nodes[name], body, start, tables)
        elif name == "functions" and set(functions) != set(policy.model.functions.allow):
            body = _functions(functions)
        elif name == "tests" and dropped_tests:
            body = _tests(policy, nodes[name], body, start, dropped_tests)
        out += body
        if name == "databases":  # what an observing policy may do without
            out += [f"search_path: {_flow(list(search_path))}"] if search_path and "search_path" not in nodes else []
            out += _block(tables) if "tables" not in nodes else []
            out += _functions(functions) if "functions" not in nodes else []
        elif name == "search_path" and search_path and not policy.model.search_path:
            out[-len(body) :] = [f"search_path: {_flow(list(search_path))}"]
        out += rest
    text = "\n".join(out) + "\n"
    return text if _says(text, tables, functions) else _anew(policy, tables, functions, search_path, dropped_tests)


def _says(text: str, tables: Mapping[str, Table], functions: Collection[str]) -> bool:
    model = parse(text, "suggestion").model
    return model.tables == dict(tables) and set(model.functions.allow) == set(functions)


def _sections(keys: list[Any], end: int, lines: list[str]) -> dict[str, _Section]:
    """The lines of each key of a block mapping: from its own to the next one's."""
    starts = [key.start_mark.line for key in keys]
    return {key.value: (a, b) for key, a, b in zip(keys, starts, [*starts[1:], end], strict=True)}


def _parted(lines: list[str]) -> tuple[list[str], list[str]]:
    """A section's own lines, and the blank and comment lines after them, which belong to what follows."""
    at = len(lines)
    while at > 1 and (not lines[at - 1].strip() or lines[at - 1].lstrip().startswith("#")):
        at -= 1
    return lines[:at], lines[at:]


def _tables(policy: Policy, node: Any, body: list[str], start: int, tables: Mapping[str, Table]) -> list[str]:
    old = policy.model.tables
    if tables == old:
        return body
    if node.flow_style or not isinstance(node, yaml.MappingNode):
        return _block(tables)
    found = _sections([key for key, _ in node.value], start + len(body), body)
    first = min(a for a, _ in found.values())
    indent = " " * node.value[0][0].start_mark.column
    out = body[: first - start]
    pending = dict(tables)
    for pattern, (a, b) in found.items():
        own, rest = _parted(body[a - start : b - start])
        entry = pending.pop(pattern, None)
        if entry is not None:
            out += own if entry == old[pattern] else _entry(indent, pattern, entry)
        out += rest
    for pattern, entry in pending.items():
        out += _entry(indent, pattern, entry)
    return out


def _block(tables: Mapping[str, Table]) -> list[str]:
    return ["tables:", *(line for pattern, entry in tables.items() for line in _entry("  ", pattern, entry))]


def _entry(indent: str, pattern: str, entry: Table) -> list[str]:
    data = entry.model_dump(exclude_defaults=True, mode="json")
    line = f"{indent}{_flow(pattern)}: {_flow(data)}"
    if len(line) <= WIDTH:
        return [line]
    return [f"{indent}{_flow(pattern)}:", *(f"{indent}  {key}: {_flow(value)}" for key, value in data.items())]


def _functions(functions: Collection[str]) -> list[str]:
    return [f"functions: {{allow: {_flow(sorted(functions))}}}"] if functions else []


def _tests(policy: Policy, node: Any, body: list[str], start: int, dropped: Collection[int]) -> list[str]:
    if len(dropped) == len(policy.model.tests):
        return []
    if node.flow_style or not isinstance(node, yaml.SequenceNode):
        kept = [t for i, t in enumerate(policy.model.tests) if i not in dropped]
        return ["tests:", *(f"  - {_flow(t.model_dump(exclude_none=True))}" for t in kept)]
    starts = [item.start_mark.line for item in node.value]
    out = body[: starts[0] - start]
    for index, (a, b) in enumerate(zip(starts, [*starts[1:], start + len(body)], strict=True)):
        own, rest = _parted(body[a - start : b - start])
        out += (own if index not in dropped else []) + rest
    return out


def _anew(
    policy: Policy,
    tables: Mapping[str, Table],
    functions: Collection[str],
    search_path: Collection[str],
    dropped_tests: Collection[int],
) -> str:
    data = policy.model.model_dump(exclude_defaults=True, by_alias=True, mode="json", exclude={"mode"})
    data["tables"] = {p: t.model_dump(exclude_defaults=True, mode="json") for p, t in tables.items()}
    data["functions"] = {"allow": sorted(functions)}
    if search_path:
        data["search_path"] = list(search_path)
    data["tests"] = [t for i, t in enumerate(data.get("tests", [])) if i not in dropped_tests]
    data = {key: value for key, value in data.items() if value not in ([], {"allow": []})}
    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, default_flow_style=None, width=WIDTH)
    return text


def _flow(value: Any) -> str:
    """A value in one line of YAML."""
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=1 << 20)
    return text.removesuffix("...\n").strip()
