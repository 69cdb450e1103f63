"""Everything that the state knows about one grant, from its request to its review, as plain values for an auditor.

Reads tables and decides nothing. Invariants: no token's verifier and no secret is among it; texts that were accepted
are there as bytes, exactly as their hashes say.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.access import tables
from proxy.access.grants import GrantNotFound
from proxy.access.model import person_key, rfc3339
from proxy.access.store import Store

_SECRET: Final = frozenset({"verifier", "token_at"})
_JSON: Final = frozenset({"terms", "groups", "evidence", "summary", "approvers", "detail"})


@dataclass(frozen=True, slots=True)
class Dossier:
    """`parts` are JSON documents by name; `agreements` texts by (name, SHA-256); `papers` signed files by name."""

    grant: dict[str, Any]
    parts: dict[str, Any]
    agreements: dict[tuple[str, str], bytes]
    papers: dict[str, bytes]

    @property
    def policy(self) -> bytes:
        """The policy as it was granted."""
        text: str = self.grant["policy_text"]
        return text.encode()


async def collect(store: Store, grant: str) -> Dossier:
    """The dossier of a grant. Raises GrantNotFound, StoreError."""
    async with store.read() as connection:
        found = await _rows(connection, tables.grants, tables.grants.c.id == grant)
        if not found:
            raise GrantNotFound(f"there is no grant {grant!r}")
        (row,) = found
        request = row["request"] or ""
        key = person_key(row["person"])
        parts: dict[str, Any] = {
            "grant": row,
            "request": next(iter(await _rows(connection, tables.requests, tables.requests.c.id == request)), None),
            "approvals": await _rows(connection, tables.approvals, tables.approvals.c.request == request),
            "prechecks": await _rows(connection, tables.prechecks, tables.prechecks.c.grant == grant),
            "holds": await _rows(connection, tables.holds, tables.holds.c.grant == grant),
            "removal": await _rows(connection, tables.removals, tables.removals.c.grant == grant),
            "review": next(iter(await _rows(connection, tables.reviews, tables.reviews.c.grant == grant)), None),
        }
        named = row["terms"].get("agreements", [])
        accepted = [
            one
            for one in await _rows(connection, tables.acceptances, tables.acceptances.c.person_key == key)
            if one["agreement"] in named or one["grant"] == grant
        ]
        texts = await _texts(connection, {one["sha256"] for one in accepted})
        papers = {}
        for one in accepted:
            data = one.pop("file", None)
            if data is not None:
                papers[f"{one['file_sha256'][:12]}-{_plain_name(one['file_name'])}"] = bytes(data)
        parts["acceptances"] = accepted
    wanted = {(one["agreement"], one["sha256"]) for one in accepted}
    return Dossier(row, parts, {name: texts[name[1]] for name in sorted(wanted) if name[1] in texts}, papers)


async def _rows(connection: AsyncConnection, table: sa.Table, which: sa.ColumnElement[bool]) -> list[dict[str, Any]]:
    columns = [column for column in table.c if column.name not in _SECRET]
    query = sa.select(*columns).where(which).order_by(*table.primary_key.columns)
    return [
        {name: _value(name, value) for name, value in row.items()}
        for row in (await connection.execute(query)).mappings()
    ]


def _value(name: str, value: Any) -> Any:
    if isinstance(value, datetime):
        return rfc3339(value)
    return json.loads(value) if name in _JSON and isinstance(value, str) else value


async def _texts(connection: AsyncConnection, wanted: set[str]) -> dict[str, bytes]:
    texts = tables.agreement_texts.c
    query = sa.select(texts.sha256, texts.text).where(texts.sha256.in_(wanted))
    return {row.sha256: row.text.encode() for row in await connection.execute(query)}


def _plain_name(name: str | None) -> str:
    """A file's name that means nothing to a file system but itself."""
    kept = "".join(c if c.isalnum() or c in "._-" else "_" for c in (name or "paper"))
    return kept.lstrip(".")[-80:] or "paper"
