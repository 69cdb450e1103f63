"""Whole statements: a query, what wraps one, what sets up a session, and what must never run."""

from __future__ import annotations

from proxy.policy.builtins import quote
from tests.twoworld.expressions import SCALARS
from tests.twoworld.grammar import Grammar
from tests.twoworld.vocabulary import Column, Function

SETTINGS = ("timezone", "search_path", "role", "statement_timeout", "datestyle", "default_transaction_read_only", "work_mem",
    "standard_conforming_strings", "session_authorization", "client_encoding", "row_security", "application_name",
    "transaction_read_only", "track_functions", "log_statement", "client_min_messages", "xmloption", "lc_messages",
    "default_text_search_config", "bytea_output", "extra_float_digits", "intervalstyle", "array_nulls", "jit", "plan_cache_mode",
    "shared_preload_libraries", "data_directory", "session_replication_role", "backslash_quote", "quote_all_identifiers",
    "transform_null_equals", "debug_print_plan", "log_min_messages", "daypass.x", "local_preload_libraries")  # fmt: skip
VALUES = ("on", "off", "default", "'UTC'", "'shop'", "vault", "'vault, shop'", "0", "'10s'", "postgres", "none", "log", "debug1",
    "'latin1'", "utf8", "'iso, mdy'", "content", "german", "hex", "local", "true", "1", "interval '1' hour", "notice")  # fmt: skip


