"""Which start-up parameters a client may send, and what the upstream gets.

A start-up parameter sets a server setting before the first statement, so it is judged like a SET: what changes how
results look may pass, what changes what can be read or how SQL is understood may not. In observe mode everything
passes. Invariant: what the policy sets always wins over what the client asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from proxy.session.refusals import LoginRefused, refusal

HARMLESS: Final = frozenset(
    (
        "application_name", "bytea_output", "client_min_messages", "datestyle", "extra_float_digits", "geqo",
        "intervalstyle", "jit", "lc_monetary", "lc_numeric", "lc_time", "timezone", "xmlbinary", "xmloption",
    )
)  # fmt: skip
"""Settings that change how results look or how plans are made, in lower case."""
OURS: Final = frozenset(("user", "database"))
UTF8: Final = frozenset(("utf8", "unicode"))
NO_CONVERSION: Final = "sqlascii"
"""What psql asks for in the C locale: bytes as they are. UTF-8 is what daypass asks for in its place."""

HINTS: Final = {
    "options": "remove options from the connection string (PGOPTIONS); SET works for the settings that are allowed",
    "replication": "replication connections are not available; use an ordinary connection",
    "search_path": "the policy sets the search_path; write schema.table where it does not reach",
}


def allowed(parameters: Mapping[str, str], *, observe: bool) -> dict[str, str]:
    """The client's own parameters for the upstream, without user and database. Raises LoginRefused."""
    passed: dict[str, str] = {}
    for key, value in parameters.items():
        name = key.lower()
        if name in OURS:
            continue
        if observe:
            passed[key] = value
        elif name == "client_encoding":
            passed[key] = _encoding(value)
        elif name in HARMLESS:
            passed[key] = value
        elif name == "replication" and value.lower() in ("false", "off", "no", "0"):
            continue
        else:
            hint = HINTS.get(name, f"remove {key} from the connection's parameters; it may be allowed in a SET")
            raise LoginRefused(
                refusal("startup", text=f'the start-up parameter "{key}" is not allowed under this policy', hint=hint)
            )
    return passed


def _encoding(value: str) -> str:
    plain = "".join(c for c in value.lower() if c.isalnum())
    if plain in UTF8 or plain == NO_CONVERSION:
        return "UTF8"
    raise LoginRefused(refusal("encoding", value=value))


def for_upstream(client: Mapping[str, str], settings: Mapping[str, str], *, user: str, dbname: str) -> dict[str, str]:
    """The upstream's StartupMessage: who, where, what the client may set, and over it what the policy sets."""
    pinned = {key.lower() for key in settings}
    mine = {key: value for key, value in client.items() if key.lower() not in pinned}
    return {"user": user, "database": dbname, **mine, **settings}
