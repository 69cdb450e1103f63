"""What a name in a statement means under the pinned search_path, and whether the policy gives it.

Relations, functions, types, operators and collations; the worse reading counts where Postgres decides by argument
types that are not known here. Raises Refused. (Manual, chapter 10 "Type Conversion".)
"""

from __future__ import annotations

import re
from typing import Any

from proxy.catalog import Function
from proxy.policy import builtins, oracle
from proxy.policy.bind import Bound, Shown
from proxy.policy.oracle import Node
from proxy.policy.refusal import Refused

# What raw names of casts and type names become in pg_catalog.format_type's words.
_TYPE_WORDS = {
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "bool": "boolean",
    "float4": "real",
    "float8": "double precision",
    "varchar": "character varying",
    "bpchar": "character",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
    "time": "time without time zone",
    "timetz": "time with time zone",
}
_SYNTAX_SINCE = dict.fromkeys(
    (
        "JsonObjectConstructor",
        "JsonArrayConstructor",
        "JsonArrayQueryConstructor",
        "JsonObjectAgg",
        "JsonArrayAgg",
        "JsonAggConstructor",
        "JsonIsPredicate",
    ),
    160000,
) | dict.fromkeys(("JsonParseExpr", "JsonScalarExpr", "JsonSerializeExpr", "JsonFuncExpr", "JsonTable"), 170000)
_FIRST_UNPINNED = 10_000  # oids below it are assigned by hand in Postgres's sources (transam.h)
_ROW_TYPES = frozenset({71, 75, 81, 83})  # of pg_type, pg_attribute, pg_proc and pg_class
_VALUED = frozenset({"client_encoding", "client_min_messages"})  # settings of which only some values are harmless
_NAMING_TYPES = frozenset(
    """regclass regproc regprocedure regnamespace regoper regoperator regconfig regdictionary regcollation""".split()  # noqa: SIM905
)
_TYPMOD = re.compile(r"\(.*?\)")
_OPERATORS_OF = {
    "AEXPR_IN": ("=", "<>"),
    "AEXPR_DISTINCT": ("=",),
    "AEXPR_NOT_DISTINCT": ("=",),
    "AEXPR_NULLIF": ("=",),
    "AEXPR_BETWEEN": (">=", "<="),
    "AEXPR_NOT_BETWEEN": ("<", ">"),
    "AEXPR_BETWEEN_SYM": (">=", "<="),
    "AEXPR_NOT_BETWEEN_SYM": ("<", ">"),
}


