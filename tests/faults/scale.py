"""How long the tests of faults try, and from which seed: `python -m tests.faults` says so through the environment."""

from __future__ import annotations

import os
from typing import Final

SEED: Final = os.environ.get("FAULTS_SEED", "20261124")
"""Fixed where nobody says otherwise, so that a failure of `make test` can be had again."""
LONG: Final = bool(os.environ.get("FAULTS_LONG"))
KILLS: Final = int(os.environ.get("FAULTS_POINTS") or (200 if LONG else 8))
"""At how many points the proxy is killed."""
FIRST: Final = int(os.environ.get("FAULTS_FROM") or 0)
"""The number of the first of them: where an earlier run ended, another goes on."""
