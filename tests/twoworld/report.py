"""What a run of the two-world test found: figures, and each thing that must not be."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


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
