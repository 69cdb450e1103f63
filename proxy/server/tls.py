"""TLS towards clients: the certificate, the context, the channel binding data, whom a client's certificate names.

TLS 1.2 or newer, no renegotiation, no session tickets (a session is never resumed here), ALPN `postgresql` as
Postgres 17 has it. Reloading replaces the whole value at once; a certificate that cannot be read leaves the old one
in place. With `client_ca` a certificate that this authority did not sign ends the handshake; a client without one is
refused by `session.opening`, which can tell it why.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509

from proxy.scram import tls_server_end_point

ALPN: Final = "postgresql"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the listener needs for TLS."""

    context: ssl.SSLContext
    binding: bytes


def load(cert: Path, key: Path, client_ca: Path | None = None, alpn: str = ALPN) -> Certificate:
    """Read a certificate chain, its key, and the authority of the clients, PEM. Raises OSError or ValueError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION
    context.num_tickets = 0
    context.set_alpn_protocols([alpn])
    context.load_cert_chain(cert, key)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    text = cert.read_text("ascii")
    first = text[text.index(begin) : text.index(end) + len(end)]
    return Certificate(context, tls_server_end_point(ssl.PEM_cert_to_DER_cert(first)))


def subject(transport: asyncio.Transport) -> str | None:
    """The subject (RFC 4514) of the certificate that the client showed and the handshake verified, if any."""
    der = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
    if not der:
        return None
    try:
        return x509.load_der_x509_certificate(der).subject.rfc4514_string()
    except ValueError:
        # OpenSSL is satisfied with more than this parser; whose it is then is for the authority to say.
        return "unreadable"
