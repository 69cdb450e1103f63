"""Runs statements past the guard in two worlds and looks for harm, and for what is allowed and then fails.

Harm: the worlds answer differently in something that a client sees and that follows the secret (see worlds.py), a
secret stands in an answer, the databases or the session's pins change, a function that is not allowed runs, a
statement stalls, or the cached verdict is another than the plain one. A miss: what the guard allows, Postgres refuses
as this role or in this rewriting, and takes in the client's own words as the owner.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from proxy.policy import oracle
from proxy.policy.judge import Judgement
from proxy.policy.refusal import Refused
from tests.twoworld.grammar import Grammar
from tests.twoworld.mutate import Mutator, adapted, tokens
from tests.twoworld.vocabulary import Vocabulary
from tests.twoworld.worlds import SECRET, Result, Scrub, Stage, Stalled, World, _scrubber, pins_of

TESTS = Path(__file__).parents[1]
SEEDS = (TESTS / "bypass" / "evasions.jsonl", TESTS / "policy" / "honest.jsonl")
BATCH = 40
GIVES_UP = ("57014", "57P01", "53", "54", "55P03")  # time-outs and limits of the server hang on its load
LIMIT = re.compile(rb"\s(?:limit\s+\d+(?:\s+offset\s+\d+)?|fetch\s+first\s+\d+\s+rows\s+only)\b", re.I)
MOVES = "a value that is another one each time"
BUG = "the statement cannot be judged"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not be. `number` and the seed make it again."""

    kind: str
    number: int
    steps: tuple[str, ...]
    evidence: str

    def text(self) -> str:
        return (
            f"{self.kind} (statement {self.number})\n"
            + "".join(f"    {s}\n" for s in self.steps)
            + f"  {self.evidence}"
        )


@dataclass
class Report:
    """The figures and findings of one run."""

    figures: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    """What is no harm and worth a look: noise, other orders of rows, error texts that nobody scrubs yet."""
    seconds: float = 0.0

    @property
    def harms(self) -> list[Finding]:
        return [f for f in self.findings if f.kind.startswith("harm")]

    @property
    def misses(self) -> list[Finding]:
        return [f for f in self.findings if f.kind.startswith("miss")]

    def add(self, other: Report) -> None:
        self.figures += other.figures
        self.findings += other.findings
        self.notes += other.notes
        self.seconds = max(self.seconds, other.seconds)

    def text(self) -> str:
        names = ("generated", "parsed by Postgres", "allowed", "denied", "ran OK")
        lines = [", ".join(f"{self.figures[n]} {n}" for n in names)]
        rest = sorted((n, c) for n, c in self.figures.items() if n not in names)
        lines.append(", ".join(f"{c} {n}" for n, c in rest))
        lines.append(f"{len(self.harms)} harms, {len(self.misses)} oracle misses, {self.seconds:.0f} seconds")
        return "\n".join(lines)


# -- statements ----------------------------------------------------------------------------------------------------


def corpus(paths: list[Path]) -> list[list[str]]:
    """The statements of files with one JSON case a line, in this firm's words; what is longer than 4 KB is left out."""
    found = []
    for path in paths:
        for line in path.read_text().splitlines():
            case = json.loads(line)
            steps = case.get("script") or [case.get("sql")]
            if all(isinstance(s, str) and len(s) < 4096 for s in steps):
                found.append([s if path == SEEDS[0] else adapted(s) for s in steps])
    return found


