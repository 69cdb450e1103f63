"""The one exception of judging: a reason to deny, raised deep in a tree, turned into a verdict by the guard.

It never leaves proxy.policy: to everybody else a verdict is a value.
"""

from __future__ import annotations


class Refused(Exception):
    """Why a statement is denied. `location` is a byte offset into the statement's text, None where none is known."""

    def __init__(self, rule: str, reason: str, hint: str = "", location: int | None = None) -> None:
        super().__init__(reason)
        self.rule = rule
        self.reason = reason
        self.hint = hint
        self.location = location
