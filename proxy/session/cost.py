"""What Postgres expects a statement to cost, asked before the statement runs, for limits.plan_cost.

EXPLAIN runs on a connection beside the session's own, as the same role and with the same settings, so that the
vendor's transaction is not touched. Costs are kept by text: a constant decides how many rows a condition lets through,
so statements of one shape may differ by any factor. Parameters are planned generically (GENERIC_PLAN from Postgres 16
on would do; PREPARE with plan_cache_mode = force_generic_plan does on every version and takes declared types).
Source: PostgreSQL manual, "EXPLAIN", "PREPARE".
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import structlog

from proxy.policy import plannable
from proxy.session.budget import NARROW, Ended

log = structlog.get_logger()

KEPT: Final = 1024
SECONDS: Final = 5.0
"""How long planning may take."""
RULE: Final = "limit.cost"

Connect = Callable[[], Awaitable["asyncpg.Connection[Any]"]]


@dataclass(frozen=True, slots=True)
class Cost:
    """The highest cost of a text's statements, in Postgres's planner units; `problem`: why it cannot be told."""

    units: float = 0.0
    problem: str = ""

    def over(self, limit: float, *, veiled: bool) -> Ended | None:
        """The refusal where the text costs more than `limit`; how much would tell the statistics under a mask."""
        if self.problem:
            text = (
                f"the plan cannot be estimated now, and the policy limits its cost (limits.plan_cost): {self.problem}"
            )
            return Ended(RULE, "plan_cost", text, "Try again.")
        if self.units <= limit:
            return None
        cost = f"more than {limit:,.0f}, which is" if veiled else f"{self.units:,.0f}, and {limit:,.0f} is"
        text = f"Postgres expects a cost of {cost} allowed (limits.plan_cost)"
        return Ended(RULE, "plan_cost", text, NARROW)


class Costs:
    """The costs of one session's statements. `connect` makes the connection beside it, read-only and as its role."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._connection: asyncpg.Connection[Any] | None = None
        self._known: dict[tuple[bytes, tuple[int, ...]], Cost] = {}

    def known(self, forward: bytes, types: tuple[int, ...]) -> Cost | None:
        """What has been asked before. A cost that could not be told is forgotten, so that it is asked again."""
        found = self._known.get((forward, types))
        if found is not None and found.problem:
            del self._known[forward, types]
        return found

    async def ask(self, forward: bytes, types: tuple[int, ...]) -> None:
        """Find the cost out. Never raises: what goes wrong is kept as the problem."""
        if len(self._known) >= KEPT:
            self._known.clear()
        try:
            queries = plannable.queries(forward)
            connection = await self._beside()
            costs = [await self._cost(connection, query, types) for query in queries]
            self._known[forward, types] = Cost(max(costs, default=0.0))
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as problem:
            # The text may repeat values of the statement.
            code = problem.sqlstate if isinstance(problem, asyncpg.PostgresError) else None
            log.warning("plan_cost_unknown", reason=f"SQLSTATE {code}" if code else type(problem).__name__)
            self._known[forward, types] = Cost(problem="the database did not answer")
            self.close()
        except Exception:
            log.exception("plan_cost_bug")
            self._known[forward, types] = Cost(problem="internal error")

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _beside(self) -> asyncpg.Connection[Any]:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
            await self._connection.execute("SET plan_cache_mode = force_generic_plan; SET statement_timeout = '5s'")
        return self._connection

    async def _cost(
        self, connection: asyncpg.Connection[Any], query: plannable.Plannable, types: tuple[int, ...]
    ) -> float:
        try:
            if not query.parameters:
                text = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {query.sql}", timeout=SECONDS)
                return _total(text)
            declared = [
                await connection.fetchval("SELECT pg_catalog.format_type($1, NULL)", oid) if oid else "unknown"
                for oid in types[: query.parameters]
            ]
            listed = f" ({', '.join(declared)})" if declared else ""
            await connection.execute(f"PREPARE daypass_cost{listed} AS {query.sql}", timeout=SECONDS)
            try:
                count = await connection.fetchval(
                    "SELECT pg_catalog.cardinality(parameter_types) FROM pg_catalog.pg_prepared_statements "
                    "WHERE name = 'daypass_cost'"
                )
                nulls = f"({', '.join(['NULL'] * count)})" if count else ""
                text = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE daypass_cost{nulls}", timeout=SECONDS)
                return _total(text)
            finally:
                await connection.execute("DEALLOCATE daypass_cost")
        except asyncpg.PostgresError as problem:
            if (problem.sqlstate or "")[:2] in ("42", "22"):
                # The statement itself is wrong; the session's own attempt tells the vendor how.
                return 0.0
            raise


def _total(text: str) -> float:
    return float(json.loads(text)[0]["Plan"]["Total Cost"])
