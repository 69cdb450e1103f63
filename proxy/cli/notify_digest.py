"""`daypass notify digest`: which digests there are, and what one would say now. Nothing is sent and nothing is marked.

Arguments and exit codes only; the recorder counts and writes. Invariant: what is shown is what those who get it would
read, made by the same code.
"""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from proxy.access.digests import Digests, Period
from proxy.access.schedule import last_due, next_due
from proxy.access.store import untold
from proxy.cli.options import ConfigOption, OutputOption, load_config
from proxy.cli.output import UNREACHABLE, emit, fail, grid, note, rfc3339
from proxy.cli.period import SinceOption, UntilOption, moment
from proxy.cli.recording_report import Form
from proxy.cli.state import Access, unknown, with_access
from proxy.clock import SystemClock
from proxy.config import Config
from proxy.config_notify import Digest
from proxy.server.digest import request, schedule, something
from recorder import aside, report, treelog
from recorder.summary import Summary


def digest_command(
    config: ConfigOption,
    output: OutputOption,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One of config.yaml's digests.")] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    form: Annotated[Form, typer.Option("--format", help="md and html are what a mail has, json what a hook gets.")] = (
        Form.MD
    ),
) -> None:
    """List the digests; with a NAME, show what it would say of the period that runs, or of the one given.
    Nothing is sent.

    Example: daypass notify digest owners --format html > digest.html
    """
    cfg = load_config(config)
    if name is None:
        _list(cfg, output)
        return
    if name not in cfg.digests:
        unknown("digest", name, list(cfg.digests), str(cfg.file))
    now = SystemClock().now()
    begin = moment(since, "--since") or _seen(cfg)[name] or last_due(schedule(cfg.digests[name]), now)
    total = _sums(cfg, cfg.digests[name], Period(begin, moment(until, "--until") or now))
    if not something(total):
        note("nothing was done in that time: it is told only where the digest has empty: true")
    match form:
        case Form.MD:
            sys.stdout.write(report.markdown(total, made=now))
        case Form.HTML:
            sys.stdout.write(report.html(total, made=now))
        case Form.JSON:
            sys.stdout.write(msgspec.json.encode(total).decode() + "\n")


def _sums(cfg: Config, digest: Digest, period: Period) -> Summary:
    try:
        return aside.sums(request(digest, cfg.recording.dir.absolute(), period))
    except OSError as error:
        fail(UNREACHABLE, f"cannot read {error.filename}: {error.strerror}")


def _seen(cfg: Config) -> dict[str, datetime | None]:
    """Up to when each was told."""
    folder: Path = cfg.recording.dir

    async def look(access: Access) -> dict[str, datetime | None]:
        try:
            place = treelog.maker(folder)
        except OSError:
            return dict.fromkeys(cfg.digests)
        digests = Digests(access.store, access.clock, untold, place or (await access.store.identity())[0])
        return {name: await digests.seen(name) for name in cfg.digests}

    return with_access(cfg, look) if cfg.digests else {}


def _list(cfg: Config, output: Any) -> None:
    now, seen = SystemClock().now(), _seen(cfg)
    data: list[dict[str, Any]] = []
    for name, digest in cfg.digests.items():
        due = next_due(schedule(digest), seen[name] or now)
        data.append(
            {
                "digest": name,
                "of": f"vendor {digest.vendor}" if digest.vendor else "everybody",
                "databases": list(digest.databases),
                "to": list(digest.to),
                "every": _every(digest),
                "told_until": rfc3339(seen[name]),
                "next": rfc3339(due),
            }
        )
    rows: list[list[Any]] = [
        [
            one["digest"],
            f"{one['of']}{' in ' + ', '.join(one['databases']) if one['databases'] else ''}",
            ", ".join(one["to"]),
            one["every"],
            one["told_until"] or "never",
            one["next"],
        ]
        for one in data
    ]
    heads = ["DIGEST", "OF", "TO", "EVERY", "TOLD UNTIL", "NEXT"]
    emit(data, output, grid(heads, rows, empty="There are none: config.yaml has no digests."))


def _every(digest: Digest) -> str:
    when = schedule(digest)
    return f"{when.day or 'day'} {when.at} {when.timezone}"
