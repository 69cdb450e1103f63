"""What a client may ask about its own access, inside any tool: SHOW daypass.scope, daypass.expires, daypass.budget."""

from __future__ import annotations

from datetime import datetime

from proxy.session.talk import Talk
from proxy.units import format_duration


def answer(name: str, ends: datetime, talk: Talk, now: datetime) -> str:
    """The value of one of these settings, for people: lines of text."""
    if name == "daypass.scope":
        return "\n".join(talk.judge.scope) or "nothing"
    if name == "daypass.budget":
        return "\n".join(talk.meter.lines())
    left = max(0, int((ends - now).total_seconds()))
    return f"{ends:%Y-%m-%d %H:%M:%S} UTC, in {format_duration(left)}"