class Names:
    """Names under one bound policy."""

    def __init__(self, bound: Bound) -> None:
        self.bound = bound
        self.catalog = bound.catalog
        self.by_literal = False  # whether the verdict depends on a constant's value or type

    # -- relations -------------------------------------------------------------------------------------------------

    def relation(self, node: Node) -> Shown:
        """What is shown of the relation that a RangeVar names."""
        schema, name = node.get("schemaname"), node["relname"]
        words = f"{schema}.{name}" if schema else name
        database = node.get("catalogname")
        if database is not None and database != self.catalog.database:
            raise Refused("table", "another database cannot be read from here", "", node.get("location"))
        found = self.bound.resolve(schema, name)
        shown = self.bound.relations.get(found) if found else None
        if shown is not None:
            return shown
        if found in self.bound.refused:
            raise Refused("table", f"{words}: {self.bound.refused[found]}", "", node.get("location"))
        system = (found or (schema,))[0] in ("pg_catalog", "information_schema")
        raise Refused(
            "catalog" if system else "table",
            f"{words} cannot be read under the policy {self.bound.policy.name}",
            builtins.CATALOG_HINTS.get(name, "psql's \\d commands work.") if system else self._readable_hint(name),
            node.get("location"),
        )

    def _readable_hint(self, name: str) -> str:
        readable = [
            s.relation
            for s in self.bound.relations.values()
            if s.relation.schema not in ("pg_catalog", "information_schema")
        ]
        same = [r.qualified for r in readable if r.name == name]
        if same:
            return f"Did you mean {same[0]}?"
        listed = ", ".join(sorted(r.qualified for r in readable)[:8])
        return f"Readable: {listed}{', …' if len(readable) > 8 else ''}." if listed else ""

    # -- functions -------------------------------------------------------------------------------------------------

    def function(self, funcname: list[Any], location: int | None, *, allow: tuple[str, ...] = ()) -> list[Function]:
        """Checks a function's name; returns the overloads of others than Postgres that the name can also mean."""
        words = oracle.names(funcname)
        if words == ("pg_catalog", "json_object") and self.catalog.server_version_num < 160000:
            words = words[1:]  # a keyword in the grammar, a plain name to this server
        name, schema = words[-1], words[-2] if len(words) > 1 else None
        if len(words) > 2 and words[0] != self.catalog.database:
            raise Refused("function", "another database cannot be reached from here", "", location)
        rivals = [
            f
            for f in self.catalog.functions_by_name.get(name, ())
            if f.schema == schema or (schema is None and f.schema in self.bound.path)
        ]
        builtin = schema in (None, "pg_catalog") and name in self.catalog.builtin_functions
        known = name in builtins.FUNCTIONS or name in allow or (schema is not None and name in builtins.QUALIFIED_ONLY)
        if schema == "information_schema" and name in builtins.INFORMATION_SCHEMA_FUNCTIONS:
            return []
        if builtin and name in builtins.CODE:
            raise Refused("function", "the code of functions is not shown", builtins.CODE[name], location)
        if builtin and not known:
            raise Refused(
                "function",
                f"the function {name}() is not on the list of functions without side effects",
                self._function_hint(name),
                location,
            )
        refused = [f for f in rivals if not self.bound.function_allowed(f)]
        if not builtin and (refused or not rivals):
            words_text = ".".join(words)
            raise Refused(
                "function",
                f"the function {words_text}() is not allowed by the policy {self.bound.policy.name}",
                self._function_hint(name),
                location,
            )
        return refused

    def _function_hint(self, name: str) -> str:
        if name in builtins.QUALIFIED_ONLY:
            return f"Drivers may ask pg_catalog.{name}()."
        if name in builtins.FUNCTION_HINTS:
            return builtins.FUNCTION_HINTS[name]
        allowed = sorted(".".join(f) for f in self.bound.allowed_functions)
        return f"Beside Postgres's own the policy allows {', '.join(allowed)}." if allowed else ""

    def call(self, node: Node, types: dict[str, str | None]) -> None:
        """One FuncCall: its name, its dangerous constants, and that no rival overload can be meant."""
        words = oracle.names(node["funcname"])
        location = node.get("location")
        arguments = node.get("args", [])
        name = words[-1]
        if self._settings(name, words, arguments, location):
            return
        if name in ("xpath", "xpath_exists") and arguments:
            self._xpath(_constant(arguments[0]), location)
        if name == "format" and arguments:
            self._format(_constant(arguments[0]), location)
        if name in builtins.NAMING and arguments:
            self._named(_constant(arguments[0]), location)
        limited = name in builtins.LIMITED and words[:-1] in ((), ("pg_catalog",))  # see `arguments`
        self.by_literal |= limited
        rivals = self.function(node["funcname"], location, allow=(name,) if limited else ())
        if name in builtins.SIZED and words[:-1] in ((), ("pg_catalog",)) and len(arguments) > builtins.SIZED[name]:
            self.by_literal = True
            size = _constant(arguments[builtins.SIZED[name]])
            if (isinstance(size, int) and size > builtins.SIZE_LIMIT) or _computed(arguments[builtins.SIZED[name]]):
                raise Refused("limit.size", f"{name}() could make a value of any size", "Write the number.", location)
        self.by_literal |= bool(rivals)
        if rivals and not self._builtin_wins(name, node, rivals, types):
            rival = rivals[0]
            raise Refused(
                "function",
                f"{name}() can mean {rival.schema}.{name}({', '.join(rival.args)}), which the policy does not allow",
                f"Write pg_catalog.{name}(…) for Postgres's own.",
                location,
            )
        if node.get("func_variadic") and words[:-1] not in ((), ("pg_catalog",)):
            raise Refused("function", f"VARIADIC is not judged for {'.'.join(words)}()", "", location)

    def _builtin_wins(self, name: str, node: Node, rivals: list[Function], types: dict[str, str | None]) -> bool:
        """Whether Postgres must take its own overload: no rival differs, or the argument types fit its own exactly."""
        own = self.catalog.builtin_functions.get(name, ())
        # pg_catalog stands first in the path: a rival of the very same arguments is never taken.
        rivals = [f for f in rivals if f.variadic or f.args not in own]
        if not rivals:
            return True
        arguments = node.get("args", [])
        if node.get("func_variadic"):
            return False
        given = tuple(_type_of(a, types) for a in arguments)
        return None not in given and given in own

    def _settings(self, name: str, words: tuple[str, ...], arguments: list[Any], location: int | None) -> bool:
        """set_config: allowed for settings that change nothing that matters."""
        if words[:-1] not in ((), ("pg_catalog",)):
            return False
        self.by_literal |= name in builtins.SETTING_WRITERS
        if name in builtins.SETTING_WRITERS:
            setting = _constant(arguments[0]) if arguments else None
            if isinstance(setting, str) and builtins.setting(setting) in builtins.WRITABLE_SETTINGS - _VALUED:
                return True
            raise Refused("setting", "this setting is pinned for the session", "", location)
        return False

    # -- operators, types, collations ------------------------------------------------------------------------------

    def operator(self, node: Node) -> None:
        """Every operator that an A_Expr can mean."""
        words = oracle.names(node.get("name", []))
        kind, location = node.get("kind", "AEXPR_OP"), node.get("location")
        for implied in _OPERATORS_OF.get(kind, ()):
            self.bound.check_operator((implied,), location)
        if kind not in ("AEXPR_BETWEEN", "AEXPR_NOT_BETWEEN", "AEXPR_BETWEEN_SYM", "AEXPR_NOT_BETWEEN_SYM"):
            self.bound.check_operator(words, location)

    def type(self, node: Node) -> None:
        """A type name: Postgres's own scalar types, or types of the policy's schemas that run no code."""
        words = oracle.names(node.get("names", []))
        location = node.get("location")
        if node.get("setof") or node.get("pct_type"):
            raise Refused("type", "SETOF and %TYPE are not judged", "", location)
        name, schema = words[-1], words[-2] if len(words) > 1 else None
        if schema in (None, "pg_catalog") and name in self.catalog.builtin_types:
            if self.catalog.builtin_types[name] in ("c",):
                raise Refused("type", f"the row type of {name} cannot be used", "", location)
            return
        for candidate in self.bound.path if schema is None else (schema,):
            if (candidate, name) in self.catalog.types_by_name:
                self._own_type(candidate, name, location)
                return
            if schema is not None and schema == "information_schema":
                return
        raise Refused("type", f"the type {'.'.join(words)} cannot be used", "", location)

    def _own_type(self, schema: str, name: str, location: int | None) -> None:
        found = self.catalog.types_by_name[schema, name]
        if found.kind == "c":
            if self.catalog.by_name[schema, name].kind == "c":  # CREATE TYPE … AS, no table's rows
                if schema in self.bound.schemas and not found.runs_code:
                    return
                raise Refused("type", f"the type {schema}.{name} cannot be used", "", location)
            shown = self.bound.relations.get((schema, name))
            if shown is None or shown.substitute or found.runs_code:
                raise Refused("type", f"the row type {schema}.{name} cannot be used", "", location)
            return
        if found.extension in builtins.EXTENSIONS:
            return
        if schema not in self.bound.schemas or found.runs_code or (found.kind == "b" and not found.extension):
            raise Refused("type", f"the type {schema}.{name} cannot be used", "", location)

    def parameter(self, oid: int) -> None:
        """The declared type of a parameter: a scalar of Postgres's own, or a type that a cast could name."""
        if 0 <= oid < _FIRST_UNPINNED and oid not in _ROW_TYPES:
            return
        found = self.catalog.types_by_oid.get(oid)
        if found is None or found.schema == "information_schema":
            raise Refused("type", f"a parameter is declared with a type (oid {oid}) that cannot be used", "")
        self._own_type(found.schema, found.name, None)

    def cast(self, node: Node) -> None:
        """A constant cast to a reg* type names an object: only what the policy shows may be named."""
        target = oracle.names(node["typeName"].get("names", []))[-1]
        if target not in _NAMING_TYPES:
            return
        self.by_literal = True
        value = _constant(node["arg"])
        if not isinstance(value, str) or value.isdigit() or value == "-":
            return
        location = node.get("location")
        if target == "regclass":
            self._named(value, location)
        elif target == "regnamespace":
            words = oracle_identifier(value)
            if words is None or words[-1] not in self.bound.schemas | {"pg_catalog", "information_schema"}:
                hint = f"The policy shows tables of {', '.join(sorted(self.bound.schemas))}."
                raise Refused("table", f"the schema {value} is not in the policy", hint, location)
        elif target in ("regconfig", "regdictionary", "regcollation"):
            words = oracle_identifier(value)
            if words is None or (len(words) > 1 and words[-2] not in self.bound.schemas | {"pg_catalog"}):
                raise Refused("type", f"{value} is of a schema that is not in the policy", "", location)
        else:
            words = oracle_identifier(value.partition("(")[0])
            if words is None or target in ("regoper", "regoperator"):
                raise Refused("function", "this name is not judged", "", location)
            if words[:-1] in ((), ("pg_catalog",)) and words[-1] in self.catalog.builtin_functions:
                return  # a name, not a call
            self.function([{"String": {"sval": w}} for w in words], location)

    def _xpath(self, path: str | int | None, location: int | None) -> None:
        """libxml looks at no interrupt: a path that walks the document inside a predicate cannot be stopped."""
        self.by_literal = True
        if not isinstance(path, str) or len(path) > 200 or path.count("[") > 1 or path.count("//") > 1:
            hint = "Write the path as a constant with at most one [predicate] and one //."
            raise Refused("limit.nesting", "this XPath could run for hours", hint, location)

    def _format(self, template: str | int | None, location: int | None) -> None:
        """format('%1000000000s', …) makes a value of any size."""
        if not isinstance(template, str):
            return
        self.by_literal = True
        if re.search(r"%(?:\d+\$)?-?(?:\*|\d{5,})", template):
            raise Refused("limit.size", "format() could make a value of any size", "Leave the width out.", location)

    def _named(self, value: str | int | None, location: int | None) -> None:
        """A constant that names a relation: one that can be read, or an oid."""
        if not isinstance(value, str) or value.isdigit() or value == "-":
            return
        self.by_literal = True
        words = oracle_identifier(value)
        found = self.bound.resolve(words[-2] if len(words) > 1 else None, words[-1]) if words else None
        if found is None or found not in self.bound.relations:
            reason = f"{value} cannot be read under the policy {self.bound.policy.name}"
            raise Refused("table", reason, self._readable_hint(words[-1] if words else ""), location)

    def user_cast(self, node: Node, types: dict[str, str | None]) -> None:
        """Refuses a cast that a function which is not allowed could carry out. (CREATE CAST in the manual.)"""
        casts = [c for c in self.catalog.casts if self.bound.cast_refused(c)]
        if not casts or "A_Const" in node["arg"]:
            return
        target = _cast_type(node["typeName"])
        source = _type_of(node["arg"], types)
        for cast in casts:
            if target in (None, cast.target) and source in (None, cast.source):
                raise Refused(
                    "function",
                    f"this cast can run {cast.function_schema}.{cast.function}()",
                    "The policy does not allow it under functions.",
                    node.get("location"),
                )

    def newer_syntax(self, kind: str, location: int | None) -> None:
        """Words that are syntax to our grammar and plain function names to an older server."""
        needs = _SYNTAX_SINCE.get(kind, 0)
        if self.catalog.server_version_num < needs:
            raise Refused("parser", f"this needs Postgres {needs // 10000}", "", location)

    def collation(self, node: Node) -> None:
        """A collation: Postgres's own, or of a schema of the policy."""
        words = oracle.names(node["collname"])
        name, schema = words[-1], words[-2] if len(words) > 1 else None
        if schema == "pg_catalog" or (schema is None):
            return
        if schema not in self.bound.schemas:
            raise Refused("type", f"the collation {schema}.{name} cannot be used", "", node.get("location"))


