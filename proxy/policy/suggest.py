"""The least policy that statements which were recorded need: tables, columns and functions, and nothing beside them.

Cuts a grant's policy down to what was used; masks, row filters and limits stay. Where the policy only observed, it
writes the tables that were read. Pure. Invariant: no statement that the policy allowed is refused by the suggestion;
where a cut would do that, the entry stays as it was.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from proxy.catalog import Catalog, Relation
from proxy.policy import oracle
from proxy.policy.bind import Bound, entry_for
from proxy.policy.judge import Judge
from proxy.policy.model import Functions, Policy, Table
from proxy.policy.redraft import redraft
from proxy.policy.refusal import Refused
from proxy.policy.uses import EVERYTHING, Key, Uses, everything, uses

_SYSTEM = ("pg_catalog", "information_schema")


@dataclass(frozen=True, slots=True)
class Uncovered:
    """A statement that ran and that no suggestion can allow."""

    sql: bytes
    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A policy file's text, and what a reader has to know about it."""

    text: str
    notes: tuple[str, ...]
    uncovered: tuple[Uncovered, ...]

    def diff(self, policy: Policy, name: str) -> str:
        """The suggestion as a unified diff against the policy."""
        before, after = policy.text.splitlines(), self.text.splitlines()
        lines = difflib.unified_diff(before, after, f"a/{name}", f"b/{name}", lineterm="")
        return "".join(f"{line}\n" for line in lines)


@dataclass
class _Draft:
    """What the suggestion shows so far: entries by pattern, and functions."""

    policy: Policy
    catalog: Catalog
    tables: dict[str, Table]
    functions: set[str]

    def judge(self) -> Judge:
        """A judge for this draft."""
        model = self.policy.model.model_copy(
            update={
                "mode": "enforce",
                "tables": self.tables,
                "functions": Functions(allow=sorted(self.functions)),
            }
        )
        return Judge(Policy(model, model.model_dump_json(by_alias=True), "draft"), self.catalog)


def suggest(policy: Policy, catalog: Catalog, statements: Iterable[bytes]) -> Suggestion:
    """The least policy under which every one of `statements` that `policy` allows is allowed."""
    texts = list(dict.fromkeys(statements))
    notes: list[str] = []
    observing = policy.mode == "observe"
    if observing:
        path = _search_path(policy, catalog, texts, notes)
        base = Judge(everything(catalog, path, name=policy.name, harmless=True), catalog)
    else:
        base = Judge(policy, catalog)
    kept, uncovered = [], []
    for sql in texts:
        refusal = base.judge(sql).refusal
        if refusal is None:
            kept.append(sql)
        else:
            uncovered.append(Uncovered(sql, refusal.rule, refusal.reason))
    draft = _cut(base, catalog, kept)
    judge = draft.judge()
    for sql in kept:
        if not judge.judge(sql).allowed:
            _mend(draft, base, sql)
            judge = draft.judge()
    if not observing and not all(judge.judge(sql).allowed for sql in kept):
        notes.append("the statements need the policy as it is")
        draft.tables, draft.functions = dict(policy.model.tables), set(policy.model.functions.allow)
    if not draft.tables:
        notes.append("none of the statements reads a table, so the tables stay as they are")
        draft.tables = dict(policy.model.tables)
    notes += _trusted(draft) if observing else []
    return _written(policy, base, draft, notes, uncovered)


