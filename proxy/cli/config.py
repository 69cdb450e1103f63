"""`daypass config`: is the file right, what does it mean, what may stand in it."""

from __future__ import annotations

import json
import sys

import typer
import yaml
from rich.console import Console

from proxy import config as settings
from proxy.access.agreements import AgreementError, Texts
from proxy.cli.options import ConfigOption, OutputOption, load_config
from proxy.cli.output import USAGE, emit, styled, warn
from proxy.config import ConfigError, Finding
from proxy.policy.load import Policies
from proxy.policy.model import Policy
from proxy.yaml_file import line_of, parse_yaml

app = typer.Typer(no_args_is_help=True, help="Check and show config.yaml.")


@app.command()
def check(config: ConfigOption, output: OutputOption) -> None:
    """Check config.yaml and the policy files; exit 2 if something must change.

    Example: daypass -c daypass/config.yaml config check
    """
    errors: list[Finding] = []
    warned: list[Finding] = []
    try:
        loaded = load_config(config)
    except ConfigError as error:
        errors += error.findings
    else:
        warned += settings.warnings(loaded)
        errors += policy_findings(loaded)
    data = {
        "ok": not errors,
        "findings": [_plain("error", f) for f in errors] + [_plain("warning", f) for f in warned],
    }

    def table(console: Console) -> None:
        for finding in warned:
            warn(str(finding))
        for finding in errors:
            console.print(styled(str(finding), "red"))
        if not errors:
            console.print(styled(f"{config}: fine", "green"))

    emit(data, output, table)
    if errors:
        raise typer.Exit(USAGE)


@app.command()
def show(config: ConfigOption, output: OutputOption) -> None:
    """Show the values that are in force, defaults and resolved paths included, and no secret.

    Example: daypass -c daypass/config.yaml config show
    """
    shown = load_config(config).shown()
    emit(shown, output, lambda console: console.print(yaml.safe_dump(shown, sort_keys=False).rstrip()))


@app.command()
def schema() -> None:
    """Print the JSON Schema of config.yaml, for editors.

    Example: daypass config schema > config.schema.json
    """
    sys.stdout.write(json.dumps(settings.schema(), indent=2) + "\n")


def policy_findings(config: settings.Config) -> list[Finding]:
    """What is wrong with the policy files, and policies that name a database or precheck which does not exist."""
    policies = Policies(config.policies)
    found = list(policies.load())
    for name in policies.names():
        for database in policies.get(name).databases:
            if database not in config.databases:
                guess = settings.nearest(database, config.databases)
                hint = f" (did you mean {guess}?)" if guess else f"; there are: {', '.join(config.databases)}"
                file = str(config.policies / f"{name}.yaml")
                found.append(Finding(file, 0, "databases", f"{config.file} has no database {database}{hint}"))
        policy = policies.get(name)
        for precheck in policy.model.prechecks:
            if precheck not in config.prechecks:
                guess = settings.nearest(precheck, config.prechecks)
                hint = f" (did you mean {guess}?)" if guess else ": its grants would wait for ever"
                file = str(config.policies / f"{name}.yaml")
                found.append(Finding(file, 0, "prechecks", f"{config.file} has no precheck {precheck}{hint}"))
        lines = parse_yaml(policy.text, policy.file)[1]
        for index, text in missing_texts(config, policy):
            line = line_of(lines, ("agreements", index))
            found.append(Finding(policy.file, line, f"agreements[{index}]", text))
    return found


def missing_texts(config: settings.Config, policy: Policy) -> list[tuple[int, str]]:
    """The agreements that a policy asks for and that have no text, by their place; no login passes without."""
    found, texts = [], Texts(config.agreements)
    for index, name in enumerate(policy.model.agreements):
        try:
            texts.read(name)
        except AgreementError as problem:
            found.append((index, f"{problem}; until it is there no login passes"))
    return found


def _plain(level: str, finding: Finding) -> dict[str, object]:
    return {"level": level, "file": finding.file, "line": finding.line, "key": finding.key, "message": finding.message}
