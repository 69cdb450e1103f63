"""A step as those read it who are told of it: JSON, one line of text, a mail; and the signature of a webhook.

A digest's step holds sums, and reads as a report. Pure. Invariants: a step's id is the same at every try and never
another step's; nothing here shows a token, a statement or a value, whatever stands in the step.
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

import msgspec

from proxy.access.model import clock_time, rfc3339
from proxy.access.outbox import DIGEST, Step
from recorder import report
from recorder.summary import Summary

TOKEN: Final = re.compile(r"dp_[a-z2-7]{32}")
WITHHELD: Final = frozenset({"sql", "params", "evidence", "policy_text", "text", "file", "summary", "document"})
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
    digest: Summary | None = None

    @property
    def text(self) -> str:
        """One line for people."""
        if self.digest is not None:
            return f"{self.detail['digest']}: {told_in_short(self.digest)}"
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
            **({} if self.digest is None else {"digest": msgspec.to_builtins(self.digest)}),
        }


def notice(step: Step, installation: str) -> Notice:
    """The notice of a step. Its id holds the step's time too: a state that was restored numbers steps again."""
    moment = (step.at - datetime.fromtimestamp(0, step.at.tzinfo)) // timedelta(microseconds=1)
    detail = {key: _clean(value) for key, value in step.detail.items() if key not in WITHHELD}
    id_ = f"{installation}-{step.id}-{moment:x}"
    return Notice(id_, installation, step.id, step.at, step.action, detail, _sums(step))


def _sums(step: Step) -> Summary | None:
    if step.action != DIGEST:
        return None
    # Names that a client chose are in it: any of them may be what it should not be.
    text = TOKEN.sub("***", json.dumps(step.detail["document"], ensure_ascii=False))
    return msgspec.json.decode(text, type=Summary)


def told_in_short(total: Summary) -> str:
    """A digest in one line."""
    title, period = report.title(total), report.period(total)
    return (
        f"{title}, {period}: {total.sessions:,} sessions, {total.statements:,} statements, {total.refused:,} refused, "
        f"{total.rows:,} rows" + (f"; {len(total.unusual):,} unusual" if total.unusual else "")
    )


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
    if told.digest is not None:
        return _digest(told, told.digest, sender, to)
    mail = _mail(told, f"[daypass] {told.text}", sender, to)
    lines = [told.text, "", f"when: {clock_time(told.at)}", f"action: {told.action}"]
    lines += [f"{key}: {value}" for key, value in told.detail.items()]
    mail.set_content("\n".join([*lines, "", f"id: {told.id}"]) + "\n")
    return mail


def _digest(told: Notice, total: Summary, sender: str, to: Sequence[str]) -> EmailMessage:
    """The report as Markdown, and beside it as a page for those whose mail shows pages."""
    mail = _mail(told, f"[daypass] {report.title(total)}, {report.period(total)}", sender, to)
    mail.set_content(f"{report.markdown(total, made=told.at)}\nid: {told.id}\n")
    mail.add_alternative(report.html(total, made=told.at), subtype="html")
    return mail


def _mail(told: Notice, subject: str, sender: str, to: Sequence[str]) -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"] = Address(addr_spec=sender), [Address(addr_spec=each) for each in to]
    mail["Subject"] = "".join(char if char.isprintable() else " " for char in subject)[:200]
    mail["Date"] = format_datetime(told.at)
    mail["Message-ID"] = f"<{told.id}@daypass>"
    mail["Auto-Submitted"] = "auto-generated"
    return mail


def signature(secret: str, body: bytes, at: datetime) -> str:
    """`t=SECONDS,v1=HEX`: HMAC-SHA256 over `SECONDS.BODY`. The time lets a receiver refuse what was sent again."""
    seconds = int(at.timestamp())
    digest = hmac.new(secret.encode(), b"%d." % seconds + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"
