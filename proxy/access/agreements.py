"""Agreements: the texts in a folder, and who has accepted which of them.

A text is known by the SHA-256 of its file's exact bytes: another text is another agreement, which asks again. Every
text that anybody was asked to accept is kept. Knows no policy and no protocol. Invariants: nobody accepts a text that
is not the current one; an acceptance is never removed, it is revoked; what cannot be recorded is not accepted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.access import steps, tables
from proxy.access.grants import GrantError, Grants, new_id, one_line
from proxy.access.model import Grant, person_key
from proxy.access.store import Emit, Store, untold
from proxy.clock import Clock

LONGEST_TEXT: Final = 256 * 1024
"""Bytes of an agreement: more is not read by anybody."""
LONGEST_FILE: Final = 16 << 20
"""Bytes of the file of a paper signature."""
LONGEST_NAME: Final = 200
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_FRONT: Final = re.compile(r"\A---[ \t]*\r?\n(.*?)^---[ \t]*\r?\n", re.S | re.M)
_VERSION: Final = re.compile(r"^version:[ \t]*(.*?)[ \t]*\r?$", re.M)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

How = Literal["psql", "paper", "cli", "link"]


class AgreementError(GrantError):
    """An agreement's text is not there or cannot be used, or an acceptance makes no sense; the text says why."""


