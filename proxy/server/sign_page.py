"""What people see who open a one-time link: the agreement with its form, that it is accepted, or why it is not.

Each is one self-contained page for a phone or a desk. Knows no HTTP but the policy that goes with a page. Invariants:
a page loads nothing and runs nothing; whatever a text, a person or a name says, it is shown and never markup.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from html import escape
from typing import Final

from proxy.access.agreements import LONGEST_NAME, Acceptance, Text
from proxy.access.links import Link, Why

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b2430; --soft: #5b6675; --line: #d9dee5; --page: #f4f6f8; --card: #fff;
  --strong: #0b5cad; --on: #fff; --bad: #a8201a; --good: #1a7042; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9aa6b5; --line: #323c49; --page: #12171d;
  --card: #1a2129; --strong: #6db3f8; --on: #0d1218; --bad: #ff8a80; --good: #6fd39b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 46rem; margin: 2.5rem auto; padding: 2rem 2.25rem; background: var(--card);
  border: 1px solid var(--line); border-radius: .6rem; }
h1 { margin: 0 0 .4rem; font-size: 1.5rem; line-height: 1.25; overflow-wrap: anywhere; }
p { margin: .6rem 0; overflow-wrap: anywhere; }
.soft, dt { color: var(--soft); }
.text { margin: 1.25rem 0; padding: 1.1rem 1.25rem; border: 1px solid var(--line); border-radius: .4rem;
  background: var(--page); white-space: pre-wrap; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.25rem; margin: 1rem 0; font-size: .92rem; }
dd { margin: 0; overflow-wrap: anywhere; }
code { font: .86rem/1.5 ui-monospace, monospace; }
label { display: block; margin: 1.5rem 0 .4rem; font-weight: 600; }
input { width: 100%; padding: .7rem .8rem; font: inherit; color: inherit; background: var(--card);
  border: 1px solid var(--soft); border-radius: .4rem; }
input:focus-visible, button:focus-visible { outline: 3px solid var(--strong); outline-offset: 2px; }
button { margin: 1rem 0 .4rem; padding: .75rem 1.75rem; font: inherit; font-weight: 600; color: var(--on);
  background: var(--strong); border: 0; border-radius: .4rem; cursor: pointer; }
.bad { padding: .6rem .9rem; color: var(--bad); border-left: 4px solid var(--bad); }
.good { color: var(--good); }
@media (max-width: 36rem) {
  main { margin: 0; padding: 1.25rem 1.1rem; border: 0; border-radius: 0; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; } button { width: 100%; } }
@media print { body, main, .text { background: none; } main { border: 0; margin: 0; max-width: none; padding: 0; } }
"""
_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""The Content-Security-Policy that every page is sent with."""

_ONCE: Final = "It works once, and the agreement was accepted with it. If that was not you, tell whoever sent it."
_ASK: Final = "Ask whoever sent it to you for a new one."
_REFUSED: Final[dict[Why, tuple[str, str]]] = {
    "unknown": ("There is no such link", f"It may have been cut off when it was copied: open it whole. {_ASK}"),
    "used": ("This link has been used", _ONCE),
    "expired": ("This link is over", f"Its time has passed, or a newer one has taken its place. {_ASK}"),
    "changed": ("The agreement has changed", f"Its text is not the one that this link was made for. {_ASK}"),
}


def form(link: Link, text: Text, *, typed: str = "", wrong: str | None = None) -> bytes:
    """The whole text, and the form to accept it. `wrong`: what was the matter with the name that was typed."""
    problem = f'<p class="bad" role="alert" id="wrong">{escape(wrong)}</p>' if wrong is not None else ""
    described = ' aria-describedby="wrong" aria-invalid="true"' if wrong is not None else ""
    return _page(
        f"Accept {text.title}",
        f"<p>For <strong>{escape(link.person)}</strong>. Read the text; if you agree, type your full name below it.</p>"
        f'<div class="text">{escape(text.body)}</div>'
        f'<form method="post" accept-charset="utf-8">{problem}<label for="name">Your full name</label>'
        f'<input id="name" name="name" value="{escape(typed)}" required maxlength="{LONGEST_NAME}" autocomplete="name"'
        f' autocapitalize="words" spellcheck="false"{described}><button type="submit">I accept</button></form>'
        '<p class="soft">Your name, the time and the network address you come from are recorded.</p>'
        + _facts(text, ("open until", _time(link.expires_at))),
    )


def accepted(text: Text, made: Acceptance) -> bytes:
    """It is done."""
    return _page(
        f"You have accepted {text.title}",
        '<p class="good">It is recorded. You can close this page; to keep a copy, print it.</p>'
        + _facts(
            text,
            ("accepted by", f"{made.signed_as}, for {made.person}"),
            ("accepted at", _time(made.at)),
            ("recorded as", made.id),
        )
        + f'<div class="text">{escape(text.body)}</div>',
    )


def refused(why: Why, link: Link | None) -> bytes:
    """The link opens nothing. Where it is not known, no word about anybody."""
    title, told = _REFUSED[why]
    when = f'<p class="soft">Accepted at {_time(link.used_at)}.</p>' if link is not None and link.used_at else ""
    return _page(title, f"<p>{told}</p>{when}")


def plain(title: str, told: str) -> bytes:
    """Any other answer, in words."""
    return _page(title, f"<p>{escape(told)}</p>")


def _facts(text: Text, *more: tuple[str, str]) -> str:
    pairs = [("agreement", text.name), ("version", text.version), *more]
    shown = "".join(f"<dt>{name}</dt><dd>{escape(of)}</dd>" for name, of in pairs)
    return f"<dl>{shown}<dt>SHA-256 of the file</dt><dd><code>{text.sha256}</code></dd></dl>"


def _time(moment: datetime) -> str:
    return f"{moment:%-d %B %Y, %H:%M} UTC"


def _page(title: str, body: str) -> bytes:
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n{body}\n"
        "</main>\n</body>\n</html>\n"
    ).encode()
