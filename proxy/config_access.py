"""The part of config.yaml that is about people and time: groups, agreements, requests, prechecks, reviews.

Only shapes; `config` reads them, and `access` and `session` act on them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from proxy.units import Duration


def beside(value: Path, info: ValidationInfo) -> Path:
    """Relative paths start at the file's folder."""
    return (info.context["base"] / value.expanduser()) if info.context else value


BesideFile = Annotated[Path, AfterValidator(beside)]
Name = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Template(Section):
    """A routine request in one line: what is given here need not be given again."""

    vendor: Name | None = None
    database: Name | None = None
    policy: Name | None = None
    length: Duration | None = Field(default=None, alias="for", gt=0)
    purpose: Name | None = None
    expected_use: Name | None = None
    rollback_note: Name | None = None
    bind_ip: Name | None = None
    max_sessions: int | None = Field(default=None, gt=0)
    single_use: bool = False


class BreakGlass(Section):
    """Access at once: one person of these groups opens it, for a short time, and it must be reviewed soon."""

    from_: list[Name] = Field(alias="from", min_length=1)
    max: Duration = Field(default=3600.0, gt=0)
    review_within: Duration = Field(default=86_400.0, gt=0)


class Requests(Section):
    """How access is asked for."""

    lapse: Duration = Field(default=7 * 86_400.0, gt=0)
    templates: dict[str, Template] = {}
    break_glass: BreakGlass | None = None


class Precheck(Section):
    """A test that must hold before a grant starts; see docs/reference/prechecks.md for what each kind looks at."""

    kind: Literal["wal_archive", "pgbackrest", "walg", "replica_lag", "sql", "command", "rollback_note"]
    max_age: Duration | None = Field(default=None, gt=0)
    max_lag: Duration | None = Field(default=None, gt=0)
    sql: Name | None = None
    command: list[Name] = []
    stanza: Name | None = None
    timeout: Duration = Field(default=30.0, gt=0, le=600)

    @model_validator(mode="after")
    def _fits(self) -> Precheck:
        if self.kind == "sql" and self.sql is None:
            raise ValueError("sql: a query that returns one true value")
        if self.kind == "command" and not self.command:
            raise ValueError("command: the program and its arguments, as a list")
        return self


class Reviews(Section):
    """Who looks at what was done, and how soon after the end of a grant."""

    within: Duration = Field(default=7 * 86_400.0, gt=0)
    from_: list[Name] = Field(default=[], alias="from")


class People(Section):
    """People in groups, by the names that they act under (`--by`, else the user of the machine)."""

    groups: dict[str, list[Name]] = {}

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("groups"), dict):
            groups = {key: [] if value is None else value for key, value in data["groups"].items()}
            return {**data, "groups": groups}
        return data
