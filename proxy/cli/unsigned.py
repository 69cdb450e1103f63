"""What a person still has to accept before access opens, as commands say it: why not yet, and how to get it.

Reads the folder of agreements and the state; decides nothing. Invariant: what is called missing here is what a login
would be asked for.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from proxy.access.agreements import AgreementError, Text, Texts
from proxy.access.model import Grant
from proxy.cli.output import note, warn
from proxy.cli.state import with_access
from proxy.config import Config
from proxy.policy.load import Policies


def missing_signatures(cfg: Config, person: str, names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """What of the agreements `names` is missing for `person`, each with the ways to get it."""
    found: list[tuple[str, list[str]]] = []
    pending, broken = _look(cfg, person, names)
    if pending:
        ways = [
            "ask with daypass request create: the grant that comes of it lets them sign in psql at their first login"
        ]
        for text in pending:
            words = f"{text.name} --person {shlex.quote(person)} --name 'Full Name' --file scan.pdf"
            ways.append(f"or record what they signed on paper: daypass agreement accept {words}")
        titles = ", ".join(text.title for text in pending)
        found.append((f"what {person} has not accepted yet: {titles}", ways))
    return found + [(f"the agreement {name}", [problem]) for name, problem in broken]


def tell_unsigned(cfg: Config, grant: Grant) -> None:
    """Says on standard error what a grant's first login will be asked for."""
    policies = Policies(cfg.policies)
    policies.load()
    there = policies.get(grant.policy).model.agreements if grant.policy in policies.names() else []
    pending, broken = _look(cfg, grant.person, [*grant.terms.agreements, *there])
    if pending:
        titles = ", ".join(text.title for text in pending)
        note(f"{grant.person} has to accept {titles} first: the login shows it, and takes the signature.")
    for name, problem in broken:
        warn(f"no login will pass before the agreement {name} has a text: {problem}")


def _look(cfg: Config, person: str, names: Sequence[str]) -> tuple[list[Text], list[tuple[str, str]]]:
    """(texts to be accepted, agreements that have no usable text and why)"""
    texts, wanted, broken = Texts(cfg.agreements), [], []
    for name in dict.fromkeys(names):
        try:
            wanted.append(texts.read(name).name)
        except AgreementError as problem:
            broken.append((name, str(problem)))
    pending = with_access(cfg, lambda access: access.agreements.pending(person, wanted)) if wanted else []
    return pending, broken
