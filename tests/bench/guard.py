"""`make bench-guard`: what a verdict costs, and how long a hostile text holds another session up.

    python -m tests.bench.guard [--seconds 1] [--catalog FILE --policy FILE]

First table: verdicts of one judge; cold (nothing cached), in a judging process where the text is too heavy for the
event loop, from the cache of shapes, from the cache of texts. Second: hostile texts up to 1 MB are judged the way a
session does while a probe counts how late the event loop gets to it and how late another session's point select is
judged. It prints, and judges nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from proxy import catalog
from proxy.catalog import Catalog
from proxy.demo.postgres import PostgresServer
from proxy.policy.judge import Judge
from proxy.policy.load import parse
from proxy.policy.worker import Workers
from tests.support.postgres import Servers, bindirs, load_shop

POLICY = """
name: bench
databases: [shop]
search_path: [app]
tables:
  app.customers: {deny: [ssn], mask: {email: email, phone: last4}}
  app.orders: {}
  app.order_items: {}
  app.products: {}
  app.events: {}
"""
POINT = "select id, status, placed_at from app.orders where id = 4711"
REPORT = """select p.name as product, date_trunc('month', o.placed_at) as month, e.kind,
  count(distinct o.id) as orders, sum(i.qty * p.price) as revenue, avg(i.qty) as average
from app.orders o
join app.order_items i on i.order_id = o.id
join app.products p on p.id = i.product_id
left join app.events e on e.id = o.id and e.at > o.placed_at
join {table} c on c.id = o.customer_id
where o.placed_at >= '2026-01-01' and o.placed_at < '2026-04-01' and o.status in ('new', 'paid', 'sent')
  and p.price > 10.5
group by p.name, date_trunc('month', o.placed_at), e.kind
having sum(i.qty) > 3 order by revenue desc, month limit 50"""
PSQL = r"""SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_class c
     LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname OPERATOR(pg_catalog.~) '^(orders)$' COLLATE pg_catalog.default AND pg_catalog.pg_table_is_visible(c.oid)
ORDER BY 2, 3;
SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),
  (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid, true) FROM pg_catalog.pg_attrdef d
   WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef), a.attnotnull,
  (SELECT c.collname FROM pg_catalog.pg_collation c, pg_catalog.pg_type t
   WHERE c.oid = a.attcollation AND t.oid = a.atttypid AND a.attcollation <> t.typcollation) AS attcollation,
  a.attidentity, a.attgenerated
FROM pg_catalog.pg_attribute a WHERE a.attrelid = '16404' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum;"""


def orm_query() -> str:
    """About 8 KB, as an ORM's eager loading writes it."""
    tables = ("orders", "order_items", "products", "events")
    columns = {
        "orders": ("id", "customer_id", "status", "placed_at"),
        "order_items": ("order_id", "line", "product_id", "qty"),
        "products": ("id", "name", "price"),
        "events": ("id", "kind", "at"),
    }
    chosen = [tables[n % 4] for n in range(28)]
    listed = ", ".join(f'"app_{t}_{n}"."{c}" AS "app_{t}_{n}_{c}"' for n, t in enumerate(chosen) for c in columns[t])
    joins = " ".join(
        f'LEFT OUTER JOIN "app"."{t}" AS "app_{t}_{n}" ON "o"."id" = "app_{t}_{n}"."{columns[t][0]}"'
        for n, t in enumerate(chosen)
    )
    return f'SELECT {listed} FROM "app"."orders" AS "o" {joins} WHERE "o"."id" = 4711 ORDER BY "o"."id" ASC'


