"""`daypass recording report`: what a grant, a person or a vendor did in a period, for people to read and to keep.

Arguments and exit codes only; the recorder counts and writes. Invariant: standard output holds the report and nothing
else.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import msgspec
import typer

from proxy.cli.identity import IdentityOption, identities
from proxy.cli.options import ConfigOption
from proxy.cli.output import UNREACHABLE, fail, note
from proxy.cli.period import SinceOption, UntilOption, moment
from proxy.cli.recording_search import FolderOption, recordings
from proxy.clock import SystemClock
from recorder import report
from recorder.summary import summarise


class Form(StrEnum):
    """How it is written."""

    MD = "md"
    HTML = "html"
    JSON = "json"


def report_command(
    *,
    config: ConfigOption,
    grant: Annotated[str | None, typer.Option("--grant", metavar="GRANT")] = None,
    person: Annotated[str | None, typer.Option("--person", metavar="PERSON")] = None,
    vendor: Annotated[str | None, typer.Option("--vendor", metavar="VENDOR")] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    form: Annotated[Form, typer.Option("--format", help="html is a page with charts, made to be printed.")] = Form.MD,
    folder: FolderOption = None,
    identity: IdentityOption = None,
) -> None:
    """What was done: sessions, statements, tables, functions, rows, refusals, and what is unusual. No text of a
    statement and no value is in it."""
    directory = recordings(folder, config)
    try:
        total = summarise(
            directory,
            grant=grant,
            person=person,
            vendor=vendor,
            since=moment(since, "--since"),
            until=moment(until, "--until"),
            keys=identities(identity),
        )
    except OSError as error:
        fail(UNREACHABLE, f"cannot read {error.filename}: {error.strerror}")
    if not total.sessions:
        note("no session fits; daypass session list shows what is there")
    made = SystemClock().now()
    match form:
        case Form.MD:
            sys.stdout.write(report.markdown(total, made=made))
        case Form.HTML:
            sys.stdout.write(report.html(total, made=made))
        case Form.JSON:
            sys.stdout.write(msgspec.json.encode(total).decode() + "\n")
