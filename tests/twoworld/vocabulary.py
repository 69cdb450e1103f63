"""What generated statements are made of: the worlds' tables and columns, Postgres's functions and operators, literals."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import psycopg
import sqlglot

from proxy.policy import builtins
from tests.twoworld.worlds import Stage


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table; `hidden` when the policy does not show its values as they are."""

    name: str
    type: str
    hidden: bool


@dataclass(frozen=True, slots=True)
class Table:
    """One table by its qualified, quoted name."""

    name: str
    bare: str
    columns: tuple[Column, ...]
    hidden: bool
    readable: bool


@dataclass(frozen=True, slots=True)
class Function:
    """One entry of pg_proc, or an operator with its operands as arguments."""

    schema: str
    name: str
    arguments: tuple[str, ...]
    result: str
    kind: str
    returns_set: bool
    variadic: bool


LITERALS = {
    "integer": ("1", "0", "-5", "42", "2147483647", "null", "'7'"),
    "bigint": ("1::bigint", "9000000000", "-1"),
    "smallint": ("1::smallint", "0::int2"),
    "numeric": ("1.5", "0.0", "1e10", "-3.25", "'NaN'::numeric"),
    "double precision": ("1.5::float8", "'Infinity'::float8", "0.1::double precision"),
    "real": ("1.5::real",),
    "text": (
        "'abc'",
        "'a''b'",
        "E'a\\nb'",
        "$$x$$",
        "$t$it's$t$",
        "''",
        "'text 1'",
        "'%'",
        "'1'",
        "'2025-01-01'",
        "'TAX-1-1'",
    ),
    "character varying": ("'v1'::varchar", "'v1'::varchar(2)"),
    "character": ("'c'::char(3)", "'c'::bpchar"),
    '"char"': ("'a'::\"char\"",),
    "name": ("'id'::name",),
    "boolean": ("true", "false", "null::bool", "'t'::bool"),
    "date": ("date '2025-06-01'", "'2025-06-01'::date", "'infinity'::date"),
    "timestamp without time zone": ("timestamp '2025-06-01 10:00'",),
    "timestamp with time zone": ("timestamptz '2026-01-01 00:00+00'",),
    "time without time zone": ("time '10:00'",),
    "time with time zone": ("timetz '10:00+00'",),
    "interval": ("interval '1 day'", "interval '1' hour", "'1 month'::interval", "interval '1-2' year to month"),
    "json": ("'{\"k\": 1}'::json",),
    "jsonb": ('\'{"k": 1, "a": [1, 2]}\'::jsonb', "'[]'::jsonb"),
    "jsonpath": ("'$.k'::jsonpath", "'$.a[*]'::jsonpath"),
    "xml": ("'<a>1</a>'::xml",),
    "bytea": ("'\\x00ff'::bytea", "'abc'::bytea"),
    "uuid": ("'c4ca4238-a0b9-2382-0dcc-509a6f75849b'::uuid",),
    "inet": ("'10.0.0.1'::inet", "inet '10.0.0.0/8'"),
    "cidr": ("'10.0.0.0/8'::cidr",),
    "macaddr": ("'08:00:2b:01:02:03'::macaddr",),
    "point": ("point '(1,2)'",),
    "box": ("box '(0,0),(1,1)'",),
    "circle": ("circle '<(0,0),1>'",),
    "lseg": ("lseg '[(0,0),(1,1)]'",),
    "line": ("line '{1,2,3}'",),
    "path": ("path '((0,0),(1,1))'",),
    "polygon": ("polygon '((0,0),(1,1),(1,0))'",),
    "int4range": ("int4range(1, 5)", "'[1,5)'::int4range"),
    "numrange": ("numrange(1, 5)",),
    "daterange": ("daterange('2025-01-01', '2025-02-01')",),
    "tsvector": ("to_tsvector('simple', 'a word')", "'a b'::tsvector"),
    "tsquery": ("'word & a'::tsquery",),
    "bit": ("B'101'", "X'1F'"),
    "bit varying": ("B'101'::varbit",),
    "money": ("1.5::money", "'$2'::money"),
    "oid": ("1::oid", "'pg_class'::regclass::oid", "0::oid"),
    "regclass": ("'shop.orders'::regclass", "1259::regclass"),
    "regproc": ("'lower'::regproc",),
    "regtype": ("'int4'::regtype",),
    "regconfig": ("'simple'::regconfig",),
    "regdictionary": ("'simple'::regdictionary",),
    "regnamespace": ("'shop'::regnamespace",),
    "regrole": ("10::regrole",),
    "integer[]": ("array[1,2]", "'{1,2}'::int[]"),
    "text[]": ("array['a','b']", "'{a,b}'::text[]"),
    "tid": ("'(0,1)'::tid",),
    "xid": ("'1'::xid",),
    "xid8": ("'1'::xid8",),
    "pg_lsn": ("'0/0'::pg_lsn",),
    "refcursor": ("'c'::refcursor",),
    "int2vector": ("'1 2'::int2vector",),
    "oidvector": ("'1 2'::oidvector",),
    "cstring": ("'x'",),
    "internal": ("null",),
    "shop.size": ("'s'::shop.size",),
    "record": ("row(1, 'a')", "(1, 2)"),
}
POLYMORPHIC = {
    '"any"', "any", "anyelement", "anynonarray", "anycompatible", "anycompatiblenonarray", "anyarray", "anyenum",
    "anycompatiblearray", "anyrange", "anycompatiblerange", "anymultirange", "anycompatiblemultirange",
}  # fmt: skip
ARRAY_OF = {"anyarray": "integer[]", "anycompatiblearray": "text[]", "anyenum": "shop.size", "anyrange": "int4range"}
CATALOG_TABLES = (
    "pg_class", "pg_attribute", "pg_proc", "pg_type", "pg_namespace", "pg_settings", "pg_constraint", "pg_index",
    "pg_database", "pg_roles", "pg_sequences", "pg_tables", "pg_attrdef", "pg_depend", "pg_description",
    "pg_stats", "pg_statistic", "pg_stat_activity", "pg_authid", "pg_views", "pg_matviews", "pg_locks", "pg_stat_user_tables",
    "pg_stat_user_functions", "pg_statio_all_tables", "pg_prepared_statements", "pg_cursors", "pg_largeobject", "pg_stats_ext",
    "information_schema.tables", "information_schema.columns", "information_schema.views", "information_schema.routines",
)  # fmt: skip
_TYPMOD = re.compile(r"\([\d,]+\)")


