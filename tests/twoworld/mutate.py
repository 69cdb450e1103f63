"""Changes to a statement that an attacker would try: hidden names, other notations, look-alikes, splices.

A mutation works on words of the text, not on a tree, so that it also makes what no grammar would. Most results are no
SQL; those that are, are often SQL that two parsers read in two ways.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from tests.twoworld.vocabulary import Vocabulary

TOKEN = re.compile(
    r"""[eEuUnNbBxX]?&?'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(\w*)\$.*?\$\1\$|--[^\n]*\n?|/\*.*?\*/|::|[A-Za-z_][\w$]*"""
    r"""|\$\d+|\d+(?:\.\d+)?|[-+*/<>=~!@#%^&|`?]+|\s+|.""",
    re.S,
)
WORD = re.compile(r"[A-Za-z_]\w*\Z")
_SPACES = (
    "\u00a0",
    "\u2028",
    "\u3000",
    "\u0085",
    "\ufeff",
    "\u200b",
    "\v",
    "\f",
    "\t",
    "\r",
    "\n",
    "/**/",
    "--\n",
    "/*/**/*/",
    " -- x\r",
    "\u1680",
)
_CALL = re.compile(r"\b([a-z_]\w*)\(([a-z_]\w*(?:\.\w+)?)\)", re.I)
_DOT = re.compile(r"(?<![\w.\"])([a-z_]\w*)\.([a-z_]\w*)(?![\w.\"(])", re.I)
_RENAMED = {
    "app": "shop", "hr": "vault", "customers": "people", "ssn": "tax_no", "email": "mail", "salaries": "pay",
    "tickets": "notes", "note": "body", "products": "many", "order_items": "filtered", "customer_id": "person_id",
    "invoice_seq": "invoice_no", "leak_salary": "wages", "country": "city", "status": "state", "created_at": "placed",
    "phone": "iban", "price": "s_num", "qty": "n", "attrs": "s_jsonb", "amount": "amount", "product_id": "id",
    "order_id": "id", "touch": "bump", "mytype": "code",
}  # fmt: skip
FRAGMENTS = (
    "('PG_VERSION'::text).pg_read_file", "(0.1).pg_sleep", "(1).wages", "(select tax_no from people limit 1)", "people",
    "(people).tax_no", "people::text", "@wage", "id::text", "pg_read_file('PG_VERSION')", "query_to_xml('select 1',true,true,'')",
    "operator(vault.===)", "operator(shop.<->)", "<->", "~~*", "collate vault.c", "collate \"C\"", "::shop.tax", "::shop.tax2",
    "::vault.code", "::regclass", "'vault.pay'::regclass", "'shop.invoice_no'::regclass", "overlaps(born, born)", "@@@", "->", "->>",
    "natural join shop.people", "join vault.pay using (id)", "cross join lateral (select tax_no) z", "tablesample system(50)",
    "*", "people.*", "(people).*", "p.*", "ctid", "xmin", "tableoid::regclass", "offset 0", "limit 1", "for update", "into x",
    "union select tax_no from people", "union all select note from events", "where tax_no like 'T%'", "group by id", "having true",
    "order by tax_no", "; select 1", "; table vault.pay", "shop.wages(1)", "top()", "ident(people)", "to_jsonb(people)", "md5(orders)",
    "wages(o => 1)", "variadic array[1]", "array_to_tsvector('a')", "::money::text", "(m).tax_no", "(mixed).t", "1/(id - 30)", "1/(n - 1)",
    "h_text", "many.h_text", "m.h_int", "all_of(many)", "many.all_of", "array(select h_text from many)", "array(select amount from vault.pay)",
    "exists (select from vault.ledger)", "current_setting('data_directory')", "set_config('role', 'x', false)", "null::people",
    "row(1, 'x')::shop.people", "json_populate_record(null::shop.people, '{}')", "jsonb_to_record('{}') as x(a shop.tax)", "U&\"tax\\005fno\"",
    "U&'\\0027'", "xmltable('/a' passing '<a/>' columns b text)", "json_table('{}', '$' columns (a text))", "grouping(id)",
    "within group (order by tax_no)", "filter (where tax_no is null)", "over (order by tax_no)", "at time zone 'UTC'",
    "interval '1' second(2)", "$1", "$2::shop.tax", ":a", "?", "{x}", "[1]", "[1:2]", "is json", "is document", "similar to 'x'", "escape 'x'",
    "extract(year from born)", "position('a' in mail)", "substring(tax_no from 1 for 1)", "trim(both from tax_no)", "overlay(mail placing 'x' from 1)",
    "nextval('invoice_no')", "pg_stat_get_live_tuples('people'::regclass)", "pg_relation_size('vault.pay')", "txid_current()",
    "has_table_privilege('vault.pay', 'select')", "pg_get_viewdef('people_tax'::regclass)", "obj_description(1)", "pg_typeof(people)",
    "array_agg(people)", "count(people)", "people is null", "people = people", "(people.*) is null", "row(people.*)", "any (table people)",
    "b.json_scalar", "json_value('{}', '$')", "json_array(1)", "merge_action()", "current_user", "session_user", "system_user", "cast(1 as shop.mood)",
)  # fmt: skip