def _written(policy: Policy, base: Judge, draft: _Draft, notes: list[str], uncovered: list[Uncovered]) -> Suggestion:
    """The suggestion in the words of the policy's own file."""
    judge = draft.judge()
    broken = []
    for index, test in enumerate(policy.model.tests):
        judged = judge.judge(test.sql.encode())
        refusal = judged.refusal
        first = refusal or (judged.statements[0] if judged.statements else None)
        right = judged.verdict == test.verdict and test.rule in (None, first.rule if first else "allow")
        if not right or (not refusal and _names_hidden(base.bound, judge.bound, test.sql)):
            broken.append(index)
    if broken:
        notes.append(f"{len(broken)} of {len(policy.model.tests)} tests expect more than was used, and are left out")
    if not draft.tables:
        return Suggestion(policy.text, tuple(notes), tuple(uncovered))
    text = redraft(
        policy,
        tables=draft.tables,
        functions=draft.functions,
        search_path=base.policy.search_path if policy.mode == "observe" else (),
        dropped_tests=broken,
    )
    return Suggestion(text, tuple(notes), tuple(uncovered))


def _names_hidden(old: Bound, new: Bound, sql: str) -> bool:
    """Whether a statement names a column that only the first shows; Postgres refuses it, not the guard."""
    found = uses(old, sql.encode())
    return found is not None and any(
        columns - set(new.relations[key].columns) for key, columns in found.named.items() if key in new.relations
    )


# -- what is needed ------------------------------------------------------------------------------------------------


def _cut(base: Judge, catalog: Catalog, kept: list[bytes]) -> _Draft:
    """Entries for what was read, with the columns that were used."""
    bound = base.bound
    need = Uses()
    for sql in kept:
        found = uses(bound, sql)
        if found is not None:
            need.add(found)
            continue
        for name in {t for s in base.judge(sql).statements for t in s.tables}:
            key = _key(catalog, name)
            need.all.setdefault(key, set())
            need.whole.add(key)
    tables: dict[str, Table] = {}
    under: set[Key] = set()
    observed = bound.policy.file == EVERYTHING
    for key in need.all:
        shown = bound.relations.get(key)
        found_entry = entry_for(bound.policy.model.tables, *key)
        if key[0] in _SYSTEM or shown is None or found_entry is None:
            continue
        entry = found_entry[1]
        if observed:
            entry = Table(trusted=_needs_trust(catalog, shown.relation))
        if shown.relation.kind in "vm" and not entry.trusted:
            under |= _under(bound, shown.relation)
        if key not in need.whole and not set(shown.columns) <= need.all[key]:
            columns = [c for c in shown.columns if c in need.all[key]]
            masks = {c: m for c, m in entry.mask.items() if c in columns}
            entry = entry.model_copy(update={"columns": columns, "deny": [], "mask": masks})
        tables[f"{key[0]}.{key[1]}"] = entry
    for key in under:  # a view shows what it reads only where that is given whole
        found_entry = entry_for(bound.policy.model.tables, *key)
        if found_entry:
            tables[f"{key[0]}.{key[1]}"] = found_entry[1]
    functions = {
        f"{schema}.{name}"
        for schema, name in bound.allowed_functions
        if any(words[-1] == name and words[:-1] in ((), (schema,)) for words in need.functions)
    }
    order = list(bound.policy.model.tables)
    ranked = sorted(tables, key=lambda t: (order.index(_pattern(bound, t)), t))
    return _Draft(bound.policy, catalog, {t: tables[t] for t in ranked}, functions)


def _key(catalog: Catalog, qualified: str) -> Key:
    found = next((k for k in catalog.by_name if ".".join(k) == qualified), None)
    return found or ("", qualified)


def _pattern(bound: Bound, table: str) -> str:
    found = entry_for(bound.policy.model.tables, *table.split(".", 1))
    return found[0] if found else table


def _under(bound: Bound, view: Relation) -> set[Key]:
    """The relations that a view reads, however deep."""
    found: set[Key] = set()
    waiting = [view]
    while waiting:
        for oid in waiting.pop().reads:
            relation = bound.catalog.by_oid.get(oid)
            if relation is not None and (relation.schema, relation.name) not in found:
                found.add((relation.schema, relation.name))
                waiting.append(relation)
    return found


def _needs_trust(catalog: Catalog, relation: Relation) -> bool:
    """Views and foreign tables show what the policy does not name."""
    return relation.kind in "vmf" and bool(relation.kind == "f" or relation.reads or relation.calls)


