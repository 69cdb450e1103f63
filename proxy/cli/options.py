"""The options that every command has, and how the config file is found.

`-c/--config` and `-o/--output` stand before or after the command; after wins. It reads nothing but the command
line, the environment and the config file.
"""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from proxy.cli.output import USAGE, Output, fail
from proxy.config import Config, load

DEFAULT = Path("config.yaml")


def _config(context: typer.Context, value: Path | None) -> Path:
    """The option here, else before the command or DAYPASS_CONFIG, else ./config.yaml."""
    if value is None:
        value = context.find_root().params.get("config")
    return DEFAULT if value is None else value


def _output(context: typer.Context, value: Output | None) -> Output:
    """The option here, else before the command, else a table on a terminal and JSON where a program reads."""
    if value is None:
        value = context.find_root().params.get("output")
    if value is None:
        return Output.TABLE if sys.stdout.isatty() else Output.JSON
    return Output(value)


ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        callback=_config,
        default_factory=lambda: None,
        help="The config file (else DAYPASS_CONFIG, else ./config.yaml).",
        show_default=False,
    ),
]
"""`def command(config: ConfigOption, output: OutputOption)`: without a default; what arrives has been looked up."""

OutputOption = Annotated[
    Output,
    typer.Option(
        "--output",
        "-o",
        callback=_output,
        default_factory=lambda: None,
        help="json, or a table for people (the default on a terminal).",
        show_default=False,
    ),
]

ByOption = Annotated[str | None, typer.Option("--by", help="Who does this (else the user of this machine).")]


def who(by: str | None) -> str:
    """`--by`, else the user of this machine."""
    if by is not None:
        return by
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number without a name
        return "unknown"


def load_config(config: Path) -> Config:
    """The config that a command works with. Raises ConfigError, which `main` shows; exit code 2."""
    if config == DEFAULT and not config.exists():
        hint = "give -c FILE, set DAYPASS_CONFIG, or make one: daypass init DIR"
        fail(USAGE, "there is no config.yaml here", hint)
    return load(config)
