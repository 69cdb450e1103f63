"""One-time links: whoever holds one reads an agreement's text in a browser and accepts it by typing a name.

A link is for one person, one agreement and one exact text. Knows neither HTTP nor pages. Invariants: only the SHA-256
of its secret is kept; looking never uses it up; using it and the acceptance are one transaction, so of two that come
at once one has accepted; a newer link for the same person and agreement, or a revocation, ends it.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.access import steps, tables
from proxy.access.agreements import Acceptance, AgreementError, Agreements, Text, end_links
from proxy.access.grants import new_id, one_line
from proxy.access.model import person_key
from proxy.access.store import Emit, Store, untold
from proxy.access.timekeeping import refuse_wrong_clock
from proxy.clock import Clock

USUAL: Final = timedelta(hours=48)
LONGEST: Final = timedelta(days=30)
_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{43}")

Why = Literal["unknown", "used", "expired", "changed"]


class LinkRefused(AgreementError):
    """It opens nothing, for good. `link` is None where there is none with this secret."""

    def __init__(self, why: Why, link: Link | None = None) -> None:
        super().__init__(f"the link is {why}")
        self.why: Why = why
        self.link = link


@dataclass(frozen=True, slots=True)
class Link:
    """One link, without its secret. `sha256` is the text's."""

    id: str
    person: str
    agreement: str
    sha256: str
    made_at: datetime
    made_by: str
    expires_at: datetime
    used_at: datetime | None = None
    acceptance: str | None = None


_COLUMNS: Final = [tables.agreement_links.c[field.name] for field in dataclasses.fields(Link)]


class Links:
    """The links in a store, to the agreements in it."""

    def __init__(self, store: Store, clock: Clock, agreements: Agreements, emit: Emit | None = None) -> None:
        self._store = store
        self._clock = clock
        self._agreements = agreements
        self._emit: Emit = emit if emit is not None else untold

    async def make(self, text: Text, *, person: str, by: str, length: timedelta = USUAL) -> tuple[Link, str]:
        """A link for `person` to accept exactly `text`, and its secret, which nobody can be told again."""
        person, by = one_line("person", person), one_line("by", by)
        if not timedelta(0) < length <= LONGEST:
            raise AgreementError(f"a link lasts for more than no time and at most {LONGEST.days} days")
        if self._agreements.texts.read(text.name).sha256 != text.sha256:
            raise AgreementError(f"the agreement {text.name} has another text by now")
        secret = base64.urlsafe_b64encode(self._clock.random(32)).rstrip(b"=").decode()
        now, key = self._clock.now(), person_key(person)
        link = Link(new_id("l", self._clock), person, text.name, text.sha256, now, by, now + length)
        await self._agreements.keep([text])
        async with self._store.write() as connection:
            await refuse_wrong_clock(connection, now)
            await end_links(connection, key, text.name, now)
            values: dict[str, Any] = dataclasses.asdict(link) | {"person_key": key, "secret_sha256": _hash(secret)}
            await connection.execute(tables.agreement_links.insert().values(values))
            detail: dict[str, Any] = {"by": by, "person": person, "agreement": text.name, "version": text.version}
            detail |= {"sha256": text.sha256, "link": link.id, "expires_at": link.expires_at}
            await steps.take(connection, self._emit, now, "agreement.link", detail)
        return link, secret

    async def look(self, secret: str) -> tuple[Link, Text]:
        """What it is for, as often as somebody looks. Raises LinkRefused, StoreError; GrantError while the machine's
        clock is wrong."""
        async with self._store.read() as connection:
            return await self._open(connection, secret)

    async def accept(self, secret: str, *, name: str, address: str) -> tuple[Link, Text, Acceptance]:
        """Its person accepts its text, and it is used up. Raises LinkRefused, StoreError, what the record raises;
        AgreementError where `name` is no full name, and the link stays as it was."""
        async with self._store.write() as connection:
            link, text = await self._open(connection, secret)
            made = await self._agreements.accept(
                text, person=link.person, name=name, how="link", address=address, by=link.person,
                link=link.id, within=connection,
            )  # fmt: skip
            used = sa.update(tables.agreement_links).where(tables.agreement_links.c.id == link.id)
            await connection.execute(used.values(used_at=made.at, acceptance=made.id))
        return dataclasses.replace(link, used_at=made.at, acceptance=made.id), text, made

    async def _open(self, connection: AsyncConnection, secret: str) -> tuple[Link, Text]:
        if not _SECRET.fullmatch(secret):
            raise LinkRefused("unknown")
        mine = tables.agreement_links.c.secret_sha256 == _hash(secret)
        row = (await connection.execute(sa.select(*_COLUMNS).where(mine))).mappings().first()
        if row is None:
            raise LinkRefused("unknown")
        link, now = Link(**row), self._clock.now()
        if link.used_at is not None:
            raise LinkRefused("used", link)
        await refuse_wrong_clock(connection, now)
        if now >= link.expires_at:
            raise LinkRefused("expired", link)
        try:
            text = self._agreements.texts.read(link.agreement)
        except AgreementError:
            raise LinkRefused("changed", link) from None
        if text.sha256 != link.sha256:
            raise LinkRefused("changed", link)
        return link, text


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
