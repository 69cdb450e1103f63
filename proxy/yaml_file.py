"""YAML files whose mistakes can be named by file and line.

Reads a file into plain data and a table of the line of each key; turns pydantic's errors into `Finding`s with the
nearest known key. Knows no model in particular. The invariant: a file that says one thing twice (a duplicate key), or
that would grow when read (aliases of aliases), is a finding and never a guess; no value is repeated in a message unless
it is one of a few known words.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from proxy.units import format_duration

Lines = Mapping[tuple[str | int, ...], int]
"""The line (from 1) of each key and list item, by its path from the top."""

_MAX_BYTES = 4 << 20
_MAX_NODES = 200_000
_MAX_DEPTH = 60


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake in one file. `line` is 0 where there is none (the file is missing)."""

    file: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class FindingsError(Exception):
    """A file that cannot be used; `findings` says why, all of it."""

    def __init__(self, found: list[Finding]) -> None:
        super().__init__("\n".join(map(str, found)))
        self.findings = found


def read_yaml(path: Path) -> tuple[Any, Lines]:
    """The data of a file and the lines of its keys. Raises FindingsError."""
    return parse_yaml(read_text(path), path)


def read_text(path: Path) -> str:
    """The text of a file. Raises FindingsError."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise FindingsError([Finding(str(path), 0, "", f"cannot be read: {error.strerror}")]) from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise FindingsError([Finding(str(path), line, "", "is not UTF-8 text")]) from None


def parse_yaml(text: str, file: Path | str) -> tuple[Any, Lines]:
    """As `read_yaml`, for a text that is at hand. `file` only names it. Raises FindingsError."""
    if len(text) > _MAX_BYTES:
        raise FindingsError([Finding(str(file), 0, "", f"is larger than {_MAX_BYTES >> 20} MiB")])
    try:
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"a character that YAML forbids: U+{ord(text[error.position]):04X}"
        raise FindingsError([Finding(str(file), line, "", message)]) from None
    try:
        root = loader.get_single_node()
        if root is None:
            return {}, {(): 1}
        walk = _Walk(str(file))
        walk.node(root, (), 0)
        if walk.findings:
            raise FindingsError(walk.findings)
        return loader.construct_document(root), walk.lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise FindingsError([Finding(str(file), mark.line + 1 if mark else 0, "", f"is not YAML: {what}")]) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # ValueError: a date such as 2026-13-45
        raise FindingsError([Finding(str(file), 0, "", f"is not YAML: {str(error).splitlines()[0]}")]) from None
    except RecursionError:
        raise FindingsError([Finding(str(file), 0, "", "is nested too deeply")]) from None
    finally:
        loader.dispose()


class _Walk:
    """Notes the line of every key, and what YAML lets pass and we do not."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[tuple[str | int, ...], int] = {}
        self.findings: list[Finding] = []
        self.nodes = 0

    def node(self, node: yaml.Node, path: tuple[str | int, ...], depth: int) -> None:
        self.nodes += 1
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        if depth > _MAX_DEPTH or self.nodes > _MAX_NODES:
            self._found(line, path, "too large or nested too deeply (aliases count as often as they are used)")
            raise FindingsError(self.findings)
        if isinstance(node, yaml.SequenceNode):
            for i, item in enumerate(node.value):
                self.node(item, (*path, i), depth + 1)
        elif isinstance(node, yaml.MappingNode):
            self._mapping(node, path, depth)

    def _mapping(self, node: yaml.MappingNode, path: tuple[str | int, ...], depth: int) -> None:
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self._found(line, path, "a key must be a plain word")
                continue
            name = str(key.value)
            here = (*path, name)
            if name in seen:
                self._found(line, here, f"stands here a second time; first in line {seen[name]}")
            seen[name] = line
            self.lines.setdefault(here, line)
            self.node(value, here, depth + 1)

    def _found(self, line: int, path: tuple[str | int, ...], message: str) -> None:
        self.findings.append(Finding(self.file, line, dotted(path), message))


