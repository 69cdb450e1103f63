"""Laws on the files themselves: small, explained, tested, and free of what must not be in them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.laws.source import ROOT, name, python, tracked, tree

NEAR_400 = 440
SOURCE = python("proxy", "recorder")

# Names of package registries and of the machine that somebody works on, in pieces, so that this file passes too.
FORBIDDEN = re.compile(
    "|".join(
        [
            r"pypi\." + "org",
            r"files\.python" + "hosted",
            r"registry\.npm" + "js",
            r"deb\.debian" + r"\.org",
            r"proxy\.golang" + r"\.org",
            r"(docker|quay|ghcr)\." + "io",
            "/work/" + "(main|shared)",
            "/tmp/" + "(venv|work)",
            "/opt/" + "pypi",
            "/ro" + r"ot/[\w.]",
            "/home/" + r"(?!(you|vendor|daypass)\b)\w",
        ]
    )
)

# Whole words of what a clock object gives; only the clock itself, and people's demonstration, may ask the system.
ASKS_THE_TIME = {"time.time", "time.monotonic", "time.perf_counter", "datetime.now", "datetime.utcnow", "date.today"}
MAY_ASK_THE_TIME = (
    "proxy/clock.py",
    "proxy/demo/",
    "recorder/files.py",  # how long a lock of another process is waited for; not a time that is told
)


@pytest.mark.parametrize("path", python("proxy", "recorder", "tests"), ids=name)
def test_files_stay_near_400_lines(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= NEAR_400, f"{lines} lines: a file that wants a second verb is two files"


NEEDS_A_TEST = [p for p in SOURCE if p.name not in {"__init__.py", "__main__.py"} and "migrations" not in p.parts]


@pytest.mark.parametrize("path", NEEDS_A_TEST, ids=name)
def test_every_source_file_has_its_test(path: Path) -> None:
    module = name(path).removesuffix(".py").replace("/", ".")
    package, _, stem = module.rpartition(".")
    # By its name, by an import, or because a test says in words that it covers it: `proxy/session/opening.py`.
    imported = rf"from {re.escape(package)} import [^\n]*\b{stem}\b"
    mention = re.compile(rf"\b{re.escape(module)}\b|{imported}|\b{re.escape(name(path))}\b")
    tests = [p for p in python("tests") if p.name.startswith("test_")]
    named = [p for p in tests if p.name == f"test_{stem}.py" or p.name == f"test_{stem}_{p.parent.name}.py"]
    assert named or any(mention.search(p.read_text(encoding="utf-8")) for p in tests), f"no test names {module}"


@pytest.mark.parametrize("path", [p for p in SOURCE if p.stat().st_size], ids=name)
def test_every_source_file_says_what_it_is_for(path: Path) -> None:
    text = ast.get_docstring(tree(path))
    assert text, "no module docstring"
    assert len(text.splitlines()) <= 12, "a module docstring has at most 12 lines"


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _calls(node: ast.Module) -> list[tuple[int, str]]:
    return [(n.lineno, _dotted(n.func)) for n in ast.walk(node) if isinstance(n, ast.Call)]


@pytest.mark.parametrize("path", [p for p in SOURCE if name(p) != "proxy/tasks.py"], ids=name)
def test_tasks_are_made_in_one_place(path: Path) -> None:
    bad = [c for c in _calls(tree(path)) if c[1].split(".")[-1] in {"create_task", "ensure_future"}]
    assert not bad, f"use proxy.tasks.spawn: {bad}"


@pytest.mark.parametrize("path", [p for p in SOURCE if not name(p).startswith(MAY_ASK_THE_TIME)], ids=name)
def test_time_comes_from_the_clock_object(path: Path) -> None:
    bad = [c for c in _calls(tree(path)) if c[1].removeprefix("datetime.") in ASKS_THE_TIME or c[1] in ASKS_THE_TIME]
    assert not bad, f"take a Clock: {bad}"


@pytest.mark.parametrize("path", python("tests"), ids=name)
def test_no_test_replaces_what_a_user_runs(path: Path) -> None:
    names = {
        alias.name
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert not names & {"mock", "unittest.mock", "Mock", "MagicMock", "AsyncMock"}


def test_no_registry_and_no_machine_is_named() -> None:
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [
            f"{name(path)}:{n}: {line.strip()[:100]}"
            for n, line in enumerate(text.splitlines(), 1)
            if FORBIDDEN.search(line)
        ]
    assert not found, "\n".join(found)


def test_the_makefile_has_what_the_readme_promises() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"`make ([a-z]+)|^\s*(?:\$ )?make ([a-z]+)", path.read_text(), re.MULTILINE):
            wanted = target[0] or target[1]
            assert re.search(rf"^{wanted}:", makefile, re.MULTILINE), f"{name(path)} names make {wanted}"


def test_a_caught_exception_has_one_name_for_one_type() -> None:
    """mypyc gives a name one type for a whole function: compiled, the second `except … as` of another type fails."""
    found = []
    for path in hot():
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                types: dict[str, set[str]] = {}
                for handler in ast.walk(function):
                    if isinstance(handler, ast.ExceptHandler) and handler.name and handler.type is not None:
                        types.setdefault(handler.name, set()).add(ast.unparse(handler.type))
                found += [f"{name(path)}: {function.name}: {word}" for word, kinds in types.items() if len(kinds) > 1]
    assert not found
    assert len(hot()) > 10


def hot() -> list[Path]:
    """The modules that deploy/compile.py compiles."""
    tree = ast.parse((ROOT / "deploy" / "compile.py").read_text(encoding="utf-8"))
    names = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "HOT"
    )
    return [ROOT / word for word in names]
