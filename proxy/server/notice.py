"""A step as those read it who are told of it: JSON, one line of text, a mail; and the signature of a webhook.

Pure. Invariants: a step's id is the same at every try and never another step's; nothing here shows a token, a statement
or a value, whatever stands in the step.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any, Final

from proxy.access.model import clock_time, rfc3339
from proxy.access.outbox import Step

TOKEN: Final = re.compile(r"dp_[a-z2-7]{32}")
WITHHELD: Final = frozenset({"sql", "params", "evidence", "policy_text", "text", "file", "summary"})
"""Keys of a step that may hold what a database holds, or a whole document: the record has them."""
_SHOWN: Final = ("person", "vendor", "database", "policy", "for", "reason", "purpose", "why", "ticket", "expires_at")
_SUBJECTS: Final = ("grant", "request", "agreement", "precheck", "hold", "session")
_LONGEST: Final = 500


@dataclass(frozen=True, slots=True)
class Notice:
    """What is told of one step."""

    id: str
    installation: str
    step: int
    at: datetime
    action: str
    detail: dict[str, Any]

    @property
    def text(self) -> str:
        """One line for people."""
        subject = next((f" {self.detail[key]}" for key in _SUBJECTS if self.detail.get(key)), "")
        facts = [f"{key.replace('_', ' ')} {self.detail[key]}" for key in _SHOWN if self.detail.get(key)]
        return f"{self.action}{subject}: " + "; ".join([*facts, f"by {self.detail.get('by', 'daypass')}"])

    def data(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "id": self.id,
            "installation": self.installation,
            "step": self.step,
            "at": rfc3339(self.at),
            "action": self.action,
            "detail": self.detail,
            "text": self.text,
        }


def notice(step: Step, installation: str) -> Notice:
    """The notice of a step. Its id holds the step's time too: a state that was restored numbers steps again."""
    moment = (step.at - datetime.fromtimestamp(0, step.at.tzinfo)) // timedelta(microseconds=1)
    detail = {key: _clean(value) for key, value in step.detail.items() if key not in WITHHELD}
    return Notice(f"{installation}-{step.id}-{moment:x}", installation, step.id, step.at, step.action, detail)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        cut = value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…"
        return TOKEN.sub("***", "".join(char if char.isprintable() else " " for char in cut))
    if isinstance(value, dict):
        return {key: _clean(inner) for key, inner in value.items() if key not in WITHHELD}
    if isinstance(value, list):
        return [_clean(inner) for inner in value]
    return value


def as_json(told: Notice) -> bytes:
    """The body of a webhook, and what a command reads."""
    return json.dumps(told.data(), ensure_ascii=False).encode()


def as_slack(told: Notice) -> bytes:
    """What Slack and its like take: one text, in which nothing is a link, a mention or a command."""
    text = f"{told.text} ({clock_time(told.at)})"
    for char, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(char, entity)
    return json.dumps({"text": text}, ensure_ascii=False).encode()


def as_mail(told: Notice, sender: str, to: Sequence[str]) -> EmailMessage:
    """A mail. Its Message-ID is the step's id."""
    mail = EmailMessage()
    mail["From"], mail["To"] = Address(addr_spec=sender), [Address(addr_spec=each) for each in to]
    mail["Subject"] = f"[daypass] {told.text}"[:200]
    mail["Date"] = format_datetime(told.at)
    mail["Message-ID"] = f"<{told.id}@daypass>"
    mail["Auto-Submitted"] = "auto-generated"
    lines = [told.text, "", f"when: {clock_time(told.at)}", f"action: {told.action}"]
    lines += [f"{key}: {value}" for key, value in told.detail.items()]
    mail.set_content("\n".join([*lines, "", f"id: {told.id}"]) + "\n")
    return mail


def signature(secret: str, body: bytes, at: datetime) -> str:
    """`t=SECONDS,v1=HEX`: HMAC-SHA256 over `SECONDS.BODY`. The time lets a receiver refuse what was sent again."""
    seconds = int(at.timestamp())
    digest = hmac.new(secret.encode(), b"%d." % seconds + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"