def dotted(path: tuple[str | int, ...]) -> str:
    """`databases.app.tls`, `tests[0].sql`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def line_of(lines: Lines, path: tuple[str | int, ...]) -> int:
    """The line of a key, or of the nearest thing around it that stands in the file."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def nearest(word: str, known: typing.Iterable[str]) -> str | None:
    """The one known word that somebody may have meant."""
    names = list(known)
    close = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    begun = [name for name in names if len(word) > 1 and name.startswith(word.lower())]
    return close[0] if close else begun[0] if len(begun) == 1 else None


def findings(file: Path | str, lines: Lines, error: ValidationError, model: type[BaseModel]) -> list[Finding]:
    """Pydantic's errors as findings, in the order of the file."""
    found = []
    for detail in error.errors(include_url=False):
        path = tuple(detail["loc"])
        found.append(Finding(str(file), line_of(lines, path), dotted(path), _message(detail, path, model)))
    return sorted(found, key=lambda f: f.line)


def _message(detail: Any, path: tuple[str | int, ...], model: type[BaseModel]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(str(path[-1]), known_keys(model, path[:-1]))
    if kind == "literal_error":
        expected = str(context["expected"]).replace("'", "")
        value = detail["input"]
        if isinstance(value, bool):  # YAML 1.1 reads off, on, yes and no as truth values
            return f"expected {expected}; YAML reads this word as {str(value).lower()}"
        guess = nearest(str(value), expected.replace(" or ", ", ").split(", ")) if isinstance(value, str) else None
        return f"expected {expected}" + (f" (did you mean {guess}?)" if guess else "")
    fixed = _TEXTS.get(kind)
    if fixed is not None:
        return fixed(context)
    return str(detail["msg"]).removeprefix("Value error, ")


_TEXTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "missing": lambda _: "is missing and has no default",
    "string_type": lambda _: "a text was expected (quote it when it looks like a number or a date)",
    "int_type": lambda _: "a whole number was expected",
    "int_parsing": lambda _: "a whole number was expected",
    "int_from_float": lambda _: "a whole number was expected",
    "bool_type": lambda _: "true or false was expected",
    "bool_parsing": lambda _: "true or false was expected",
    "list_type": lambda _: "a list was expected, for example [a, b]",
    "dict_type": lambda _: "a table of keys was expected",
    "model_type": lambda _: "a table of keys was expected",
    "model_attributes_type": lambda _: "a table of keys was expected",
    "path_type": lambda _: "a path was expected",
    "greater_than": lambda c: f"must be more than {_bound(c['gt'])}",
    "greater_than_equal": lambda c: f"must be {_bound(c['ge'])} or more",
    "less_than": lambda c: f"must be less than {_bound(c['lt'])}",
    "less_than_equal": lambda c: f"must be {_bound(c['le'])} or less",
    "string_too_short": lambda _: "must not be empty",
    "too_short": lambda _: "must not be empty",
}


def _bound(value: Any) -> str:
    """A limit as people write it: the floats of these files are durations."""
    return format_duration(value) if isinstance(value, float) and value else f"{value:g}"


def _unknown_key(key: str, known: list[str]) -> str:
    references = [name for name in known if name in {f"{key}_env", f"{key}_file"}]
    if references:
        return f"a secret does not stand in a file: write {' or '.join(references)}"
    guess = nearest(key, known)
    if guess:
        return f"unknown key (did you mean {guess}?)"
    return f"unknown key; known here: {', '.join(known)}" if known else "unknown key"


def known_keys(model: type[BaseModel], path: tuple[str | int, ...]) -> list[str]:
    """The keys that a model takes at a path inside it."""
    here: Any = model
    for part in path:
        if isinstance(here, type) and issubclass(here, BaseModel):
            field = next((f for n, f in here.model_fields.items() if part in {n, f.alias}), None)
            here = field.annotation if field else None
        else:
            here = next((a for a in typing.get_args(here) if a not in {str, int}), None)
        here = _inner_model(here)
    if isinstance(here, type) and issubclass(here, BaseModel):
        return [f.alias or n for n, f in here.model_fields.items()]
    return []


def _inner_model(annotation: Any) -> Any:
    """`X | None` and Annotated[X, …] are X."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _inner_model(typing.get_args(annotation)[0])
    if origin in {typing.Union, types.UnionType}:
        return next((_inner_model(a) for a in typing.get_args(annotation) if a is not type(None)), None)
    return annotation