HONEST = {
    "point select": POINT,
    "5-join report": REPORT.format(table="app.orders").replace("c.id = o.customer_id", "c.id = o.id"),
    "5-join report, one masked": REPORT.format(table="app.customers"),
    "psql's \\d": PSQL,
    "8 KB ORM query": orm_query(),
    "IN list of 5,000": f"select id from app.orders where id in ({', '.join(map(str, range(5000)))})",
    "IN list of 20,000": f"select id from app.orders where id in ({', '.join(map(str, range(20_000)))})",
}
MB = 1 << 20
HOSTILE: dict[str, str] = {
    "IN list, 1 MB": f"select 1 where 1 in ({','.join(['1'] * (MB // 2 - 20))})",
    "select list, 1 MB": f"select {','.join(['a.b'] * (MB // 4 - 10))} from app.orders a",
    "select list, 90,000 words": f"select {','.join(['a'] * 45_000)} from app.orders a",
    "one string, 1 MB": f"select '{'x' * (MB - 20)}'",
    "white space, 1 MB": "select 1" + " " * (MB - 20),
    "sums, 90,000 words": f"select {'+'.join(['1'] * 45_000)}",
    "ORs, 20,000": f"select 1 where {' or '.join(['1=1'] * 20_000)}",
    "casts, 30,000": f"select 1{'::int' * 30_000}",
    "subscripts, 20,000": f"select a{'[1]' * 20_000} from app.orders",
    "subscripts in 3 KB": f"select a{'[1]' * 1000} from app.orders",
    "unions, 15,000": " union all ".join(["select 1"] * 15_000),
    "nested selects, 16 KB": f"select {'(select ' * 1800}1{')' * 1800}",
    "nested brackets": f"select {'(' * 60_000}1{')' * 60_000}",
    "nested comments": f"select {'/*' * 60_000}1",
    "array[int4(((( ...": f"select {'array[' * 6}{'int4(' * 6}{'(' * 80}1{')' * 80}{')' * 6}{']' * 6}",
    "300 masked tables": f"select * from {','.join(['app.customers'] * 300)}",
    "masked tables, light": f"select * from {','.join(['app.customers'] * 19)}",
    "statements, 100": "select 1;" * 100,
    "statements, 1 MB": "select 1;" * (MB // 9 - 1),
    "words, light": f"select {','.join(['lower(name)'] * 98)} from app.products",
    "case, light": f"select $1[{'case ' * 20}name(interval '1' * 1){' when 1 then 2 else 3 end' * 20}]",
}


def best(work: Callable[[], object], seconds: float) -> float:
    """The median of as many runs as fit into `seconds`, at least three."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def shown(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds * 1e6:,.1f} µs" if seconds < 1e-3 else f"{seconds * 1e3:,.2f} ms"


async def verdicts(make: Callable[[], Judge], workers: Workers, seconds: float) -> Table:
    """What a verdict costs."""
    table = Table("statement", "bytes", "verdict", "cold", "judging process", "by shape", "by text", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    judge = make()
    judge.uncached(b"select 1")
    for name, text in HONEST.items():
        sql = text.encode()
        judge = make()
        light = judge.at_once(sql) is not None
        cold = best(lambda j=judge, s=sql: j.uncached(s), seconds)  # type: ignore[misc]
        process: list[float] = []
        for _ in range(0 if light else 7):
            start = time.perf_counter()
            found = await workers.judge(make(), sql)
            process.append(time.perf_counter() - start)
        found = await workers.judge(judge, sql)
        other = sql.replace(b"4711", b"4712").replace(b"10.5", b"11.5").replace(b"16404", b"16405")
        by_shape: float | None = None
        if other != sql and judge.at_once(other) is not None and found.shape is not None:
            texts = judge._texts
            by_shape = best(lambda j=judge, o=other, t=texts: (t.pop(o), j.at_once(o)), seconds)  # type: ignore[misc]
        by_text: float | None = None
        if judge.at_once(sql) is not None:
            runs = range(1000)
            by_text = best(lambda j=judge, s=sql, r=runs: [j.at_once(s) for _ in r], seconds) / 1000  # type: ignore[misc]
        verdict = found.statements[0].verdict if found.allowed else f"deny {found.refusal and found.refusal.rule}"
        table.add_row(
            name,
            f"{len(sql):,}",
            verdict,
            shown(cold),
            shown(statistics.median(process) if process else None),
            shown(by_shape),
            shown(by_text),
        )
    return table


async def stalls(judge: Judge, workers: Workers) -> Table:
    """How long each hostile text keeps the event loop, and with it every other session."""
    table = Table(
        "hostile text", "bytes", "where", "verdict", "its own wait", "loop held up", "another's wait", box=None
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for name, text in HOSTILE.items():
        sql = text.encode()
        late, waits = [0.0], [0.0]
        done = asyncio.Event()

        async def probe(late: list[float] = late, done: asyncio.Event = done) -> None:
            while not done.is_set():
                start = time.perf_counter()
                await asyncio.sleep(0.001)
                late.append(time.perf_counter() - start - 0.001)

        async def neighbour(waits: list[float] = waits, done: asyncio.Event = done) -> None:
            while not done.is_set():
                start = time.perf_counter()
                await asyncio.sleep(0)
                judge.at_once(POINT.encode())
                waits.append(time.perf_counter() - start)
                await asyncio.sleep(0.002)

        others = [asyncio.ensure_future(probe()), asyncio.ensure_future(neighbour())]
        await asyncio.sleep(0.02)
        late.clear()
        waits.clear()
        start = time.perf_counter()
        found = judge.at_once(sql)
        where = "loop"
        if found is None:
            where = "process"
            found = await workers.judge(judge, sql)
        wait = time.perf_counter() - start
        await asyncio.sleep(0.01)
        done.set()
        await asyncio.gather(*others)
        verdict = "allow" if found.allowed else f"deny {found.refusal and found.refusal.rule}"
        table.add_row(name, f"{len(sql):,}", where, verdict, shown(wait), shown(max(late)), shown(max(waits)))
    return table


def shop() -> Catalog:
    """The test shop's catalog, from the first Postgres that can be started."""
    servers = Servers()
    try:
        server: PostgresServer = servers.get(bindirs()[0])
        load_shop(server, "bench_shop")
        return asyncio.run(
            catalog.snapshot(
                host=server.host,
                port=server.port,
                dbname="bench_shop",
                user=server.user,
                password=server.password,
                tls="disable",
            )
        )
    finally:
        servers.close()


async def bench(known: Catalog, policy: str, seconds: float, console: Console) -> None:
    def make() -> Judge:
        return Judge(parse(policy, "bench.yaml"), known, key="00")

    workers = Workers()
    await workers.start()
    gc.freeze()
    try:
        await workers.judge(make(), HONEST["IN list of 5,000"].encode())
        console.print(await verdicts(make, workers, seconds))
        console.print()
        console.print(await stalls(make(), workers))
    finally:
        await workers.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-guard ARGS=…")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each figure")
    parser.add_argument("--catalog", type=Path, help="a snapshot by `daypass policy` instead of the test shop's")
    parser.add_argument("--policy", type=Path)
    options = parser.parse_args()
    known = catalog.load(options.catalog.read_bytes()) if options.catalog else shop()
    policy = options.policy.read_text() if options.policy else POLICY
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bench(known, policy, options.seconds, Console(width=140, highlight=False)))


if __name__ == "__main__":
    main()
