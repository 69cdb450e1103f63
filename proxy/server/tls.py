"""TLS towards clients: the certificate, the context, the channel binding data.

TLS 1.2 or newer, no renegotiation, no session tickets (a session is never resumed here), ALPN `postgresql` as
Postgres 17 has it. Reloading replaces the whole value at once; a certificate that cannot be read leaves the old one
in place.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.scram import tls_server_end_point

ALPN: Final = "postgresql"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the listener needs for TLS."""

    context: ssl.SSLContext
    binding: bytes


def load(cert: Path, key: Path) -> Certificate:
    """Read a certificate chain and its key, PEM. Raises OSError, ssl.SSLError or ValueError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION
    context.num_tickets = 0
    context.set_alpn_protocols([ALPN])
    context.load_cert_chain(cert, key)
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    text = cert.read_text("ascii")
    first = text[text.index(begin) : text.index(end) + len(end)]
    return Certificate(context, tls_server_end_point(ssl.PEM_cert_to_DER_cert(first)))
