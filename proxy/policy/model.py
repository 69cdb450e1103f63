"""A policy as a value: what may be read, how much, when and from where.

Field names and meanings are those of a policy file (docs/reference/policy.md). The model checks shapes and ranges; what
only a live catalog can tell (does the column exist?) is `bind`'s work.
"""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from proxy.units import Duration, Size

MASKS = ("null", "redact", "email", "last4", "hash", "year")
Outcome = Literal["allow", "mask", "hold", "deny"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class SqlMask(_Model):
    """A mask written as an SQL expression over the table's own columns."""

    sql: str = Field(min_length=1)


def _mask(value: Any) -> Any:
    if value is None:  # YAML reads a bare null so
        return "null"
    if isinstance(value, str) and value not in MASKS:
        raise ValueError(f"one of {', '.join(MASKS)}, or {{sql: EXPRESSION}}")
    return value


Mask = Annotated[Literal["null", "redact", "email", "last4", "hash", "year"] | SqlMask, BeforeValidator(_mask)]


class Table(_Model):
    """What of one table is shown. `columns` lists those that are, `deny` those that are not; neither: all."""

    columns: list[str] | None = None
    deny: list[str] = []
    mask: dict[str, Mask] = {}
    rows: str | None = Field(default=None, min_length=1)
    trusted: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Table:
        if self.columns is not None and self.deny:
            raise ValueError("columns (what is shown) or deny (what is not), not both")
        if both := sorted(set(self.deny) & set(self.mask)):
            raise ValueError(f"{both[0]} is denied and masked: one of the two")
        return self

    @property
    def whole(self) -> bool:
        return self.columns is None and not self.deny and not self.mask and self.rows is None


class Limits(_Model):
    """Each limit that is absent does not apply. Durations in seconds, sizes in bytes."""

    statement_timeout: Duration | None = None
    rows_per_statement: int | None = Field(default=None, gt=0)
    bytes_per_statement: Size | None = None
    rows_per_session: int | None = Field(default=None, gt=0)
    bytes_per_session: Size | None = None
    rows_per_grant: int | None = Field(default=None, gt=0)
    bytes_per_grant: Size | None = None
    plan_cost: float | None = Field(default=None, gt=0)
    sessions: int | None = Field(default=None, gt=0)
    statements_per_minute: int | None = Field(default=None, gt=0)
    idle: Duration | None = None
    transaction: Duration | None = None


def tighter(a: Limits, b: Limits) -> Limits:
    """The smaller limit of each."""
    pairs = ((name, getattr(a, name), getattr(b, name)) for name in Limits.model_fields)
    return Limits.model_construct(**{n: x if y is None else y if x is None else min(x, y) for n, x, y in pairs})


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        raise ValueError("a time zone of the IANA list, such as Europe/Berlin") from None
    return value


def _hours(value: str) -> str:
    begin, _, end = value.partition("-")
    if begin == end:
        raise ValueError("they end when they begin; leave hours out for the whole day")
    if end > "24:00":
        raise ValueError("24:00 is the end of the day; hours over midnight are written 22:00-06:00")
    return value


class Window(_Model):
    """How long a grant may be and when in the week it may be used."""

    max: Duration | None = None
    days: str | None = Field(
        default=None, pattern=r"^(mon|tue|wed|thu|fri|sat|sun)([-,](mon|tue|wed|thu|fri|sat|sun))*$"
    )
    hours: Annotated[str, AfterValidator(_hours)] | None = Field(
        default=None, pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-4]):[0-5]\d$"
    )
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"


def _qualified(value: str) -> str:
    if value.count(".") != 1 or value.startswith(".") or value.endswith("."):
        raise ValueError(f"{value!r} is not schema.name (tables may be globs, as in app.*)")
    return value


Qualified = Annotated[str, AfterValidator(_qualified)]


class Approvals(_Model):
    """How many other people have to say yes, and from which groups."""

    count: int = Field(default=1, ge=1)
    from_: list[str] = Field(default=[], alias="from")


class Hold(_Model):
    """Which statements wait for another person's yes: those that read these tables or call these functions (globs)."""

    tables: list[Qualified] = []
    functions: list[Qualified] = []
    from_: list[str] = Field(default=[], alias="from")
    timeout: Duration = Field(default=600.0, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> Hold:
        if not self.tables and not self.functions:
            raise ValueError("tables or functions: what makes a statement wait")
        return self


class Test(_Model):
    """One expectation in a policy file, run by `policy test`."""

    sql: str
    verdict: Outcome
    rule: str | None = None


def _network(value: str) -> str:
    try:
        ipaddress.ip_network(value)
    except ValueError:
        raise ValueError("an address range such as 203.0.113.0/24") from None
    return value


def _table(value: Any) -> Any:
    return {} if value is None else value


class Functions(_Model):
    """Functions beside the reviewed built-ins, by name: `schema.name`."""

    allow: list[Qualified] = []


class PolicyModel(_Model):
    """The file, key by key."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    mode: Literal["enforce", "observe"] = "enforce"
    databases: list[str] = Field(min_length=1)
    search_path: list[str] = []
    tables: dict[Qualified, Annotated[Table, BeforeValidator(_table)]] = {}
    functions: Functions = Functions()
    limits: Limits = Limits()
    window: Window = Window()
    network: list[Annotated[str, AfterValidator(_network)]] = []
    greeting: bool = True
    approvals: Approvals | None = None
    hold: Hold | None = None
    agreements: list[str] = []
    prechecks: list[str] = []
    tests: list[Test] = []

    @model_validator(mode="after")
    def _fits(self) -> PolicyModel:
        if self.mode == "enforce" and not self.tables:
            raise ValueError("tables: what may be read; in enforce mode at least one table")
        return self


@dataclass(frozen=True, slots=True)
class Policy:
    """One revision of a policy. `revision` is the SHA-256 of its text, hex."""

    model: PolicyModel
    text: str
    file: str

    @property
    def revision(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def mode(self) -> str:
        return self.model.mode

    @property
    def databases(self) -> tuple[str, ...]:
        return tuple(self.model.databases)

    @property
    def search_path(self) -> tuple[str, ...]:
        return tuple(self.model.search_path)

    @property
    def whole(self) -> bool:
        """Whether every table that is shown is shown as it is."""
        return all(table.whole and not table.trusted for table in self.model.tables.values())

    @property
    def limits(self) -> Limits:
        return self.model.limits

    @property
    def window(self) -> Window:
        return self.model.window

    @property
    def network(self) -> tuple[str, ...]:
        return tuple(self.model.network)

    @property
    def greeting(self) -> bool:
        return self.model.greeting
