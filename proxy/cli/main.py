"""The command `daypass`: the table of its nouns, each loaded when used, and where errors become exit codes.

It knows where commands live and nothing of what they do. The invariant: exit codes are 0 done, 1 the answer is no,
2 usage or configuration, 3 cannot reach what it needs; an error says what happened and what to do, on standard error.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from proxy.cli.output import NO, USAGE, Failure, Output, show_failure
from proxy.yaml_file import FindingsError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typer._click.core import Command  # Typer carries its own click; needed only to name a type

NOUNS = {
    "demo": "See it work: an embedded Postgres, a vendor's session, its replay.",
    "init": "Make a folder with config, certificate and example policy, ready to serve.",
    "serve": "Run the proxy in the foreground.",
    "config": "Check and show config.yaml.",
    "database": "What a database gives to everybody; daypass's views in it.",
    "policy": "Check, show and try policies.",
    "request": "Ask for access; approve, deny and withdraw requests.",
    "agreement": "Texts that people accept before access opens, and who has.",
    "delegation": "Give one's voice on requests to another person, for a while.",
    "grant": "Give, list and end temporary access.",
    "hold": "Statements that wait for another person's yes.",
    "person": "Disable and enable people.",
    "notify": "Who is told of steps; try whether it reaches them.",
    "session": "Who is and was connected.",
    "recording": "Verify, replay, search, export and report recordings.",
    "evidence": "One archive for one grant, which proves itself.",
    "state": "Back up the state, and restore it.",
    "clock": "The time that grants begin and end by.",
    "health": "Is a running daypass ready to serve?",
    "doctor": "Check everything that daypass needs, and say what to do.",
}
"""Every command, with the module of the same name in `proxy.cli`: `app` (a group) or `command` (a function)."""
MODULES = {"state": "backup"}
"""Those whose module has another name."""


class Nouns(TyperGroup):
    """Loads a noun's module when it is used: `daypass health` need not import a SQL parser."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(NOUNS)

    def get_command(self, ctx: Any, cmd_name: str) -> Command | None:
        if cmd_name not in NOUNS:
            return None
        if cmd_name not in self.commands:
            self.commands[cmd_name] = _load(cmd_name)
        return self.commands[cmd_name]

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        if args and args[0] not in NOUNS and not args[0].startswith("-"):
            guess = nearest(args[0], NOUNS)
            hint = f"did you mean {guess}?" if guess else f"there are: {', '.join(NOUNS)}"
            raise Failure(USAGE, f"there is no command {args[0]!r}", hint)
        return super().resolve_command(ctx, args)

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> NoReturn:
        """As Typer's, with our own form of errors."""
        extra["standalone_mode"] = False
        sys.exit(_guarded(lambda: super(Nouns, self).main(args, *rest, **extra)))


def _guarded(run: Any) -> int:
    try:
        result = run()
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except (Failure, FindingsError) as error:
        return show_failure(error)
    except typer.TyperException as error:
        return show_failure(_usage(error))
    except typer.Abort:
        return show_failure(Failure(NO, "stopped"))
    except BrokenPipeError:
        # `daypass … | head`: the reader has enough. Python would complain once more when it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO


def _usage(error: typer.TyperException) -> Failure:
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":  # a noun alone: its help has been printed
        return Failure(USAGE, "a command is missing", "one of those above")
    hint = f"{context.command_path} --help shows how it is used, with an example" if context is not None else None
    message = error.format_message().rstrip(".")
    return Failure(USAGE, message[:1].lower() + message[1:], hint)


def _load(noun: str) -> Command:
    module = importlib.import_module(f"proxy.cli.{MODULES.get(noun, noun)}")
    _log_to_stderr()
    if hasattr(module, "app"):
        command: Command = get_group(module.app)
    else:
        single = typer.Typer(add_completion=False, rich_markup_mode="rich")
        single.command(noun)(module.command)
        command = get_command(single)
    command.name = noun
    command.short_help = NOUNS[noun]
    return command


def _log_to_stderr() -> None:
    """Standard output holds the answer: what is logged goes to standard error, without local variables (`serve` has a
    form of its own). Only where the command logs at all: the import takes time."""
    structlog = sys.modules.get("structlog")
    if structlog is None:
        return
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415  (only here, and it reads the disk)

        sys.stdout.write(f"daypass {version('daypass')}\n")
        raise typer.Exit


app = typer.Typer(
    cls=Nouns,
    name="daypass",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # its tracebacks print local variables, and a token may be one
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", metavar="FILE", envvar="DAYPASS_CONFIG", help="The config file.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Output | None,
        typer.Option("--output", "-o", help="json or table, for commands that answer.", show_default=False),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Temporary, read-only, time-boxed and recorded access to a production Postgres.

    Example: daypass demo --once
    """


def main() -> NoReturn:
    """The console script."""
    app()
    sys.exit(0)  # not reached: Nouns.main ends the process


if __name__ == "__main__":
    main()
