"""What reading the record costs: jumps in a long recording, filling the search index, searching in it.

`python -m tests.bench.record_read [--events N] [--statements N]`; each figure is (what, figure, unit), so that another
table can take them over. Recordings are made line by line, without chain and seal: neither is read here. The figures
that the project promises are those of a million events and of ten million statements.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from recorder import search, search_feed, search_store
from recorder.scene import Scene
from recorder.search import Query
from recorder.tape import Tape

Figure = tuple[str, float, str]
BEGIN = datetime(2026, 10, 27, tzinfo=UTC)
TABLES = ["app.customers", "app.orders", "app.items", "app.invoices", "app.products", "app.events", "app.payments"]
COLUMNS = ["id", "name", "email", "country", "total", "created_at", "status", "amount", "price", "quantity", "note"]
RULES = ["table", "column", "function", "statement", "limit.rows"]
SCREEN = 50
"""Entries that are drawn after a jump."""


def made(folder: Path, session: int, statements: int, chance: random.Random) -> Path:
    """One session: statements with literals of their own, one in a hundred refused."""
    at = BEGIN + timedelta(seconds=chance.random() * 30 * 86_400)
    name = f"s-{at:%Y%m%d-%H%M%S}-{session:06}"
    path = folder / f"{at:%Y}" / f"{at:%m}" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    seq = 0

    def line(event: str, rest: str) -> str:
        nonlocal seq, at
        seq += 1
        at += timedelta(microseconds=chance.randrange(500, 200_000))
        return f'{{"seq":{seq},"at":"{at:%Y-%m-%dT%H:%M:%S.%f}Z","prev":"{"ab" * 32}","event":"{event}",{rest}}}\n'

    with path.open("w") as out:
        out.write(
            line(
                "session.start",
                f'"session":"{name}","grant":"g-{session:08}","person":"p{session % 40:02}","vendor":"v{session % 7}",'
                f'"user":"g-{session:08}","database":"app","policy":"p","policy_revision":"{"ab" * 32}",'
                '"client_address":"203.0.113.7:50412","application_name":"psql","tls":"TLSv1.3"',
            )
        )
        for n in range(1, statements + 1):
            table, (one, two, three) = chance.choice(TABLES), chance.sample(COLUMNS, 3)
            where = f"{one} = {chance.randrange(10**7)} and {two} > 'x{chance.getrandbits(24):x}'"
            sql = f"select {one}, {two}, {three} from {table} where {where}"
            refused = chance.random() < 0.01
            verdict, rule = ("deny", f'"{chance.choice(RULES)}"') if refused else ("allow", "null")
            rows = 0 if refused else int(10 ** (chance.random() * chance.random() * 6))
            out.write(
                line(
                    "statement",
                    f'"n":{n},"sql":"{sql}","params":null,"verdict":"{verdict}","rule":{rule},"rewritten":null,'
                    f'"kind":"select","tables":["{table}"],"functions":["lower"]',
                )
            )
            sqlstate = '"42501"' if refused else "null"
            out.write(line("outcome", f'"n":{n},"rows":{rows},"bytes":{rows * 30},"ms":1.5,"sqlstate":{sqlstate}'))
        out.write(line("session.end", f'"reason":"client","detail":null,"statements":{statements}'))
    return path


def seeking(folder: Path, events: int = 1_000_000) -> Iterator[Figure]:
    """Jumps to places all over one recording, each drawn."""
    chance = random.Random(7)
    path = made(folder, 1, events // 2, chance)
    began = time.perf_counter()
    tape = Tape(path)
    yield f"replay, opening {tape.length:,} events", time.perf_counter() - began, "s"
    took = []
    for _ in range(100):
        place = chance.random() * tape.seconds
        began = time.perf_counter()
        at, scene = tape.at_time(place), Scene()
        for number, entry in tape.entries(max(0, at - SCREEN)):
            scene.draw(entry)
            if number >= at:
                break
        took.append(time.perf_counter() - began)
    took.sort()
    yield "replay, a jump with its screen, p50", took[50] * 1000, "ms"
    yield "replay, a jump with its screen, worst of 100", took[-1] * 1000, "ms"


QUERIES = [
    ("two frequent words", Query(text="customers AND email")),
    ("a frequent word and a rare one", Query(text="customers AND deny")),
    ("a phrase", Query(text='"from app.orders"')),
    ("four filters", Query(vendor="v1", table="customers", verdict="deny", rule="table")),
    ("a person's, in a week", Query(person="p03", text="orders", since=BEGIN, until=BEGIN + timedelta(days=7))),
    ("results of 100,000 rows", Query(min_rows=100_000)),
    ("a word that is nowhere", Query(text="nowhere")),
]


def searching(folder: Path, statements: int = 10_000_000, each: int = 4000) -> Iterator[Figure]:
    """An index of so many statements, and what is asked of it, warm."""
    chance = random.Random(7)
    for session in range(max(1, statements // each)):
        made(folder, session, min(each, statements), chance)
    began = time.perf_counter()
    filled = search_feed.rebuild(folder)
    yield "search index, building", filled.statements / (time.perf_counter() - began), "statements/s"
    yield "search index, size", search_store.place(folder).stat().st_size / filled.statements, "B/statement"
    for name, query in QUERIES:
        took = []
        for _ in range(6):
            began = time.perf_counter()
            search.search(folder, query)
            took.append(time.perf_counter() - began)
        yield f"search of {filled.statements:,}: {name}", sorted(took[1:])[2] * 1000, "ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--statements", type=int, default=1_000_000)
    options = parser.parse_args()
    wanted: list[tuple[Callable[[Path, int], Iterator[Figure]], int]] = [
        (seeking, options.events),
        (searching, options.statements),
    ]
    for figures, count in wanted:
        with tempfile.TemporaryDirectory(prefix="daypass-bench-") as folder:
            for what, figure, unit in figures(Path(folder), count):
                print(f"{what:<60} {figure:>12,.2f} {unit}", flush=True)


if __name__ == "__main__":
    main()
