"""The outline of a text: the text with its plain constants left out, found by one regular expression.

Asking Postgres's own lexer for the normalized shape of a short text takes several microseconds; this takes less than
one. Two texts with one outline differ only inside of constants: whole numbers of up to nine digits (always an int4) and
plain strings of printable ASCII. It is used only where `fits` has seen, for one text of the outline, that Postgres
takes the same places for its constants and nothing else: then it does so for every text of that outline, since what
such a constant holds does not change how the rest is read. Must not guess: whatever is not plain has no outline.
"""

from __future__ import annotations

import re
from typing import Final

LONGEST: Final = 2048
"""Bytes of a text that may have an outline; a longer one is seldom sent twice with other constants."""
HOLE: Final = b"\x01"
_CONSTANT: Final = re.compile(rb"(?<![\w.$'\"&])(?:\d{1,9}(?![\w.$'\"])|'[ !#-&(-\[\]-~]*'(?![\w.$'\"]))")
_PLAIN: Final = bytes(c for c in range(256) if c in b"\t\n\r" or (32 <= c < 127 and c not in b'$"\\'))


def outline(sql: bytes) -> bytes | None:
    """The text with a hole for each plain constant; None for a text that has anything that is not plain.

    Not plain: other than printable ASCII and white space, `$`, quoted names, backslashes, comments, and strings that
    are not wholly plain constants (prefixed, with a doubled quote, side by side).
    """
    if len(sql) > LONGEST or sql.translate(None, _PLAIN) or b"--" in sql or b"/*" in sql:
        return None
    found = _CONSTANT.sub(HOLE, sql)
    return None if b"'" in found else found


def fits(found: bytes, shape: bytes | None) -> bool:
    """Whether Postgres's normalized `shape` of a text has its constants just where the outline has its holes."""
    if shape is None:
        return False
    first, *rest = found.split(HOLE)
    return first + b"".join(b"$%d%b" % (number, part) for number, part in enumerate(rest, 1)) == shape
