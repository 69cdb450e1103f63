"""Laws on the documentation: every key, event, metric and command has its place in it, and its links lead somewhere."""

from __future__ import annotations

import re
import typing
from pathlib import Path

import pytest
from pydantic import BaseModel
from typer.main import get_group

from proxy.cli.main import NOUNS, app
from proxy.config import Config
from proxy.demo import script
from proxy.policy.load import parse
from recorder import events
from tests.laws.source import ROOT, name, python, tracked

REFERENCE = ROOT / "docs" / "reference"
PAGES = [path for path in tracked() if path.suffix == ".md"]


def _keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Dotted names of all keys of a config model; entries of a mapping are called NAME."""
    found = []
    for key, field in model.model_fields.items():
        inner, here = _model(field.annotation), f"{prefix}{field.alias or key}"
        if inner is None:
            found.append(here)
        else:
            found += _keys(inner, f"{here}.NAME." if "dict" in str(field.annotation) else f"{here}.")
    return found


def _model(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and typing.get_origin(annotation) is None:
        return annotation if issubclass(annotation, BaseModel) else None
    return next((found for part in typing.get_args(annotation) if (found := _model(part))), None)


def _commands() -> list[str]:
    """Every command as it is typed, without the program's name."""
    group, found = get_group(app), []
    for noun in NOUNS:
        command = group.get_command(None, noun)  # type: ignore[arg-type]
        inner = getattr(command, "commands", None)
        found += [f"{noun} {verb}" for verb in inner] if inner else [noun]
    return found


EVENTS = [
    str(kind.__struct_config__.tag)
    for kind in vars(events).values()
    if isinstance(kind, type) and issubclass(kind, events.Event) and kind is not events.Event
]
METRICS = sorted(
    {
        found
        for path in python("proxy/server")
        for found in re.findall(r"\"(daypass_[a-z_]+)\"", path.read_text(encoding="utf-8"))
    }
)


@pytest.mark.parametrize("key", _keys(Config))
def test_every_config_key_is_explained(key: str) -> None:
    assert f"`{key}`" in (REFERENCE / "config.md").read_text()


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_is_explained(event: str) -> None:
    assert f"`{event}`" in (REFERENCE / "record.md").read_text()


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_explained(metric: str) -> None:
    assert f"`{metric}" in (REFERENCE / "metrics.md").read_text()


@pytest.mark.parametrize("command", _commands())
def test_every_command_is_explained(command: str) -> None:
    text = (REFERENCE / "cli.md").read_text()
    assert command in text or all(re.search(rf"\b{word}\b", text) for word in ["daypass", *command.split()])


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{name(path)} links to {target}"


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_commands_in_the_docs_exist(path: Path) -> None:
    nouns = {command.split()[0] for command in _commands()}
    typed = r"(?:^ {4}|^\$ |`)(?:sudo -u daypass )?(?:\S*/)?daypass (?:-c \S+ )?([a-z]+)\b"  # as code, not in prose
    for noun in re.findall(typed, path.read_text(), re.MULTILINE):
        assert noun in nouns or noun == "node", f"{name(path)}: daypass {noun}"  # "daypass node log": a constant


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_policies_in_the_docs_can_be_read(path: Path) -> None:
    for block in re.findall(r"```yaml\n(name: .*?)```", path.read_text(), re.DOTALL):
        assert parse(block, path).name


def test_the_readme_shows_what_the_demonstration_plays() -> None:
    readme = (ROOT / "README.md").read_text()
    shown = set(re.findall(r"shop=> (.*;)", readme))
    assert shown
    assert shown <= {step.sql for step in script.STEPS}
