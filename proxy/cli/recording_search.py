"""`daypass recording search` and `rebuild-index`: statements of all sessions, by words and by facts.

A search first reads what the recordings have grown by since the last one, which a first search says on standard error.
Arguments and exit codes only; the recorder does the work. Invariant: a query that cannot be read is a usage error and
finds nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from proxy.cli.identity import IdentityOption, identities
from proxy.cli.options import ConfigOption, OutputOption, load_config
from proxy.cli.output import UNREACHABLE, USAGE, emit, fail, note
from proxy.cli.period import SinceOption, UntilOption, moment
from recorder import search, search_feed, show_search
from recorder.search import Query, QuerySyntaxError
from recorder.search_store import SearchIndexError
from recorder.stored import Identity

_SYNTAX = (
    'words, "a phrase", word*, AND, OR, NOT and brackets are understood, and fields: '
    "sql: params: said: tables: functions: columns: facts:"
)

PATIENCE = 3.0
"""Seconds for a server that is entering what is new."""
FolderOption = Annotated[
    Path | None,
    typer.Option("--dir", metavar="DIR", help="A recordings folder; without it, the one that the config names."),
]
IndexOption = Annotated[
    Path | None,
    typer.Option("--index", metavar="FILE", help="Where the index lies; without it, beside the recordings."),
]


def search_command(
    *,
    config: ConfigOption,
    output: OutputOption,
    query: Annotated[str, typer.Argument(metavar="[QUERY]", help="Words, as in: customers AND deny.")] = "",
    since: SinceOption = None,
    until: UntilOption = None,
    person: Annotated[str | None, typer.Option("--person", metavar="PERSON")] = None,
    vendor: Annotated[str | None, typer.Option("--vendor", metavar="VENDOR")] = None,
    grant: Annotated[str | None, typer.Option("--grant", metavar="GRANT")] = None,
    session: Annotated[str | None, typer.Option("--session", metavar="ID", help="The whole id.")] = None,
    database: Annotated[str | None, typer.Option("--database", metavar="DATABASE")] = None,
    table: Annotated[str | None, typer.Option("--table", metavar="TABLE", help="app.customers, or customers.")] = None,
    column: Annotated[
        str | None, typer.Option("--column", metavar="COLUMN", help="Where columns are recorded.")
    ] = None,
    function: Annotated[str | None, typer.Option("--function", metavar="FUNCTION")] = None,
    verdict: Annotated[str | None, typer.Option("--verdict", metavar="allow|mask|hold|deny")] = None,
    rule: Annotated[str | None, typer.Option("--rule", metavar="RULE", help="The rule that refused.")] = None,
    min_rows: Annotated[int, typer.Option("--min-rows", metavar="N", help="Results of N rows or more.", min=0)] = 0,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="So many on a page.", min=1, max=10_000)] = 50,
    after: Annotated[str | None, typer.Option("--after", metavar="NEXT", help="The page after this one.")] = None,
    update: Annotated[bool, typer.Option("--update/--no-update", help="Read what is new first.")] = True,
    folder: FolderOption = None,
    index: IndexOption = None,
    identity: IdentityOption = None,
) -> None:
    """Statements of all sessions that hold these words and fit these facts, the newest first."""
    directory = recordings(folder, config)
    keys = _keys(identity, index, folder, config)
    asked = Query(
        text=query, session=session, grant=grant, person=person, vendor=vendor, database=database, table=table,
        column=column, function=function, verdict=verdict, rule=rule, since=moment(since, "--since"),
        until=moment(until, "--until"), min_rows=min_rows, limit=limit, after=after,
    )  # fmt: skip
    try:
        if update:
            progress = _progress("reading recordings")
            _say(search_feed.update(directory, path=index, keys=keys, patience=PATIENCE, progress=progress))
        page = search.search(directory, asked, path=index)
    except QuerySyntaxError as error:
        fail(USAGE, f"cannot read the query {query!r}: {error}", _SYNTAX)
    except SearchIndexError as error:
        fail(UNREACHABLE, str(error), "daypass recording rebuild-index makes it anew from the recordings")
    except OSError as error:
        fail(UNREACHABLE, f"cannot read {error.filename}: {error.strerror}")
    emit(page.to_dict(), output, lambda console: show_search.page(console, page))
    if not page.hits:
        note("nothing found")
    elif page.next is not None and sys.stdout.isatty():
        note(f"more: --after {page.next}")


def rebuild_command(
    config: ConfigOption,
    output: OutputOption,
    folder: FolderOption = None,
    index: IndexOption = None,
    identity: IdentityOption = None,
) -> None:
    """Make the search index anew from the recordings. Searches go on with the old one meanwhile."""
    directory = recordings(folder, config)
    try:
        keys = _keys(identity, index, folder, config)
        filled = search_feed.rebuild(directory, path=index, keys=keys, progress=_progress("reading recordings"))
    except SearchIndexError as error:
        fail(UNREACHABLE, str(error))
    except OSError as error:
        fail(UNREACHABLE, f"cannot write {error.filename}: {error.strerror}")
    _say(filled)
    said = f"{filled.statements:,} statements can be searched"
    emit({"statements": filled.statements}, output, lambda console: console.print(said))


def _keys(identity: list[Path] | None, index: Path | None, folder: Path | None, config: Path) -> list[Identity]:
    """The keys, where somebody has said where the index of what they open may lie."""
    sealed = identity is not None or (folder is None and bool(load_config(config).recording.recipients))
    if sealed and index is None:
        fail(
            USAGE,
            "these recordings are encrypted, and an index holds their words in the clear",
            "say where it may lie with --index FILE, and give the key with --identity FILE",
        )
    return identities(identity)


def _say(filled: search_feed.Filled | None) -> None:
    if filled is None:
        note("another process brings the index up to date; this is what it has so far")
    elif filled.encrypted:
        note(f"{filled.encrypted:,} recordings are encrypted and were not read; --identity FILE opens them")


def recordings(folder: Path | None, config: Path) -> Path:
    """The recordings folder that is meant."""
    directory = folder or load_config(config).recording.dir
    if not directory.is_dir():
        fail(UNREACHABLE, f"there is no recordings folder at {directory}")
    return directory.absolute()


def _progress(what: str) -> search_feed.Progress:
    """On a terminal, how far a long reading is; the line is gone when it is done."""

    def say(statements: int, left: int) -> None:
        if sys.stderr.isatty():
            shown = f"{what}: {statements:,} statements, {left:,} recordings left" if left else ""
            sys.stderr.write(f"\r\x1b[2K{shown}")
            sys.stderr.flush()

    return say