def _trusted(draft: _Draft) -> list[str]:
    return [
        f"{name} is marked trusted: it shows what it reads, whatever the policy says of the tables under it"
        for name, entry in draft.tables.items()
        if entry.trusted
    ]


# -- no statement is lost ------------------------------------------------------------------------------------------


def _mend(draft: _Draft, base: Judge, sql: bytes) -> None:
    """A cut refuses a statement: put back its tables' entries, then whatever it names, but what it can do without."""
    old = base.policy.model.tables
    cut = dict(draft.tables)
    own = {
        name: _plain(found[1], base)
        for name in {t for s in base.judge(sql).statements for t in s.tables}
        if name in cut and (found := entry_for(old, *_key(draft.catalog, name)))
    }
    draft.tables |= own
    if draft.judge().judge(sql).allowed:
        return
    draft.tables = cut
    text = sql.decode(errors="replace").lower()
    named = {
        shown.relation.qualified: _plain(found[1], base)
        for key, shown in base.bound.relations.items()
        if key[0] not in _SYSTEM and key[1].lower() in text and (found := entry_for(old, *key))
    }
    before, functions = set(draft.tables), set(draft.functions)
    for more in (
        named,
        {} if base.policy.file == EVERYTHING else old,
    ):  # names inside strings and types; then every entry there is
        draft.tables |= {p: t for p, t in more.items() if p not in draft.tables}
        draft.functions |= set(base.policy.model.functions.allow)
        if draft.judge().judge(sql).allowed:
            break
    for function in sorted(draft.functions - functions):
        draft.functions.remove(function)
        if not draft.judge().judge(sql).allowed:
            draft.functions.add(function)
    for pattern in [p for p in draft.tables if p not in before]:
        entry = draft.tables.pop(pattern)
        if not (draft.tables and draft.judge().judge(sql).allowed):
            draft.tables[pattern] = entry


def _plain(entry: Table, base: Judge) -> Table:
    return Table() if base.policy.file == EVERYTHING else entry


# -- where names were looked for -----------------------------------------------------------------------------------


def _search_path(policy: Policy, catalog: Catalog, texts: list[bytes], notes: list[str]) -> tuple[str, ...]:
    """The search_path of sessions that had none pinned: what they set, then the schemas that hold the names used."""
    if policy.search_path:
        return policy.search_path
    path: list[str] = []
    names: dict[str, None] = {}
    for sql in texts:
        try:
            trees = oracle.tree(sql)
        except Refused:
            continue
        for raw in trees:
            setting = raw["stmt"].get("VariableSetStmt", {})
            if setting.get("name") == "search_path":
                path += [s for a in setting.get("args", []) if (s := _constant(a)) and s not in path]
            names |= dict.fromkeys(_unqualified(raw["stmt"]))
    path = [s for s in path if any(r.schema == s for r in catalog.relations)]
    for name in names:
        holders = sorted({r.schema for r in catalog.relations if r.name == name and r.kind in "rpvmf"} - set(_SYSTEM))
        if not holders or any(s in path for s in holders) or ("pg_catalog", name) in catalog.by_name:
            continue
        chosen = "public" if "public" in holders else holders[0]
        if len(holders) > 1:
            notes.append(f"{name} stands in {', '.join(holders)}; {chosen} is assumed")
        path.append(chosen)
    return tuple(path)


def _constant(node: Any) -> str:
    value: str = node.get("A_Const", {}).get("sval", {}).get("sval", "")
    return value


def _unqualified(node: Any) -> Iterable[str]:
    """Names of tables that are written without a schema."""
    if isinstance(node, list):
        for item in node:
            yield from _unqualified(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in ("RangeVar", "relation") and isinstance(value, dict) and "relname" in value:
                if "schemaname" not in value:
                    yield value["relname"]
            else:
                yield from _unqualified(value)