@dataclass(frozen=True, slots=True)
class Text:
    """One text of one agreement. `text` is the whole file, whose bytes `sha256` is of."""

    name: str
    version: str
    sha256: str
    text: str

    @property
    def body(self) -> str:
        """What people read: without the front matter."""
        return _FRONT.sub("", self.text.removeprefix("\ufeff")).replace("\r\n", "\n").strip("\n")

    @property
    def title(self) -> str:
        """`nda-2026 (version 3)`."""
        return f"{self.name} (version {self.version})"


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Somebody has accepted a text. `signed_as` is the name that was typed, compared to nothing."""

    id: str
    person: str
    agreement: str
    sha256: str
    signed_as: str
    how: How
    address: str
    grant: str | None
    file_name: str | None
    file_sha256: str | None
    at: datetime
    recorded_by: str
    revoked_at: datetime | None = None
    revoked_by: str | None = None
    revoke_reason: str | None = None


_COLUMNS: Final = [tables.acceptances.c[field.name] for field in dataclasses.fields(Acceptance)]


class Texts:
    """The folder of agreement texts, `NAME.md` each, as it is at the moment of asking."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def file(self, name: str) -> Path:
        """Where the text of `name` belongs."""
        return self._folder / f"{name}.md"

    def names(self) -> list[str]:
        """The agreements that have a file."""
        found = self._folder.glob("*.md") if self._folder.is_dir() else ()
        return sorted(path.stem for path in found if _NAME.fullmatch(path.stem))

    def read(self, name: str) -> Text:
        """The current text. Raises AgreementError."""
        if not _NAME.fullmatch(name):
            raise AgreementError(f"{name!r} cannot be an agreement's name: letters, digits, . _ - (at most 63)")
        try:
            with self.file(name).open("rb") as file:
                data = file.read(LONGEST_TEXT + 1)
        except FileNotFoundError:
            raise AgreementError(f"the agreement {name} has no text: {self.file(name)} is missing") from None
        except OSError as problem:
            raise AgreementError(f"{self.file(name)} cannot be read: {problem.strerror}") from None
        return self._text(name, data)

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that have no usable text."""
        return [name for name in names if not self._usable(name)]

    def _usable(self, name: str) -> bool:
        try:
            self.read(name)
        except AgreementError:
            return False
        return True

    def _text(self, name: str, data: bytes) -> Text:
        if len(data) > LONGEST_TEXT:
            raise AgreementError(f"{self.file(name)} is longer than {LONGEST_TEXT >> 10} KiB")
        try:
            text = data.decode()
        except UnicodeDecodeError as problem:
            raise AgreementError(f"{self.file(name)} is not UTF-8 text (byte {problem.start})") from None
        control = _CONTROL.search(text.replace("\r\n", "\n"))
        if control is not None:
            line = text.count("\n", 0, control.start()) + 1
            raise AgreementError(f"{self.file(name)}:{line}: the control character {control.group()!r}")
        sha256 = hashlib.sha256(data).hexdigest()
        front = _FRONT.match(text.removeprefix("\ufeff"))
        version = _VERSION.search(front[1]) if front is not None else None
        told = version[1].strip("\"'").strip()[:60] if version is not None else ""
        found = Text(name, told or sha256[:12], sha256, text)
        if not found.body.strip():
            raise AgreementError(f"{self.file(name)} is empty: nobody can accept nothing")
        return found


class Agreements:
    """The acceptances in a store, of the texts in a folder."""

    def __init__(self, store: Store, clock: Clock, texts: Texts, emit: Emit | None = None) -> None:
        self._store = store
        self._clock = clock
        self._emit: Emit = emit if emit is not None else untold
        self.texts = texts

    async def pending(self, person: str, names: Iterable[str]) -> list[Text]:
        """The texts of `names` that `person` has not accepted as they are now. Raises AgreementError, StoreError."""
        wanted = [self.texts.read(name) for name in dict.fromkeys(names)]
        if not wanted:
            return []
        accepted = await self._accepted({person_key(person)})
        return [text for text in wanted if (person_key(person), text.name, text.sha256) not in accepted]

    async def renewed(self, needed: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Text]:
        """Of (person, agreement) those whose current text the person has not accepted. Raises StoreError.

        A text that is not there now asks nobody anything new: only logins are refused for it.
        """
        asked = set(needed)
        current: dict[str, Text] = {}
        for name in {name for _, name in asked}:
            try:
                current[name] = self.texts.read(name)
            except AgreementError:
                continue
        accepted = await self._accepted({person_key(person) for person, _ in asked}) if current else set()
        found = ((person, name, current[name]) for person, name in asked if name in current)
        return {(p, name): text for p, name, text in found if (person_key(p), name, text.sha256) not in accepted}

    async def keep(self, texts: Iterable[Text]) -> None:
        """Keeps texts that somebody is asked to accept; the first time each is recorded."""
        for text in texts:
            async with self._store.write() as connection:
                await self._keep(connection, text)

    async def accept(
        self,
        text: Text,
        *,
        person: str,
        name: str,
        how: How,
        address: str,
        by: str,
        grant: str | None = None,
        session: str | None = None,
        link: str | None = None,
        file: tuple[str, bytes] | None = None,
        within: AsyncConnection | None = None,
    ) -> Acceptance:
        """`person` accepts exactly `text`. Raises AgreementError where that is not the current text any more.

        In psql accepting again changes nothing; a paper signature may be added to what was accepted before.
        `within`: a transaction that writes, of which this becomes a part.
        """
        signed_as, person = plausible(name), one_line("person", person)
        if file is not None and len(file[1]) > LONGEST_FILE:
            raise AgreementError(f"{file[0]} is larger than {LONGEST_FILE >> 20} MiB")
        if self.texts.read(text.name).sha256 != text.sha256:
            raise AgreementError(f"the agreement {text.name} has another text since it was shown")
        made = Acceptance(
            id=new_id("a", self._clock),
            person=person,
            agreement=text.name,
            sha256=text.sha256,
            signed_as=signed_as,
            how=how,
            address=address,
            grant=grant,
            file_name=Path(file[0]).name if file is not None else None,
            file_sha256=hashlib.sha256(file[1]).hexdigest() if file is not None else None,
            at=self._clock.now(),
            recorded_by=one_line("by", by),
        )
        transaction = self._store.write() if within is None else contextlib.nullcontext(within)
        async with transaction as connection:
            if how == "psql" and (before := await self._standing(connection, made)):
                return before
            await self._keep(connection, text)
            values: dict[str, Any] = dataclasses.asdict(made) | {"person_key": person_key(person)}
            values["file"] = file[1] if file is not None else None
            await connection.execute(tables.acceptances.insert().values(values))
            detail: dict[str, Any] = {"by": by, "person": person, "agreement": text.name, "version": text.version}
            detail |= {"sha256": text.sha256, "signed_as": signed_as, "how": how, "address": address}
            more = {
                "grant": grant,
                "session": session,
                "link": link,
                "file": made.file_name,
                "file_sha256": made.file_sha256,
            }
            detail |= {key: value for key, value in more.items() if value is not None}
            await self._step(connection, "agreement.accepted", detail | {"acceptance": made.id})
        return made

    async def revoke(
        self, name: str, *, person: str, reason: str, by: str, grants: Grants, needs: Callable[[Grant], bool]
    ) -> tuple[list[Acceptance], list[Grant]]:
        """What `person` has accepted of `name` no longer counts, and every grant of theirs that needs it ends.

        The grants end first: whatever happens in between, none of them outlives the acceptance, and doing it again
        finishes it. Raises AgreementError where there is nothing to revoke.
        """
        reason, by = one_line("reason", reason), one_line("by", by)
        key, columns = person_key(person), tables.acceptances.c
        standing = [a for a in await self.all(person) if a.agreement == name and a.revoked_at is None]
        if not standing:
            raise AgreementError(f"{person} has accepted no text of {name} that still counts")
        ended = []
        for grant in (await grants.live()).values():
            if person_key(grant.person) == key and needs(grant):
                why = f"the agreement {name} was revoked: {reason}"[:500]
                ended.append(await grants.revoke(grant.id, reason=why, by=by, why="agreement"))
        values: dict[str, Any] = {"revoked_at": self._clock.now(), "revoked_by": by, "revoke_reason": reason}
        mine = sa.update(tables.acceptances).where(
            columns.person_key == key, columns.agreement == name, columns.revoked_at.is_(None)
        )
        async with self._store.write() as connection:
            if (await connection.execute(mine.values(values))).rowcount:
                detail: dict[str, Any] = {"by": by, "person": standing[0].person, "agreement": name, "reason": reason}
                detail |= {"acceptances": [a.id for a in standing], "grants": [grant.id for grant in ended]}
                await self._step(connection, "agreement.revoked", detail)
            await end_links(connection, key, name, values["revoked_at"])
        return [dataclasses.replace(a, **values) for a in standing], ended

    async def all(self, person: str | None = None) -> list[Acceptance]:
        """Every acceptance, or those of one person; the newest first."""
        query = sa.select(*_COLUMNS).order_by(tables.acceptances.c.at.desc(), tables.acceptances.c.id)
        if person is not None:
            query = query.where(tables.acceptances.c.person_key == person_key(person))
        async with self._store.read() as connection:
            return [Acceptance(**row) for row in (await connection.execute(query)).mappings()]

    async def paper(self, id: str) -> tuple[str, bytes]:
        """The name and the bytes of a paper signature's file. Raises AgreementError."""
        columns = tables.acceptances.c
        query = sa.select(columns.file_name, columns.file).where(columns.id == (id if id.isascii() else ""))
        async with self._store.read() as connection:
            row = (await connection.execute(query)).first()
        if row is None or row.file is None:
            raise AgreementError(f"there is no acceptance {id!r} with a file")
        return row.file_name, bytes(row.file)

    async def kept(self) -> list[tuple[Text, datetime]]:
        """Every text that was kept, and since when; the newest first."""
        table = tables.agreement_texts
        async with self._store.read() as connection:
            rows = await connection.execute(sa.select(table).order_by(table.c.first_seen.desc(), table.c.sha256))
            return [(Text(r.name, r.version, r.sha256, r.text), r.first_seen) for r in rows]

    async def _accepted(self, keys: set[str]) -> set[tuple[str, str, str]]:
        """(person's key, agreement, SHA-256) of what these people have accepted."""
        columns = tables.acceptances.c
        query = sa.select(columns.person_key, columns.agreement, columns.sha256).where(
            columns.person_key.in_(sorted(keys)), columns.revoked_at.is_(None)
        )
        async with self._store.read() as connection:
            return {(row[0], row[1], row[2]) for row in await connection.execute(query)}

    async def _standing(self, connection: AsyncConnection, same: Acceptance) -> Acceptance | None:
        columns = tables.acceptances.c
        query = sa.select(*_COLUMNS).where(
            columns.person_key == person_key(same.person),
            columns.agreement == same.agreement,
            columns.sha256 == same.sha256,
            columns.revoked_at.is_(None),
        )
        row = (await connection.execute(query.limit(1))).mappings().first()
        return Acceptance(**row) if row is not None else None

    async def _keep(self, connection: AsyncConnection, text: Text) -> None:
        table = tables.agreement_texts
        same = sa.select(table.c.name).where(table.c.sha256 == text.sha256, table.c.name == text.name)
        if (await connection.execute(same)).first():
            return
        values = {"sha256": text.sha256, "name": text.name, "version": text.version, "text": text.text}
        try:
            async with connection.begin_nested():
                await connection.execute(table.insert().values(values | {"first_seen": self._clock.now()}))
        except IntegrityError:  # another process has just kept it
            return
        told = {"by": "daypass", "agreement": text.name, "version": text.version, "sha256": text.sha256}
        await self._step(connection, "agreement.text", told)

    async def _step(self, connection: AsyncConnection, action: str, detail: dict[str, Any]) -> None:
        await steps.take(connection, self._emit, self._clock.now(), action, detail)


async def end_links(connection: AsyncConnection, key: str, agreement: str, now: datetime) -> None:
    """No link by which this person could still accept the agreement goes on."""
    columns = tables.agreement_links.c
    mine = (columns.person_key == key, columns.agreement == agreement, columns.used_at.is_(None))
    await connection.execute(
        sa.update(tables.agreement_links).where(*mine, columns.expires_at > now).values(expires_at=now)
    )


def plausible(name: str) -> str:
    """A full name as it was typed, with single spaces. Raises AgreementError: `yes` is no signature."""
    found = " ".join(unicodedata.normalize("NFC", name).split())
    if len(found) > LONGEST_NAME or not found.isprintable():
        raise AgreementError(f"a full name has at most {LONGEST_NAME} printable characters")
    if sum(any(letter.isalpha() for letter in word) for word in found.split()) < 2:
        raise AgreementError(
            f"{found!r} is not a full name: type first and last name (whoever has one name only types it twice)"
        )
    return found
