"""How `serve` logs: one JSON object a line on standard output, the event's name first.

Several processes of one server write to the same output; each line of a worker says which one it is.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog


def as_json(worker: int | None = None) -> None:
    """From here on everything is logged so."""
    who = {} if worker is None else {"worker": worker}

    def event_first(_logger: Any, _method: str, line: Any) -> Any:
        return {"event": line.pop("event"), **who, **line}

    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            event_first,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(),  # a line and its end in one write: several processes do
        cache_logger_on_first_use=True,
    )
