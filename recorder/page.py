"""One self-contained page: head, style, script and body, and a policy that lets it fetch nothing and run nothing else.

What exports and reports that a browser opens are made of. Must not know what is shown. Invariants: a page makes no
request, whatever is in it; text gets into it through `text` alone.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from html import escape
from importlib.resources import files
from typing import Final

from recorder.scene import visible

_PAGES: Final = files("recorder.pages")


def text(of: object) -> str:
    """Text as HTML: no markup in it is markup, and no control character stays."""
    return escape(visible(str(of)))


def head(title: str, *, script: str | None = None) -> str:
    """The page to the beginning of its body. `script` is the name of a file in `recorder/pages`, run at the end."""
    style = source("page.css")
    allowed = f"'sha256-{_hash(source(script))}'" if script is not None else "'none'"
    policy = f"default-src 'none'; style-src 'sha256-{_hash(style)}'; script-src {allowed}; base-uri 'none'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{text(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n<main>\n"
    )


def end(*, script: str | None = None) -> str:
    """The rest of it."""
    run = f"<script>{source(script)}</script>\n" if script is not None else ""
    return f"</main>\n{run}</body>\n</html>\n"


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """Names and values; what is empty is left out."""
    shown = "".join(f"<div><span>{text(name)}</span>{text(of)}</div>" for name, of in pairs if of not in (None, ""))
    return f'<div class="facts">{shown}</div>\n'


def sums(pairs: Iterable[tuple[str, object, bool]]) -> str:
    """The numbers that matter; the third says whether it is a bad one."""
    shown = "".join(
        f"<div{' class=bad' if bad else ''}><b>{text(of)}</b><span>{text(name)}</span></div>" for name, of, bad in pairs
    )
    return f'<div class="sums">{shown}</div>\n'


def source(name: str) -> str:
    """A file of `recorder/pages`."""
    return (_PAGES / name).read_text(encoding="utf-8")


def _hash(of: str) -> str:
    return base64.b64encode(hashlib.sha256(of.encode()).digest()).decode()