class Source:
    """Statement `i` of a seed, whatever else runs: its own random generator, its own place in the lists."""

    def __init__(self, words: Vocabulary, seed: int, extra: list[Path]) -> None:
        self.words, self.seed = words, seed
        self.pool = corpus([*SEEDS, *extra])
        shuffle = random.Random(seed)
        self.functions = shuffle.sample(words.functions, len(words.functions))
        self.operators = shuffle.sample(words.operators, len(words.operators))

    def steps(self, number: int) -> list[str]:
        rng = random.Random(f"{self.seed}:{number}")
        grammar, mutate = Grammar(rng, self.words), Mutator(rng, self.words, self.pool)
        turn = number % 20
        made = self._made(turn, number // 20, grammar, rng)
        often = 1.0 if turn in (8, 9, 10, 11, 12) else 0.25
        if rng.random() < often:
            at = rng.randrange(len(made))
            made[at] = mutate(made[at])
        return made

    def _made(self, turn: int, round_: int, grammar: Grammar, rng: random.Random) -> list[str]:
        if turn < 5:
            return [grammar.query()]
        if turn < 8:
            return [grammar.catalog_function(self.functions[(round_ * 3 + turn - 5) % len(self.functions)])]
        if turn < 13:
            return list(rng.choice(self.pool))
        if turn == 13:
            return [grammar.operator(self.operators[round_ % len(self.operators)])]
        if turn == 14:
            return [grammar.sqlglot_call()]
        if turn < 17:
            return grammar.wrapped()
        if turn == 17:
            return grammar.session()
        return [grammar.write()] if turn == 18 and rng.random() < 0.3 else [grammar.query()]


# -- answers -------------------------------------------------------------------------------------------------------


def seen(results: list[Result], scrubbed: bool) -> tuple[Any, ...]:
    """What a client sees of answers, but for the order of rows and for texts that are not scrubbed yet."""
    return tuple(
        (
            r.status,
            r.tag,
            r.header,
            tuple(sorted(map(repr, r.rows))),
            r.sqlstate,
            r.position,
            r.told if scrubbed else "",
        )
        for r in results
    )


def told(results: list[Result], verdict: Judgement, scrub: Scrub | None) -> list[Result]:
    """The answers with the texts that the session leaves of errors and notices."""
    if scrub is None or not verdict.veiled:
        return results
    return [replace(r, told=repr(scrub(r.fields)), fields=b"") if r.sqlstate else r for r in results]


def cells(results: list[Result]) -> list[Any]:
    """Every value by itself, in order."""
    out: list[Any] = []
    for r in results:
        out += [r.status, r.sqlstate]
        for row in r.rows:
            out += list(row) if isinstance(row, tuple) else row.split(b"\t")
    return out


class Runner:
    """One stage, and what is looked for on it."""

    def __init__(self, stage: Stage, source: Source, report: Report) -> None:
        self.stage, self.source, self.report = stage, source, report
        self.scrub = _scrubber()
        self.batch: list[tuple[int, list[str]]] = []
        self.before = self._fingerprints()

    # -- one case ----------------------------------------------------------------------------------------------------

    def case(self, number: int, steps: list[str]) -> None:
        """Judges and runs one case, and notes what is wrong with it."""
        figures = self.report.figures
        figures["generated"] += 1
        figures["parsed by Postgres"] += all(map(_parses, steps))
        found, allowed, failed = self.look(steps)
        figures["allowed" if allowed else "denied"] += 1
        figures["ran OK"] += allowed and not failed
        for kind, evidence in found:
            if kind.startswith(("harm", "miss", "bug")) and sum(f.kind == kind for f in self.report.findings) < 12:
                steps_, evidence_ = self.minimized(steps, kind, evidence)
                self.report.findings.append(Finding(kind, number, tuple(steps_), evidence_))
            elif figures[kind] < 8:
                self.report.notes.append(Finding(kind, number, tuple(steps), evidence))
            figures[kind] += 1
        if allowed or any(map(_parses, steps)):
            self.batch.append((number, steps))
        if len(self.batch) >= BATCH:
            self.flush()

    def look(self, steps: list[str]) -> tuple[list[tuple[str, str]], bool, bool]:
        """What is wrong with one case; whether all of it is allowed; whether something of it fails."""
        verdicts = []
        for step in steps:
            text = step.encode("utf-8", "replace")
            verdict, plain = self.stage.judge.judge(text), self.stage.judge.uncached(text)
            if (verdict.allowed, verdict.forward) != (plain.allowed, plain.forward):
                return [("harm: cached verdict", f"{verdict.allowed} / {plain.allowed}")], False, False
            if any(s.reason == BUG for s in verdict.statements):
                return [("bug: judge raised", "see the log of judge_bug")], False, False
            verdicts.append(verdict)
        runnable = [v for v in verdicts if v.allowed]
        if not runnable:
            return [], False, False
        found = self._compare(runnable)
        failed = any(r.status == "FATAL_ERROR" for r in self._last)
        return found, len(runnable) == len(verdicts), failed

    def _compare(self, verdicts: list[Judgement]) -> list[tuple[str, str]]:
        worlds = self.stage.worlds
        try:
            one, two = self._both(verdicts)
        except Stalled:
            self._restart()
            return [("harm: stall", "no answer")]
        self._last = one
        found = [("miss: " + what, evidence) for what, evidence in self._missed(verdicts, one)]
        if any(r.sqlstate.startswith(GIVES_UP) for r in one + two):
            return [*found, ("gave up", "")]
        if seen(one, self.scrub is not None) == seen(two, self.scrub is not None):
            if any(a.told != b.told for a, b in zip(one, two, strict=True)) and self._tells(verdicts):
                found.append(("errors that tell", ""))
            elif [r.rows for r in one] != [r.rows for r in two] and self._ordered(verdicts):
                found.append(("other order", ""))
            return found
        try:
            again, twin, second = (self._alone(worlds[n], verdicts) for n in ("first", "twin", "second"))
        except Stalled:
            self._restart()
            return [*found, ("gave up", "")]
        if any(r.sqlstate.startswith(GIVES_UP) for r in again + twin + second):
            return [*found, ("gave up", "")]
        views = [seen(r, self.scrub is not None) for r in (one, again, twin, two, second)]
        if views[0] == views[1] == views[2] and views[3] == views[4]:
            if other := self._without_limits(verdicts):
                return [*found, (other, "")]
            return [*found, ("harm: worlds differ", _difference(one, two))]
        beside = self._beside(verdicts, [cells(r) for r in (one, again, twin)], [cells(r) for r in (two, second)])
        if beside:
            return [*found, ("harm: worlds differ", beside)]
        given = b" ".join(v.forward for v in verdicts)
        secret = SECRET.search(repr(one).encode())
        if secret and secret.group() not in given and SECRET.search(repr(two).encode()):
            return [*found, ("harm: secret", secret.group().decode())]
        return [*found, ("noise", "")]

    def _beside(self, verdicts: list[Judgement], ones: list[list[Any]], twos: list[list[Any]]) -> str:
        """A value that follows the secret in answers that differ anyway, "" for none; asks again to be sure."""
        for _ in range(4):
            if len({len(atoms) for atoms in ones + twos}) != 1:
                return ""
            mine, other = set(ones[0]), set(twos[0])
            stable = {
                (a, b) for a, b in zip(ones[0], twos[0], strict=True) if a != b and a not in other and b not in mine
            }
            if not stable:
                return ""
            ones[0] = [a if all(o[i] == a for o in ones) else MOVES for i, a in enumerate(ones[0])]
            twos[0] = [a if all(o[i] == a for o in twos) else MOVES for i, a in enumerate(twos[0])]
            pairs = [(a, b) for a, b in zip(ones[0], twos[0], strict=True) if (a, b) in stable]
            if not pairs:
                return ""
            try:
                ones[1:] = [cells(self._alone(self.stage.worlds[n], verdicts)) for n in ("first", "twin")]
                twos[1:] = [cells(self._alone(self.stage.worlds["second"], verdicts))]
            except Stalled:
                self._restart()
                return ""
        return f"{pairs[0][0]!r} / {pairs[0][1]!r} (beside noise)"

    def _tells(self, verdicts: list[Judgement]) -> bool:
        """Whether texts of errors follow the secret."""
        worlds = self.stage.worlds
        try:
            again, twin, second = (
                [r.told for r in self._alone(worlds[n], verdicts)] for n in ("first", "twin", "second")
            )
        except Stalled:
            self._restart()
            return False
        return again == twin != second

    def _ordered(self, verdicts: list[Judgement]) -> bool:
        worlds = self.stage.worlds
        try:
            again, twin, second = (
                [r.rows for r in self._alone(worlds[n], verdicts)] for n in ("first", "twin", "second")
            )
        except Stalled:
            self._restart()
            return False
        return again == twin != second

    def _without_limits(self, verdicts: list[Judgement]) -> str:
        """What tells the worlds apart when it is no data: the order that LIMIT cuts, as statistics chose it, or oids."""
        (last,) = verdicts[-1:]
        whole = LIMIT.sub(b" ", last.forward)
        if whole == last.forward or len(verdicts) > 1:
            return ""
        names = ("first", "twin", "second")
        try:
            answers = [self._alone(self.stage.worlds[n], [replace(last, forward=whole)]) for n in names]
        except Stalled:
            self._restart()
            return ""
        if any(r.status == "FATAL_ERROR" for results in answers for r in results):
            return ""
        one, twin, two = ([(r.tag, sorted(sorted(repr(row)) for row in r.rows)) for r in a] for a in answers)
        return "noise" if one != twin else "other order" if one == two else ""

    def _both(self, verdicts: list[Judgement]) -> tuple[list[Result], list[Result]]:
        """The answers of both worlds, asked at once."""
        one, two = self.stage.worlds["first"], self.stage.worlds["second"]
        out: tuple[list[Result], list[Result]] = ([], [])
        for verdict in verdicts:
            params = _params(verdict)
            for world in (one, two):
                world.dirty |= _leaves_state(verdict)
                world.send(verdict.forward, params)
            for world, into in ((one, out[0]), (two, out[1])):
                into.extend(told(world.receive(), verdict, self.scrub))
                into.extend(told(world.notices, verdict, self.scrub))
                world.notices.clear()
        one.settle()
        two.settle()
        return out

    def _alone(self, world: World, verdicts: list[Judgement]) -> list[Result]:
        out = []
        for verdict in verdicts:
            world.dirty |= _leaves_state(verdict)
            world.send(verdict.forward, _params(verdict))
            out += told(world.receive(), verdict, self.scrub)
            out += told(world.notices, verdict, self.scrub)
            world.notices.clear()
        world.settle()
        return out

    def _restart(self) -> None:
        for world in self.stage.worlds.values():
            world.stop()

    # -- the oracle ----------------------------------------------------------------------------------------------------

    def _missed(self, verdicts: list[Judgement], results: list[Result]) -> Iterator[tuple[str, str]]:
        """Allowed, then refused by Postgres for a reason that is the guard's."""
        errors = [r for r in results if r.status == "FATAL_ERROR"]
        forwarded = b"; ".join(v.forward for v in verdicts)
        for error in errors:
            if error.sqlstate != "42501":
                continue
            if re.search(rb"reg(?:class|proc|type|oper|namespace|role)", forwarded):
                self.report.figures["names made at run time"] += 1  # in strings, looked up with the role's rights
            elif "to set parameter" in error.said:
                self.report.figures["settings of superusers"] += 1  # lc_messages: so it is for every role
            elif len(verdicts) > 1 or not self._as_owner(verdicts[0], verdicts[0].forward, always=True):
                yield "42501", error.said
        if not errors or len(verdicts) != 1 or len(verdicts[0].statements) != 1:
            return
        error, (statement,) = errors[0], verdicts[0].statements
        if error.sqlstate != "42501" and error.sqlstate.startswith(("42", "0A")):
            own = self._as_owner(verdicts[0], statement.sql.encode())
            if own is None or own == error.sqlstate or own.startswith(GIVES_UP):
                return
            if own:
                self.report.figures["another error than plain"] += 1
            elif any(f"{word} " in error.said or f'"{word}"' in error.said for word in self.source.words.hidden_words):
                self.report.figures["hidden columns named"] += 1
            else:
                yield error.sqlstate, error.said

    def _as_owner(self, verdict: Judgement, text: bytes, *, always: bool = False) -> str | None:
        """How the client's own text ends for the owner: a SQLSTATE, "" for well, None where it was not rewritten."""
        if verdict.forward.strip() == text and not always:
            return None
        plain = self.stage.plain
        try:
            plain.send(text, _params(verdict))
            results = plain.receive()
        except Stalled:
            plain.stop()
            return None
        plain.dirty = True
        plain.settle()
        return next((r.sqlstate for r in results if r.status == "FATAL_ERROR"), "")

    # -- effects -------------------------------------------------------------------------------------------------------

    def _fingerprints(self) -> list[Any]:
        return [self.stage.worlds[name].fingerprint() for name in ("first", "second")]

    def flush(self) -> None:
        """Looks at the databases and the pins after some cases; finds the case where something changed."""
        batch, self.batch = self.batch, []
        after = self._fingerprints()
        if after == self.before:
            return
        changed = _changed(self.before, after)
        self.before = after
        for number, steps in batch:
            self.look(steps)
            now = self._fingerprints()
            if now != self.before:
                self.report.findings.append(Finding("harm: effect", number, tuple(steps), _changed(self.before, now)))
                self.before = now
                return
        self.report.findings.append(
            Finding("harm: effect", batch[0][0], ("(one of the batch that begins here)",), changed)
        )

    def pins(self, number: int, steps: list[str]) -> None:
        """After `steps`, and what the driver would reset, the pins stand as before."""
        found = pins_of(self.stage.worlds["first"])
        if found != self.stage.pins:
            self.report.findings.append(Finding("harm: pins", number, tuple(steps), str(found)))
            self._restart()

    # -- less of the same ----------------------------------------------------------------------------------------------

    def minimized(self, steps: list[str], kind: str, evidence: str) -> tuple[list[str], str]:
        """A shorter case with the same fault."""
        end = time.monotonic() + 10

        def still(candidate: list[str]) -> str | None:
            if time.monotonic() > end:
                return None
            return next((e for k, e in self.look(candidate)[0] if k == kind), None)

        for at in range(len(steps) - 1, -1, -1):
            if len(steps) > 1 and (said := still(steps[:at] + steps[at + 1 :])) is not None:
                steps, evidence = steps[:at] + steps[at + 1 :], said
        for at, step in enumerate(steps):
            words = tokens(step)
            size = max(1, len(words) // 2)
            while size >= 1:
                start = 0
                while start < len(words):
                    fewer = words[:start] + words[start + size :]
                    said = still([*steps[:at], "".join(fewer), *steps[at + 1 :]])
                    if said is not None:
                        words, evidence = fewer, said
                    else:
                        start += size
                size //= 2
            steps = [*steps[:at], "".join(words), *steps[at + 1 :]]
        return steps, evidence


def _parses(step: str) -> bool:
    try:
        oracle.tree(step.encode("utf-8", "replace").replace(b"\0", b""))
    except Refused:
        return False
    return True


def _params(verdict: Judgement) -> list[bytes | None] | None:
    """Values for the parameters of a single statement; None where it has none."""
    if b"$" not in verdict.forward or len(verdict.statements) != 1:
        return None
    numbers = [p["number"] for p in _found(oracle.tree(verdict.forward), "ParamRef") if "number" in p]
    return [b"1"] * max(numbers) if numbers and max(numbers) < 100 else None


def _found(value: Any, name: str) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        for item in value:
            yield from _found(item, name)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == name:
                yield item
            yield from _found(item, name)


def _leaves_state(verdict: Judgement) -> bool:
    return any(s.kind != "select" for s in verdict.statements) or b"set_config" in verdict.forward


def _difference(one: list[Result], two: list[Result]) -> str:
    for a, b in zip(one, two, strict=False):
        if a.rows != b.rows:
            rows = [sorted(map(repr, r.rows)) for r in (a, b)]
            only = [[x for x in rows[i] if x not in rows[1 - i]][:2] for i in (0, 1)]
            return f"{len(a.rows)} rows {only[0]} / {len(b.rows)} rows {only[1]}"[:500]
        if a != b:
            return f"{replace(a, rows=())} / {replace(b, rows=())}"[:700]
    return f"{len(one)} / {len(two)} answers"


def _changed(before: list[Any], after: list[Any]) -> str:
    for a, b in zip(before, after, strict=True):
        for x, y in zip(a, b, strict=True):
            if x != y:
                if isinstance(x, str) and "=" in x:
                    return f"{sorted(set(str(y).split(',')) - set(x.split(',')))}"
                return f"{x!r} -> {y!r}"[:300]
    return "?"


def run(stage: Stage, seed: int, numbers: Callable[[], Iterator[int]], extra: list[Path]) -> Report:
    """All the statements of `numbers`."""
    report = Report()
    source = Source(Vocabulary(stage), seed, extra)
    runner = Runner(stage, source, report)
    start = time.monotonic()
    for number in numbers():
        steps = source.steps(number)
        runner.case(number, steps)
        if number % 20 == 17:
            runner.pins(number, steps)
    runner.flush()
    report.seconds = time.monotonic() - start
    return report