class Statements(Grammar):
    """Draws the steps of one session."""

    def query(self) -> str:
        return self.select(self.rng.choice((1, 2, 2, 3)))[0]

    def catalog_function(self, f: Function) -> str:
        """A statement around one function: in the select list, WHERE, FROM, or as an attribute."""
        self.scope.append([])
        source = self._table_item() if self.maybe(0.85) else self.from_item(1)
        call = self.call(f, 1)
        roll = self.rng.random()
        if f.kind in "aw" or roll < 0.6:
            return f"select {call} from {source}{'' if f.kind == 'a' else ' limit 3'}"
        if roll < 0.75:
            return f"select {self.expr('integer', 0)} from {source} where {call} is {'not ' if self.maybe(0.5) else ''}null"
        if roll < 0.9:
            return f"select x.* from {source}, {call} x limit 3"
        return f"select count(*) from {source} group by {call}"

    def operator(self, o: Function) -> str:
        self.scope.append([])
        source = self._table_item()
        text = self.operation(o, 1)
        if self.maybe(0.3) and o.result == "boolean":
            return f"select {self.expr('integer', 0)} from {source} where {text} order by 1"
        return f"select {text} from {source} limit 5"

    def sqlglot_call(self) -> str:
        """A name that sqlglot takes for a function of its own, with any arguments."""
        self.scope.append([])
        source = self._table_item()
        name = self.rng.choice(self.words.sqlglot)
        inside = ", ".join(self.expr(self.rng.choice(SCALARS), 0) for _ in range(self.rng.randint(0, 3)))
        return f"select {name}({inside}) from {source} limit 3"

    def wrapped(self) -> list[str]:
        """What holds a query: EXPLAIN, cursors, PREPARE, COPY, several statements at once."""
        rng, text, name = self.rng, self.query(), self.fresh()
        if "$" in text and "$$" not in text:
            text = "select id, name, mail from people order by id"
        options = rng.choice(("", "analyze ", "verbose ", "(costs off) ", "(analyze, timing off, summary off, costs off) ",
            "(format json) ", "(generic_plan) ", "(verbose, settings) ", "(buffers off, costs off) "))  # fmt: skip
        return rng.choice((
            [f"explain {options}{text}"],
            ["begin", f"declare {name} {rng.choice(('', 'scroll ', 'no scroll ', 'binary '))}cursor for {text}",
             f"fetch {rng.choice(('1', 'all', 'forward 2', 'backward 1', 'last'))} from {name}", f"move 1 in {name}",
             f"fetch next from {name}", f"close {name}", "commit"],
            [f"declare {name} cursor with hold for {text}", f"fetch 2 {name}", f"select * from pg_cursors where name = '{name}'"],
            [f"prepare {name} as {text}", f"execute {name}", f"explain (costs off) execute {name}", f"deallocate {name}"],
            [f"prepare {name}(int) as select * from people where id = $1", f"execute {name}({self.expr('integer', 1)})"],
            [f"copy ({text}) to stdout{rng.choice(('', ' csv header', ' (format csv, header)', ' binary', ' with (delimiter $$|$$)'))}"],
            [f"copy {rng.choice(self.words.tables).name} to stdout"],
            [f"{text}; {self.query()}"], [f"begin; {text}; rollback; {self.query()}"],
            [f"table {rng.choice(self.words.tables).name}"], [f"{text};"], [f"({text})"], [f"begin read only; {text}; commit"],
            [f"savepoint a; {text}"], ["begin", text, f"savepoint {name}", self.query(), f"rollback to {name}", text, "end"],
            [f"create temp table {name} as {text}"], [f"select * into {name} from ({text}) x"],
            [f"with {name} as ({text}) table {name}"], [f"{text} for update"], [f"create view pg_temp.{name} as {text}"],
            [f"explain {options}execute {name}"], [f"do $${text}$$"], [f"call shop.{name}()"], ["refresh materialized view vault.ledger_sum"],
        ))  # fmt: skip

    def session(self) -> list[str]:
        """Settings, transactions, and what a session keeps."""
        rng = self.rng
        name, value = rng.choice(SETTINGS), rng.choice(VALUES)
        probe = rng.choice(
            ("show " + name, "show all", "select * from pg_settings", f"select current_setting('{name}')", self.query())
        )
        first = rng.choice((
            f"set {name} to {value}", f"set local {name} = {value}", f"set session {name} = {value}", f"reset {name}", "reset all",
            "discard all", "discard plans", "discard temp", "discard sequences", f"select set_config('{name}', {self.expr('text', 0)}, {value in ('on', 'true')})",
            "set transaction read write", "begin read write", "start transaction isolation level serializable, read only, deferrable",
            "set session characteristics as transaction read write", "set session authorization default", "set role none",
            f"set time zone {value}", "set names 'utf8'", "set schema 'vault'", f"select pg_catalog.set_config('{name}', {value!r}, false)",
            "set xml option document", "listen x", "unlisten *", "notify x", "lock table orders", "checkpoint", "set transaction snapshot '1'",
            "begin; set local transaction_read_only = off", "close all", "deallocate all", "show session authorization", "show time zone",
        ))  # fmt: skip
        return [first, probe] if self.maybe(0.6) else [first]

    def write(self) -> str:
        """What must never run."""
        rng, table = self.rng, self.rng.choice(self.words.tables)
        column = rng.choice(table.columns or (Column("id", "integer", False),))
        return rng.choice((
            f"insert into {table.name} select * from {table.name}", f"update {table.name} set {quote(column.name)} = null",
            f"delete from {table.name}", f"truncate {table.name}", f"with x as (delete from {table.name} returning *) select * from x",
            "select nextval('shop.invoice_no')", "select lo_create(0)", "select pg_advisory_lock(1)", f"alter table {table.name} add x int",
            f"merge into {table.name} t using orders o on true when matched then delete", "select pg_notify('x', 'y')",
            f"with x as (select 1), y as (insert into {table.name} default values) {self.query()}", "select setval('shop.invoice_no', 99)",
            f"comment on table {table.name} is 'x'", f"grant select on {table.name} to public", f"analyze {table.name}", "vacuum",
            "create extension dblink", "load 'x'", "select lo_import('/etc/passwd')", "select pg_reload_conf()", "create function f() returns int return 1",
            "select shop.bump()", "select (1).bump", f"explain analyze update {table.name} set {quote(column.name)} = null",
            "copy orders from stdin", "copy orders to program 'x'", "select txid_current()", "select pg_current_xact_id()",
        ))  # fmt: skip
