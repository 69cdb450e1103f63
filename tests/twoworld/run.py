"""Runs statements past the guard in two worlds and looks for harm, and for what is allowed and then fails.

Harm: the worlds answer differently in something that a client sees and that follows the secret (see worlds.py), a
secret stands in an answer, the databases or the session's pins change, a function that is not allowed runs, a
statement stalls, or the cached verdict is another than the plain one. A miss: what the guard allows, Postgres refuses
as this role or in this rewriting, and takes in the client's own words as the owner.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from proxy.policy import oracle
from proxy.policy.judgement import Judgement
from proxy.policy.refusal import Refused
from tests.twoworld.answers import cells, changed, difference, leaves_state, params, seen, told
from tests.twoworld.mutate import tokens
from tests.twoworld.report import Finding, Report
from tests.twoworld.source import Source
from tests.twoworld.vocabulary import Vocabulary
from tests.twoworld.worlds import SECRET, Result, Stage, Stalled, World, _scrubber, pins_of

BATCH = 40
GIVES_UP = ("57014", "57P01", "53", "54", "55P03")  # time-outs and limits of the server hang on its load
LIMIT = re.compile(rb"\s(?:limit\s+\d+(?:\s+offset\s+\d+)?|fetch\s+first\s+\d+\s+rows\s+only)\b", re.I)
MOVES = "a value that is another one each time"
BUG = "the statement cannot be judged"


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
            return [*found, ("harm: worlds differ", difference(one, two))]
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
        """What tells the worlds apart and is no data: the order that LIMIT cuts, as statistics chose it, or oids."""
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
            values = params(verdict)
            for world in (one, two):
                world.dirty |= leaves_state(verdict)
                world.send(verdict.forward, values)
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
            world.dirty |= leaves_state(verdict)
            world.send(verdict.forward, params(verdict))
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
            plain.send(text, params(verdict))
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
        effect = changed(self.before, after)
        self.before = after
        for number, steps in batch:
            self.look(steps)
            now = self._fingerprints()
            if now != self.before:
                self.report.findings.append(Finding("harm: effect", number, tuple(steps), changed(self.before, now)))
                self.before = now
                return
        self.report.findings.append(
            Finding("harm: effect", batch[0][0], ("(one of the batch that begins here)",), effect)
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
