"""A judging process gone mad: it announces the longest answer there is, and goes on saying it."""

from __future__ import annotations

import sys

while True:
    sys.stdout.buffer.write(b"\xff\xff\xff\x7f" * 65_536)
