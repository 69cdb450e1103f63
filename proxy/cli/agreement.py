"""`daypass agreement`: the texts that people accept, who has accepted which, signatures on paper, and their end.

It needs no running server: a server reads the same folder and the same state. The invariants: what is shown as accepted
is what counts at a login; a signature that an operator records says that it was he who recorded it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text as Styled

from proxy.access.agreements import LONGEST_FILE, Acceptance, AgreementError, Text, Texts
from proxy.access.links import LONGEST, Link, Links
from proxy.access.model import Grant
from proxy.cli.options import ByOption, ConfigOption, OutputOption, load_config, who
from proxy.cli.output import USAGE, emit, fail, fields, grid, rfc3339, styled, warn
from proxy.cli.state import Access, unknown, where, with_access
from proxy.config import Config, parse_duration
from proxy.policy.load import Policies

app = typer.Typer(no_args_is_help=True, help="Texts that people accept before access opens, and who has.")

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The agreement's name: that of its file, without .md.")
]
PersonOption = Annotated[str, typer.Option("--person", help="Whose acceptance it is: as in the grant.")]


@app.command("list")
def list_(
    config: ConfigOption,
    output: OutputOption,
    person: Annotated[str | None, typer.Option("--person", help="Only what this person has accepted.")] = None,
) -> None:
    """Show every agreement, which policies ask for it, and who has accepted which of its texts.

    Example: daypass agreement list --person jo@vendor.example
    """
    cfg = load_config(config)
    texts, asking = Texts(cfg.agreements), _asking(cfg)

    async def look(access: Access) -> tuple[list[Acceptance], list[tuple[Text, datetime]]]:
        return await access.agreements.all(person), await access.agreements.kept()

    accepted, kept = with_access(cfg, look)
    known = sorted({*texts.names(), *asking, *(a.agreement for a in accepted)})
    versions = {(text.name, text.sha256): text.version for text, _ in kept}
    data: list[dict[str, Any]] = []
    rows: list[list[str | Styled]] = []
    for name in known:
        current, problem = _current(texts, name)
        mine = [a for a in accepted if a.agreement == name]
        if current is not None:
            versions[name, current.sha256] = current.version
        data.append(
            {
                "agreement": name,
                "version": current.version if current is not None else None,
                "sha256": current.sha256 if current is not None else None,
                "file": str(texts.file(name)),
                "problem": problem,
                "policies": asking.get(name, []),
                "acceptances": [_plain(a, versions, current) for a in mine],
            }
        )
        rows += _rows(name, current, asking.get(name, []), mine, versions)
    heads = ["AGREEMENT", "VERSION", "ASKED BY", "ACCEPTED BY", "AS", "WHEN", "HOW", "COUNTS"]
    empty = f"No agreements. A text is a file NAME.md in {cfg.agreements}; a policy names it under agreements:."
    emit(data, output, grid(heads, rows, empty=empty))
    for entry in data:
        if entry["problem"] is not None:
            warn(entry["problem"])


@app.command()
def show(
    config: ConfigOption,
    output: OutputOption,
    name: NameArgument,
    version: Annotated[str | None, typer.Option("--version", help="An earlier text, by its version.")] = None,
    sha: Annotated[str | None, typer.Option("--sha", help="An earlier text, by how its SHA-256 begins.")] = None,
) -> None:
    """Show an agreement's current text, or an earlier one that somebody was asked to accept.

    Example: daypass agreement show nda-2026 --sha 60cc66de
    """
    cfg = load_config(config)
    texts = Texts(cfg.agreements)
    current, problem = _current(texts, name)
    earlier = [text for text, _ in with_access(cfg, lambda access: access.agreements.kept()) if text.name == name]
    there = [*([current] if current is not None else []), *(text for text in earlier if text != current)]
    if not there:
        if texts.file(name).exists():
            fail(USAGE, problem or f"there is no agreement {name!r}")
        unknown("agreement", name, texts.names(), str(cfg.agreements))
    found = [t for t in there if version in (None, t.version) and t.sha256.startswith((sha or "").lower())]
    if not found or (version is None and sha is None and current is None):
        known = ", ".join(f"{text.version} ({text.sha256[:12]})" for text in there)
        fail(USAGE, problem or f"{name} has no such text", f"these are kept: {known}; choose with --version or --sha")
    text = found[0]
    data = {
        "agreement": text.name, "version": text.version, "sha256": text.sha256, "current": text == current,
        "text": text.text,
    }  # fmt: skip

    def table(console: Console) -> None:
        state = styled("current", "green") if text == current else styled("an earlier text", "yellow")
        console.print(Styled.assemble((text.title, "bold"), ", ", state))
        fields([("sha256", text.sha256)])(console)
        console.print()
        for line in text.body.splitlines():
            console.print(Styled(line), soft_wrap=True)

    emit(data, output, table)


@app.command()
def accept(
    config: ConfigOption,
    output: OutputOption,
    name: NameArgument,
    person: PersonOption,
    signed_as: Annotated[str, typer.Option("--name", help="The full name that stands under the signature.")],
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="The signed paper, scanned; it is kept.")
    ] = None,
    by: ByOption = None,
) -> None:
    """Record that somebody has accepted the current text elsewhere: on paper, with the file of it.

    Example: daypass agreement accept nda-2026 --person jo@vendor.example
    --name 'Jo Doe' --file scan.pdf
    """
    cfg = load_config(config)
    data = _file(file) if file is not None else None
    if data is None:
        warn("without --file there is nothing but your word for it, and the record says so")
    text = _given(cfg, name)

    async def record(access: Access) -> Acceptance:
        how: Any = "paper" if data is not None else "cli"
        return await access.agreements.accept(
            text, person=person, name=signed_as, how=how, address=where(), by=who(by), file=data
        )

    made = with_access(cfg, record)

    def table(console: Console) -> None:
        console.print(f"Recorded: {made.person} has accepted {text.title} as {made.signed_as}.")
        fields(
            [
                ("sha256", text.sha256),
                ("file", f"{made.file_name}, SHA-256 {made.file_sha256}" if made.file_name else None),
                ("recorded", f"{rfc3339(made.at)} by {made.recorded_by}"),
            ]
        )(console)

    emit(_plain(made, {(text.name, text.sha256): text.version}, text), output, table)


@app.command()
def link(
    config: ConfigOption,
    output: OutputOption,
    name: NameArgument,
    person: PersonOption,
    length: Annotated[
        str, typer.Option("--for", metavar="DURATION", help=f"How long it can be used: at most {LONGEST.days}d.")
    ] = "48h",
    by: ByOption = None,
) -> None:
    """Make a link by which somebody reads the current text in a browser and accepts it, once.

    It is shown now and never again. A newer one for the same person and agreement ends it.

    Example: daypass agreement link nda-2026 --person jo@vendor.example --for 24h
    """
    cfg = load_config(config)
    if cfg.links is None:
        hint = "set links.url in config.yaml to the address by which people reach this server, and restart serve"
        fail(USAGE, "there is no page for links", hint)
    try:
        seconds = parse_duration(length)
    except ValueError as error:
        fail(USAGE, f"--for: {error}")
    if not 0 < seconds <= LONGEST.total_seconds():
        fail(USAGE, f"--for: more than no time, and at most {LONGEST.days}d")
    text = _given(cfg, name)

    async def make(access: Access) -> tuple[Link, str, bool]:
        links = Links(access.store, access.clock, access.agreements, access.emit)
        new = bool(await access.agreements.pending(person, [name]))
        return *await links.make(text, person=person, by=who(by), length=timedelta(seconds=seconds)), new

    made, secret, new = with_access(cfg, make)
    url = f"{cfg.links.url}/sign/{secret}"

    def table(console: Console) -> None:
        console.print(f"{made.person} can read and accept {text.title} here, once:")
        console.print()
        console.print(Styled(url, "bold"))
        console.print()
        until = f"{rfc3339(made.expires_at)}; while `daypass serve` runs, and the text stays as it is"
        fields([("until", until), ("sha256", text.sha256)])(console)
        console.print("Whoever has the link can accept in their name: send it to them alone. It is not shown again.")

    data: dict[str, Any] = {
        "link": made.id,
        "person": made.person,
        "agreement": made.agreement,
        "version": text.version,
    }
    data |= {"sha256": made.sha256, "expires_at": rfc3339(made.expires_at), "url": url}
    emit(data, output, table)
    if not new:
        warn(f"{made.person} has accepted this text already")


@app.command()
def paper(
    config: ConfigOption,
    output: OutputOption,
    acceptance: Annotated[str, typer.Argument(metavar="ACCEPTANCE", help="The id of `agreement list -o json`.")],
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="Where it is written; it must not be there.")],
) -> None:
    """Write the file of a paper signature, as it was recorded.

    Example: daypass agreement paper a-7k3m9x2q --to scan.pdf
    """
    cfg = load_config(config)
    name, data = with_access(cfg, lambda access: access.agreements.paper(acceptance))
    try:
        with to.open("xb") as file:
            file.write(data)
    except OSError as problem:
        fail(USAGE, f"--to: {to}: {problem.strerror}")
    digest = hashlib.sha256(data).hexdigest()
    answer = {"acceptance": acceptance, "file": name, "sha256": digest, "written": str(to)}
    emit(answer, output, lambda console: console.print(f"{name} is written to {to}. SHA-256 {digest}"))


@app.command()
def revoke(
    config: ConfigOption,
    output: OutputOption,
    name: NameArgument,
    person: PersonOption,
    reason: Annotated[str, typer.Option("--reason", help="Why; the person is told, and it stands in the record.")],
    by: ByOption = None,
) -> None:
    """End what somebody has accepted, and with it every grant of theirs that needs it.

    Example: daypass agreement revoke nda-2026 --person jo@vendor.example --reason 'left the firm'
    """
    cfg = load_config(config)
    asking = _asking(cfg)

    def needs(grant: Grant) -> bool:
        return name in grant.terms.agreements or grant.policy in asking.get(name, [])

    async def end(access: Access) -> tuple[list[Acceptance], list[Grant]]:
        return await access.agreements.revoke(
            name, person=person, reason=reason, by=who(by), grants=access.grants, needs=needs
        )

    revoked, ended = with_access(cfg, end)

    def table(console: Console) -> None:
        console.print(f"What {revoked[0].person} has accepted of {name} no longer counts.")
        for grant in ended:
            console.print(f"Grant {grant.id} is revoked; its sessions end within a second.")

    data = {"agreement": name, "person": revoked[0].person, "revoked": [a.id for a in revoked]}
    emit(data | {"grants": [grant.id for grant in ended]}, output, table)


def _asking(cfg: Config) -> dict[str, list[str]]:
    """The policies that name each agreement."""
    policies = Policies(cfg.policies)
    policies.load()
    found: dict[str, list[str]] = {}
    for name in policies.names():
        for agreement in policies.get(name).model.agreements:
            found.setdefault(agreement, []).append(name)
    return found


def _given(cfg: Config, name: str) -> Text:
    """The current text of a name that was typed. Exits 2 where there is none."""
    texts = Texts(cfg.agreements)
    if name not in texts.names():
        unknown("agreement", name, texts.names(), str(cfg.agreements))
    text, problem = _current(texts, name)
    if text is None:
        fail(USAGE, problem or f"there is no agreement {name!r}")
    return text


def _current(texts: Texts, name: str) -> tuple[Text | None, str | None]:
    try:
        return texts.read(name), None
    except AgreementError as problem:
        return None, str(problem)


def _file(path: Path) -> tuple[str, bytes]:
    try:
        with path.open("rb") as file:
            data = file.read(LONGEST_FILE + 1)
    except OSError as problem:
        fail(USAGE, f"--file: {path}: {problem.strerror}")
    if not data:
        fail(USAGE, f"--file: {path} is empty")
    return path.name, data


def _standing(acceptance: Acceptance, current: Text | None) -> str:
    """Whether it opens anything: yes, revoked, or old (there is another text since)."""
    if acceptance.revoked_at is not None:
        return "revoked"
    return "yes" if current is not None and acceptance.sha256 == current.sha256 else "old text"


def _plain(acceptance: Acceptance, versions: dict[tuple[str, str], str], current: Text | None) -> dict[str, Any]:
    a = acceptance
    return {
        "acceptance": a.id,
        "person": a.person,
        "agreement": a.agreement,
        "version": versions.get((a.agreement, a.sha256)),
        "sha256": a.sha256,
        "signed_as": a.signed_as,
        "how": a.how,
        "address": a.address,
        "grant": a.grant,
        "file": a.file_name,
        "file_sha256": a.file_sha256,
        "at": rfc3339(a.at),
        "recorded_by": a.recorded_by,
        "counts": _standing(a, current) == "yes",
        "revoked_at": rfc3339(a.revoked_at),
        "revoked_by": a.revoked_by,
        "revoke_reason": a.revoke_reason,
    }


def _rows(
    name: str,
    current: Text | None,
    policies: list[str],
    accepted: Iterable[Acceptance],
    versions: dict[tuple[str, str], str],
) -> list[list[str | Styled]]:
    """A line for the agreement, and one below it for each acceptance."""
    state: str | Styled = current.version if current is not None else styled("no text", "bold red")
    rows: list[list[str | Styled]] = [[name, state, ", ".join(policies), "", "", "", "", ""]]
    colours = {"yes": "green", "revoked": "red", "old text": "yellow"}
    for a in accepted:
        standing = _standing(a, current)
        version = versions.get((a.agreement, a.sha256), a.sha256[:12])
        row: list[str | Styled] = ["", version, "", a.person, a.signed_as, rfc3339(a.at) or "", a.how]
        rows.append([*row, styled(standing, colours[standing])])
    return rows