def adapted(text: str) -> str:
    """A statement of another corpus in the words of this firm."""
    return "".join(_RENAMED.get(t.group().lower(), t.group()) for t in TOKEN.finditer(text))


def tokens(text: str) -> list[str]:
    return [t.group() for t in TOKEN.finditer(text)]


class Mutator:
    """Mutations by one random generator; `pool` holds statements to take pieces from."""

    def __init__(self, rng: random.Random, words: Vocabulary, pool: list[list[str]]) -> None:
        self.rng, self.words, self.pool = rng, words, pool
        self.all: tuple[Callable[[str], str], ...] = (
            self.name, self.name, self.name, self.cast, self.cast, self.attribute, self.attribute, self.call, self.quoted,
            self.escaped, self.space, self.comment, self.case, self.string, self.string, self.splice, self.splice, self.splice,
            self.drop, self.double, self.exchange, self.crossed, self.crossed, self.operator,
        )  # fmt: skip

    def __call__(self, text: str) -> str:
        for _ in range(self.rng.choice((1, 1, 1, 2, 2, 3))):
            text = self.rng.choice(self.all)(text)
        return text

    def _at(self, text: str, fits: Callable[[str], bool], change: Callable[[str], str]) -> str:
        """The text with one fitting token changed."""
        found = tokens(text)
        places = [i for i, t in enumerate(found) if fits(t)]
        if places:
            at = self.rng.choice(places)
            found[at] = change(found[at])
        return "".join(found)

    def _word(self, text: str, change: Callable[[str], str]) -> str:
        return self._at(text, lambda t: WORD.match(t) is not None, change)

    def name(self, text: str) -> str:
        roll = self.rng.random()
        pool = self.words.hidden_words if roll < 0.4 else self.words.words if roll < 0.8 else self.words.hidden_tables
        return self._word(text, lambda _: self.rng.choice(pool))

    def cast(self, text: str) -> str:
        kind = self.rng.choice(self.words.types)
        return self._at(text, lambda t: WORD.match(t) is not None or t[-1:] in "')0123456789", lambda t: f"{t}::{kind}")

    def attribute(self, text: str) -> str:
        found = list(_CALL.finditer(text))
        if not found:
            f = self.rng.choice(self.words.functions).name
            return self._word(text, lambda t: self.rng.choice((f"{t}.{f}", f"({t}).{f}")))
        at = self.rng.choice(found)
        new = self.rng.choice((f"{at.group(2)}.{at.group(1)}", f"({at.group(2)}).{at.group(1)}"))
        return text[: at.start()] + new + text[at.end() :]

    def call(self, text: str) -> str:
        found = list(_DOT.finditer(text))
        if not found:
            return text
        at = self.rng.choice(found)
        return text[: at.start()] + f"{at.group(2)}({at.group(1)})" + text[at.end() :]

    def quoted(self, text: str) -> str:
        return self._word(text, lambda t: f'"{t}"' if self.rng.random() < 0.7 else f'"{t.upper()}"')

    def escaped(self, text: str) -> str:
        def change(t: str) -> str:
            at = self.rng.randrange(len(t))
            return f'U&"{t[:at]}\\{ord(t[at]):04x}{t[at + 1 :]}"'

        return self._word(text, change)

    def space(self, text: str) -> str:
        return self._at(text, str.isspace, lambda _: self.rng.choice(_SPACES))

    def comment(self, text: str) -> str:
        return self._at(
            text,
            lambda _: True,
            lambda t: t + self.rng.choice(("/* x */", "--x\n", "/* ' */", '/*"*/', "/* -- */", "/*/*'*/*/")),
        )

    def case(self, text: str) -> str:
        return self._word(
            text,
            lambda t: self.rng.choice(
                (t.upper(), t.title(), t.swapcase(), t.replace("i", "İ"), t.replace("k", "\u212a"))
            ),
        )

    def string(self, text: str) -> str:
        def change(t: str) -> str:
            body = t[t.index("'") + 1 : -1] if "'" in t else t
            half = len(body) // 2
            return self.rng.choice((
                f"E'{body}'", f"$${body}$$", f"$a${body}$a$", f"U&'{body}'", f"N'{body}'", f"'{body[:half]}'\n'{body[half:]}'",
                f"E'{body}\\''", f"'{body}\\'", f"B'{body}'", f"X'{body}'", f"text '{body}'", f"('{body}'||'')", f"E'\\x{ord(body[0]) if body.isascii() and body else 65:02x}'",
                f"'{body}'--'\n", f"'{body}' 'x'", f"interval '{body}'", f"e'{body}\\\\'", "'vault.pay'", "'data_directory'", "'role'",
            ))  # fmt: skip

        return self._at(text, lambda t: t.endswith("'") and len(t) > 1, change)

    def splice(self, text: str) -> str:
        fragment = self.rng.choice(FRAGMENTS)
        if self.rng.random() < 0.5:
            return self._word(text, lambda _: fragment)
        return self._at(text, lambda t: not t.isspace(), lambda t: f"{t} {fragment}")

    def drop(self, text: str) -> str:
        return self._at(text, lambda t: not t.isspace(), lambda _: "")

    def double(self, text: str) -> str:
        return self._at(text, lambda t: not t.isspace(), lambda t: f"{t} {t}")

    def exchange(self, text: str) -> str:
        found = tokens(text)
        places = [i for i, t in enumerate(found) if not t.isspace()]
        if len(places) > 1:
            one, two = self.rng.sample(places, 2)
            found[one], found[two] = found[two], found[one]
        return "".join(found)

    def operator(self, text: str) -> str:
        name = self.rng.choice(self.words.operators)
        written = name.name if self.rng.random() < 0.7 else f"operator({name.schema}.{name.name})"
        return self._at(text, lambda t: t[0] in "-+*/<>=~!@#%^&|" and t != "*", lambda _: f" {written} ")

    def crossed(self, text: str) -> str:
        """A bracketed piece of another statement in place of one of this one's words or brackets."""
        other = self.rng.choice(self.rng.choice(self.pool))
        pieces = _brackets(other)
        if not pieces:
            return text
        start, end = self.rng.choice(pieces)
        piece = other[start:end]
        own = _brackets(text)
        if own and self.rng.random() < 0.6:
            start, end = self.rng.choice(own)
            return text[:start] + piece + text[end:]
        return self._word(text, lambda _: piece)


def _brackets(text: str) -> list[tuple[int, int]]:
    """The spans of bracketed pieces."""
    stack: list[int] = []
    found = []
    for at, letter in enumerate(text):
        if letter == "(":
            stack.append(at)
        elif letter == ")" and stack:
            found.append((stack.pop(), at + 1))
    return found
