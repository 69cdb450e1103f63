"""Statement `i` of a seed: generated, or one of the corpus, and mutated now and then."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tests.twoworld.mutate import Mutator, adapted
from tests.twoworld.statements import Statements
from tests.twoworld.vocabulary import Vocabulary

TESTS = Path(__file__).parents[1]
SEEDS = (TESTS / "bypass" / "evasions.jsonl", TESTS / "policy" / "honest.jsonl")


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
        grammar, mutate = Statements(rng, self.words), Mutator(rng, self.words, self.pool)
        turn = number % 20
        made = self._made(turn, number // 20, grammar, rng)
        often = 1.0 if turn in (8, 9, 10, 11, 12) else 0.25
        if rng.random() < often:
            at = rng.randrange(len(made))
            made[at] = mutate(made[at])
        return made

    def _made(self, turn: int, round_: int, grammar: Statements, rng: random.Random) -> list[str]:
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
