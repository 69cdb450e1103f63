"""`daypass notify`: who is told of steps, whether it reaches them, and a test of it.

Telling itself is the server's business; these commands need none. Invariant: no secret of a sink is printed, nor an
address that may be one.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from proxy.access.outbox import Outbox, Standing, Step
from proxy.cli.notify_digest import digest_command
from proxy.cli.options import ByOption, ConfigOption, OutputOption, load_config, who
from proxy.cli.output import NO, USAGE, Failure, emit, fail, grid, rfc3339, styled
from proxy.cli.state import Access, unknown, with_access
from proxy.clock import SystemClock
from proxy.config_notify import Notify
from proxy.server.notice import notice
from proxy.server.senders import NotDelivered, deliver, target

app = typer.Typer(no_args_is_help=True, help="Who is told of steps; try whether it reaches them.")
app.command("digest")(digest_command)


@app.command("list")
def list_(config: ConfigOption, output: OutputOption) -> None:
    """Show who is told of steps, when that last succeeded, and what waits.

    Example: daypass notify list
    """
    cfg = load_config(config)

    async def look(access: Access) -> dict[str, Standing]:
        outbox = Outbox(access.store, access.clock)
        return {name: await outbox.standing(name) for name in cfg.notify}

    found = with_access(cfg, look) if cfg.notify else {}
    rows: list[list[str | Text]] = [
        [
            name,
            _kind(sink),
            target(sink),
            " ".join(sink.events) or "digests only",
            rfc3339(found[name].last) or "never",
            str(found[name].backlog),
            str(found[name].given_up),
            styled(found[name].error or "", "red"),
        ]
        for name, sink in cfg.notify.items()
    ]
    data = [
        {
            "sink": name,
            "kind": _kind(sink),
            "target": target(sink),
            "events": list(sink.events),
            "last": rfc3339(found[name].last),
            "backlog": found[name].backlog,
            "given_up": found[name].given_up,
            "error": found[name].error,
        }
        for name, sink in cfg.notify.items()
    ]
    heads = ["SINK", "KIND", "TO", "EVENTS", "LAST", "WAITING", "GIVEN UP", "ERROR"]
    emit(data, output, grid(heads, rows, empty="Nobody is told: config.yaml has no notify."))


@app.command("test")
def try_(
    config: ConfigOption,
    output: OutputOption,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One of config.yaml's; else all.")] = None,
    by: ByOption = None,
) -> None:
    """Send a step called notify.test, and say what happened. Exit code 1 if one was not reached.

    Example: daypass notify test mail
    """
    cfg = load_config(config)
    if not cfg.notify:
        fail(USAGE, "config.yaml has no notify", "docs/how-to/be-told.md shows how")
    if name is not None and name not in cfg.notify:
        unknown("sink", name, list(cfg.notify), str(cfg.file))
    sinks = cfg.notify if name is None else {name: cfg.notify[name]}

    async def look(access: Access) -> str:
        return (await access.store.identity())[0]

    installation = with_access(cfg, look)
    results = asyncio.run(_try(sinks, installation, who(by)))

    def table(console: Console) -> None:
        for result in results:
            mark = styled("ok  ", "green") if result["ok"] else styled("FAIL", "bold red")
            console.print(Text.assemble(mark, f"  {result['sink']}: {result['target']}: {result['said']}"))

    emit(results, output, table)
    if lost := [result["sink"] for result in results if not result["ok"]]:
        raise Failure(NO, f"not reached: {', '.join(lost)}")


async def _try(sinks: dict[str, Notify], installation: str, by: str) -> list[dict[str, Any]]:
    clock, results = SystemClock(), []
    told = notice(Step(0, clock.now(), "notify.test", {"by": by, "reason": "a test; nothing happened"}), installation)
    for name, sink in sinks.items():
        began = clock.monotonic()
        try:
            ok, said = True, await deliver(sink, told, clock.now)
        except NotDelivered as problem:
            ok, said = False, str(problem)
        result = {"sink": name, "kind": _kind(sink), "target": target(sink), "ok": ok, "said": said}
        results.append(result | {"ms": round((clock.monotonic() - began) * 1000)})
    return results


def _kind(sink: Notify) -> str:
    if sink.webhook is not None:
        return sink.form if sink.form == "slack" else "webhook"
    return "mail" if sink.smtp is not None else "command"