def oracle_identifier(text: str) -> tuple[str, ...] | None:
    """A dotted name inside a string, read by Postgres's own grammar. None where it is not one."""
    try:
        found = oracle.statements(f"SELECT * FROM {text}".encode())
        entry = found[0].node["fromClause"]
        node = entry[0]["RangeVar"]
    except (Refused, KeyError, IndexError):
        return None
    if len(found) != 1 or len(entry) != 1 or set(found[0].node) - {"targetList", "fromClause", "limitOption", "op"}:
        return None
    if "alias" in node:
        return None
    return tuple(w for w in (node.get("schemaname"), node["relname"]) if w)


def _constant(node: Node) -> str | int | None:
    """The value of a constant, also under a cast."""
    ((kind, inner),) = node.items()
    if kind == "TypeCast":
        return _constant(inner["arg"])
    if kind != "A_Const":
        return None
    if "sval" in inner:
        text: str = inner["sval"].get("sval", "")
        return text
    if "ival" in inner:
        number: int = inner["ival"].get("ival", 0)
        return number
    if "fval" in inner:
        digits: str = inner["fval"]["fval"]
        return int(digits) if digits.isdigit() and len(digits) < 30 else None
    return None


def _cast_type(type_name: Node) -> str | None:
    """A built-in scalar type in format_type's words, None for any other."""
    names = oracle.names(type_name.get("names", []))
    if "arrayBounds" in type_name or names[:-1] not in ((), ("pg_catalog",)):
        return None
    return _TYPE_WORDS.get(names[-1], names[-1])


def _computed(node: Any) -> bool:
    """Whether an expression is made of constants alone without being one: its value is not known here."""
    if _constant(node) is not None or "A_Const" in node:
        return False
    stack = [node]
    while stack:
        part = stack.pop()
        if isinstance(part, list):
            stack += part
        elif isinstance(part, dict):
            if "ColumnRef" in part or "ParamRef" in part:
                return False
            stack += part.values()
    return True


def _type_of(node: Node, columns: dict[str, str | None]) -> str | None:
    """An argument's type in format_type's words, None where it is not certain."""
    ((kind, inner),) = node.items()
    if kind == "ColumnRef":
        words = oracle.names(inner["fields"])
        found = columns.get(words[-1])
        return _TYPMOD.sub("", found) if found else None
    if kind == "TypeCast":
        return _cast_type(inner["typeName"])
    if kind == "A_Const" and "ival" in inner:
        return "integer"
    return None