def plain_type(name: str) -> str:
    """A type without its length; the arrays of other types than int and text are theirs."""
    return _TYPMOD.sub("", name)


class Vocabulary:
    """Everything that a statement can name."""

    def __init__(self, stage: Stage) -> None:
        owner = stage.worlds["first"].owner
        shown = stage.judge.bound.relations
        self.tables: list[Table] = []
        self.catalogs: list[Table] = []
        for r in stage.catalog.relations:
            system = r.schema in ("pg_catalog", "information_schema")
            if r.schema.startswith("daypass_") or (r.schema == "pg_toast"):
                continue
            here = shown.get((r.schema, r.name))
            masked = set() if here is None or not here.substitute else {
                c for c in r.columns if f" AS {builtins.quote(c)}" in here.substitute
            }  # fmt: skip
            columns = tuple(
                Column(c, plain_type(t), here is None or c in masked or c not in here.columns)
                for c, t in zip(r.columns, r.types, strict=True)
            )
            name = f"{builtins.quote(r.schema)}.{builtins.quote(r.name)}"
            table = Table(
                name, builtins.quote(r.name), columns, here is None or here.substitute is not None, here is not None
            )
            if not system:
                self.tables.append(table)
            elif name.removeprefix("pg_catalog.") in CATALOG_TABLES:
                self.catalogs.append(table)
        self.functions = _functions(owner)
        self.operators = _operators(owner)
        self.own_functions = [f for f in self.functions if f.schema in ("shop", "vault")]
        self.builtin = [f for f in self.functions if f.schema == "pg_catalog"]
        self.safe = [f for f in self.builtin if f.name in builtins.FUNCTIONS and f.kind == "f" and not f.returns_set]
        self.by_result: dict[str, list[Function]] = {}
        for f in self.safe:
            self.by_result.setdefault(f.result, []).append(f)
        self.sqlglot = sorted({name.lower() for name in sqlglot.exp.FUNCTION_BY_NAME} | {
            name.lower() for name in sqlglot.Parser.FUNCTIONS
        })  # fmt: skip
        self.types = [
            *sorted(LITERALS),
            "shop.mood",
            "shop.tax",
            "shop.plain",
            "shop.pair",
            "vault.code",
            "shop.people",
        ]
        words = {c.name for t in self.tables for c in t.columns} | {t.bare for t in self.tables}
        self.words = [
            *sorted(words),
            "ctid",
            "tableoid",
            "pg_sleep",
            "nextval",
            "wages",
            "top",
            "to_jsonb",
            "row_to_json",
        ]
        self.hidden_words = sorted({c.name for t in self.tables for c in t.columns if c.hidden})
        self.hidden_tables = [t.name for t in self.tables if t.hidden]


def _functions(owner: psycopg.Connection[Any]) -> list[Function]:
    rows = owner.execute("""
        select n.nspname, p.proname, p.prokind::text, p.proretset, p.provariadic <> 0, format_type(p.prorettype, null),
            array(select format_type(t, null) from unnest(p.proargtypes) with ordinality a(t, o) order by o)
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where n.nspname in ('pg_catalog', 'shop', 'vault', 'information_schema') order by p.oid""").fetchall()
    return [Function(s, n, tuple(a), r, k, bool(rs), bool(v)) for s, n, k, rs, v, r, a in rows]


def _operators(owner: psycopg.Connection[Any]) -> list[Function]:
    rows = owner.execute("""
        select n.nspname, o.oprname, format_type(o.oprresult, null), o.oprkind::text,
            array_remove(array[case when o.oprleft <> 0 then format_type(o.oprleft, null) end, format_type(o.oprright, null)], null)
        from pg_operator o join pg_namespace n on n.oid = o.oprnamespace order by o.oid""").fetchall()
    return [Function(s, n, tuple(a), r, k, False, False) for s, n, r, k, a in rows]
