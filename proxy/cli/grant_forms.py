"""A login in the form that a tool wants: psql's URI, a password file, a service file, JDBC, DBeaver, the environment.

Pure text. The token stands in one form only, the line of a password file, and in no command: what is typed or started
can be read by others of the same machine, and stays in a shell's history. Invariant: pasted as it is printed, it works.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console
from rich.text import Text

from proxy.access.model import Grant
from proxy.cli.grant_view import address, dsn_of
from proxy.cli.output import styled
from proxy.config import Config


class Form(StrEnum):
    """The forms that there are."""

    URI = "uri"
    PGPASS = "pgpass"
    SERVICE = "service"
    JDBC = "jdbc"
    DBEAVER = "dbeaver"
    ENV = "env"


@dataclass(frozen=True, slots=True)
class Pasted:
    """One form: its text, and where it goes."""

    form: Form
    text: str
    where: str


def pasted(form: Form, cfg: Config, grant: Grant, token: str) -> Pasted:
    """A grant's login in this form."""
    host, port = address(cfg)
    secured = cfg.listen.tls.mode != "disable"
    if form is Form.URI:
        text, where = dsn_of(cfg, host, port, grant), "for psql and every libpq program; it asks for the token"
    elif form is Form.PGPASS:
        text = ":".join(_escaped(part) for part in (host, str(port), grant.database, grant.id, token))
        where = "one line of ~/.pgpass (or the file in PGPASSFILE), which must have mode 0600: chmod 600 ~/.pgpass"
    elif form is Form.SERVICE:
        text = _service(host, port, grant, secured=secured)
        where = f"in ~/.pg_service.conf (or the file in PGSERVICEFILE); then: psql service={_service_name(grant)}"
    elif form is Form.JDBC:
        text = _jdbc(host, port, grant, secured=secured)
        where = f"the URL; user {grant.id} and password (the token) are properties of their own"
    elif form is Form.DBEAVER:
        text = _dbeaver(host, port, grant, secured=secured)
        where = "fields of a new PostgreSQL connection; the token is the password"
    else:
        text = _environment(host, port, grant, secured=secured)
        where = "for a shell; its last line asks for the token, so that it stands in no history"
    return Pasted(form, text, where)


def _escaped(part: str) -> str:
    """A field of a password file."""
    return part.replace("\\", "\\\\").replace(":", "\\:")


def _service_name(grant: Grant) -> str:
    return f"daypass-{grant.id}"


def _libpq(host: str, port: int, grant: Grant, *, secured: bool) -> dict[str, str]:
    words = {"host": host, "port": str(port), "dbname": grant.database, "user": grant.id}
    return words | ({"sslmode": "require", "channel_binding": "require"} if secured else {"sslmode": "disable"})


def _service(host: str, port: int, grant: Grant, *, secured: bool) -> str:
    lines = [f"{key}={value}" for key, value in _libpq(host, port, grant, secured=secured).items()]
    return "\n".join([f"[{_service_name(grant)}]", *lines])


def _jdbc(host: str, port: int, grant: Grant, *, secured: bool) -> str:
    shown = f"[{host}]" if ":" in host else host
    # A driver that does not know channelBinding passes over it.
    tls = "sslmode=require&channelBinding=require" if secured else "sslmode=disable"
    return f"jdbc:postgresql://{shown}:{port}/{quote(grant.database, safe='')}?{tls}"


def _dbeaver(host: str, port: int, grant: Grant, *, secured: bool) -> str:
    fields = [
        ("Host", host),
        ("Port", str(port)),
        ("Database", grant.database),
        ("Authentication", "Database Native"),
        ("Username", grant.id),
        ("Password", "the token"),
        ("SSL > SSL mode", "require" if secured else "disable"),
    ]
    if secured:
        fields.append(("Driver properties", "channelBinding = require"))
    width = max(len(name) for name, _ in fields)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in fields)


_NAMES = {
    "host": "PGHOST",
    "port": "PGPORT",
    "dbname": "PGDATABASE",
    "user": "PGUSER",
    "sslmode": "PGSSLMODE",
    "channel_binding": "PGCHANNELBINDING",
}


def _environment(host: str, port: int, grant: Grant, *, secured: bool) -> str:
    words = _libpq(host, port, grant, secured=secured).items()
    lines = [f"export {_NAMES[key]}={shlex.quote(value)}" for key, value in words]
    return "\n".join([*lines, "printf 'Token: ' && stty -echo && read -r PGPASSWORD; stty echo; export PGPASSWORD"])


FormOption = Annotated[
    list[Form] | None,
    typer.Option("--form", help="Also in the form of a tool: uri, pgpass, service, jdbc, dbeaver, env. Repeatable."),
]


def forms_of(wanted: list[Form] | None, cfg: Config, grant: Grant, token: str) -> dict[str, Any]:
    """The wanted forms for programs: `{"forms": {NAME: TEXT}}`, or nothing."""
    if not wanted:
        return {}
    return {"forms": {form.value: pasted(form, cfg, grant, token).text for form in wanted}}


def show_forms(console: Console, wanted: list[Form] | None, cfg: Config, grant: Grant, token: str) -> None:
    """The wanted forms for people: what it is and where it goes, then the text alone."""
    for form in wanted or ():
        one = pasted(form, cfg, grant, token)
        console.print()
        console.print(styled(f"{form.value}", "bold"), Text(f"  {one.where}", style="bright_black"), sep="")
        for line in one.text.splitlines():
            console.print(Text(line))
