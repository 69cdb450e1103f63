"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, both roles: daypass towards its client, and daypass towards upstream.

RFC 5802 and 7677, channel binding tls-server-end-point of RFC 5929, in the dialect that Postgres speaks (the user
name inside SCRAM is ignored, an authorisation identity is refused). Bytes in, bytes out: no sockets, no clock, no
grants. The invariant: whatever a peer sends, the answer is bytes, None (a wrong proof) or a `ScramError`; every
comparison of secrets takes constant time; no secret stands in an error's text.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import stringprep
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

PLAIN = "SCRAM-SHA-256"
PLUS = "SCRAM-SHA-256-PLUS"

ITERATIONS = 4096  # what Postgres itself uses; a token has 128 random bits and needs no slower hash
MAX_ITERATIONS = 1_000_000  # a hostile server must not make us compute for minutes
MAX_NONCE = 1024
MAX_MESSAGE = 16 * 1024
_BINDING_TYPE = "tls-server-end-point"
_DIGEST = 32


class ScramError(Exception):
    """The peer broke the exchange: malformed, out of bounds, a downgrade, or a forged signature."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """What is stored instead of a password. It can check a proof and cannot make one."""

    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes

    @classmethod
    def make(cls, password: str, *, salt: bytes, iterations: int = ITERATIONS) -> Verifier:
        """The verifier of a password (SASLprep as Postgres does it)."""
        salted = hashlib.pbkdf2_hmac("sha256", saslprep(password), salt, iterations)
        return cls(iterations, salt, _sha256(_hmac(salted, b"Client Key")), _hmac(salted, b"Server Key"))

    def encode(self) -> str:
        """The form of Postgres's `pg_authid.rolpassword`."""
        return f"{PLAIN}${self.iterations}:{_b64(self.salt)}${_b64(self.stored_key)}:{_b64(self.server_key)}"

    @classmethod
    def parse(cls, text: str) -> Verifier:
        """The reverse of `encode`. Raises ScramError, which does not repeat the text."""
        try:
            name, how, keys = text.split("$")
            iterations, salt = how.split(":")
            stored, server = keys.split(":")
            count = int(iterations)
        except ValueError:
            raise ScramError("not a SCRAM verifier") from None
        verifier = cls(count, _unb64(salt, "salt"), _unb64(stored, "stored key"), _unb64(server, "server key"))
        if name != PLAIN or count < 1 or {len(verifier.stored_key), len(verifier.server_key)} != {_DIGEST}:
            raise ScramError("not a SCRAM verifier")
        return verifier

    @classmethod
    def mock(cls, name: str, key: bytes) -> Verifier:
        """For a name that nobody has: the same for the same name, and no password fits it.

        `key` is the installation's own secret, without which nobody can tell a mock salt from a true one.
        """

        def derive(what: bytes) -> bytes:
            return _hmac(key, what + b"\0" + name.encode("utf-8", "surrogateescape"))

        return cls(ITERATIONS, derive(b"salt")[:16], derive(b"stored key"), derive(b"server key"))


class ServerExchange:
    """One login, in the server's role.

    `binding` is the tls-server-end-point data of our own certificate, or None when the connection has no TLS.
    """

    __slots__ = ("_auth", "_binding", "_gs2", "_nonce", "_verifier", "mechanisms")

    def __init__(self, verifier: Verifier, *, nonce: bytes, binding: bytes | None) -> None:
        self._verifier = verifier
        self._nonce = base64.b64encode(nonce).decode("ascii")
        self._binding = binding
        self._gs2 = b""
        self._auth = ""
        self.mechanisms: tuple[str, ...] = (PLAIN,) if binding is None else (PLUS, PLAIN)

    def first(self, mechanism: str, client_first: bytes) -> bytes:
        """The client's first message in, the server's first message out."""
        if mechanism not in self.mechanisms:
            raise ScramError(
                f"the client chose a mechanism that was not offered; offered: {', '.join(self.mechanisms)}"
            )
        text = _text(client_first)
        flag, authzid, bare = _split(text, ",", 3, "the client's first message")
        self._check_flag(flag, mechanism)
        if authzid:
            raise ScramError("an authorisation identity is not supported")
        self._gs2 = f"{flag},{authzid},".encode("latin-1")
        attributes = _attributes(bare)
        if not attributes or attributes[0][0] == "m":
            raise ScramError("the client wants a SCRAM extension that is not supported")
        if [name for name, _ in attributes[:2]] != ["n", "r"]:
            raise ScramError("malformed first message from the client: a name and a nonce were expected")
        self._nonce = _checked_nonce(attributes[1][1]) + self._nonce
        answer = f"r={self._nonce},s={_b64(self._verifier.salt)},i={self._verifier.iterations}"
        self._auth = f"{bare},{answer}"
        return answer.encode("latin-1")

    def final(self, client_final: bytes) -> bytes | None:
        """The client's proof in; the server's signature out, or None when the proof is wrong."""
        if not self._auth:
            raise ScramError("the client's final message came before its first")
        text = _text(client_final)
        attributes = _attributes(text)
        names = [name for name, _ in attributes]
        if names[:2] != ["c", "r"] or names[-1] != "p" or names.count("p") != 1:
            raise ScramError("malformed final message from the client: binding, nonce and proof were expected")
        bound = self._gs2 + ((self._binding or b"") if self._gs2.startswith(b"p=") else b"")
        if not hmac.compare_digest(_unb64(attributes[0][1], "channel binding"), bound):
            raise ScramError("channel binding check failed: another certificate stands between client and server")
        if not hmac.compare_digest(attributes[1][1].encode("latin-1"), self._nonce.encode("latin-1")):
            raise ScramError("the nonce in the client's final message is another one")
        proof = _unb64(attributes[-1][1], "proof")
        if len(proof) != _DIGEST:
            raise ScramError("malformed proof from the client")
        auth = f"{self._auth},{text[: text.rindex(',p=')]}".encode("latin-1")
        client_key = _xor(proof, _hmac(self._verifier.stored_key, auth))
        if not hmac.compare_digest(_sha256(client_key), self._verifier.stored_key):
            return None
        return b"v=" + base64.b64encode(_hmac(self._verifier.server_key, auth))

    def _check_flag(self, flag: str, mechanism: str) -> None:
        """RFC 5802 section 6: the first field says what the client can and believes."""
        if mechanism == PLUS:
            if flag != f"p={_BINDING_TYPE}":
                raise ScramError(f"{PLUS} needs channel binding of the type {_BINDING_TYPE}")
        elif flag == "y":
            if PLUS in self.mechanisms:
                # The client can bind and was told that we cannot: somebody in the middle took PLUS off the list.
                raise ScramError("downgrade refused: channel binding was offered, and the client was told it was not")
        elif flag != "n":
            raise ScramError(f"channel binding needs the mechanism {PLUS}")


@lru_cache(maxsize=64)
def _salted(password: bytes, salt: bytes, iterations: int) -> bytes:
    """RFC 5802's SaltedPassword. Thousands of rounds, and the same for every session with one credential."""
    return hashlib.pbkdf2_hmac("sha256", password, salt, iterations)


class ClientExchange:
    """One login, in the client's role. `offered` is the server's list of mechanisms."""

    __slots__ = ("_auth", "_bare", "_binding", "_gs2", "_nonce", "_password", "_server_key", "mechanism")

    def __init__(self, password: str, *, nonce: bytes, binding: bytes | None, offered: Sequence[str]) -> None:
        self._password = saslprep(password)
        self._nonce = base64.b64encode(nonce).decode("ascii")
        self._server_key = b""
        self._auth = b""
        self._bare = f"n=,r={self._nonce}"
        if binding is not None and PLUS in offered:
            self.mechanism, self._gs2, self._binding = PLUS, f"p={_BINDING_TYPE},,", binding
        elif PLAIN in offered:
            self.mechanism, self._gs2, self._binding = PLAIN, "n,," if binding is None else "y,,", b""
        else:
            raise ScramError("the server offers no SCRAM mechanism that fits this connection")

    def first(self) -> bytes:
        """The client's first message."""
        return (self._gs2 + self._bare).encode("latin-1")

    def final(self, server_first: bytes) -> bytes:
        """The server's salt and nonce in, our proof out."""
        text = _text(server_first)
        attributes = _attributes(text)
        if [name for name, _ in attributes[:3]] != ["r", "s", "i"]:
            raise ScramError("malformed first message from the server: nonce, salt and iterations were expected")
        nonce, salt = _checked_nonce(attributes[0][1]), _unb64(attributes[1][1], "salt")
        iterations = _iterations(attributes[2][1])
        if not nonce.startswith(self._nonce) or nonce == self._nonce:
            raise ScramError("the server's nonce does not continue ours")
        if not salt:
            raise ScramError("the server sent an empty salt")
        salted = _salted(self._password, salt, iterations)
        client_key = _hmac(salted, b"Client Key")
        self._server_key = _hmac(salted, b"Server Key")
        without_proof = f"c={_b64(self._gs2.encode('latin-1') + self._binding)},r={nonce}"
        self._auth = f"{self._bare},{text},{without_proof}".encode("latin-1")
        proof = _xor(client_key, _hmac(_sha256(client_key), self._auth))
        return f"{without_proof},p={_b64(proof)}".encode("latin-1")

    def verify(self, server_final: bytes) -> None:
        """Does the server know the password's verifier? Raises ScramError when it does not."""
        name, value = _attributes(_text(server_final))[0]
        if name == "e":
            raise ScramError(f"the server refused the login: {value[:100]}")
        if name != "v" or not self._auth:
            raise ScramError("malformed final message from the server: a signature was expected")
        if not hmac.compare_digest(_unb64(value, "signature"), _hmac(self._server_key, self._auth)):
            raise ScramError("the server's signature is wrong: it does not know this password")


def tls_server_end_point(cert_der: bytes) -> bytes:
    """The channel binding data of a server certificate (RFC 5929 section 4.1).

    The hash of the certificate with the hash of its own signature, SHA-256 instead of MD5 and SHA-1. Raises ScramError
    for a signature without a hash (Ed25519), for which the RFC defines nothing and libpq refuses too.
    """
    from cryptography import x509  # noqa: PLC0415  (only where TLS is used; SCRAM itself needs the stdlib alone)
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415

    try:
        algorithm = x509.load_der_x509_certificate(cert_der).signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ScramError("the server's certificate cannot be read") from error
    if algorithm is None:
        raise ScramError("the certificate's signature has no hash: channel binding is not defined for it")
    name = "sha256" if algorithm.name in {"md5", "sha1"} else algorithm.name.replace("-", "_")
    return hashlib.new(name, cert_der).digest()


_PROHIBITED: tuple[Callable[[str], bool], ...] = (
    stringprep.in_table_a1,
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(password: str) -> bytes:
    """RFC 4013, with Postgres's leniency: plain ASCII and what may not be prepared is used as it stands."""
    raw = password.encode("utf-8", "surrogateescape")
    if password.isascii():
        return raw
    spaced = "".join(" " if stringprep.in_table_c12(c) else c for c in password if not stringprep.in_table_b1(c))
    try:
        prepared = unicodedata.normalize("NFKC", spaced)
        if not prepared or any(table(c) for c in prepared for table in _PROHIBITED) or not _bidi_holds(prepared):
            return raw
        return prepared.encode("utf-8")
    except UnicodeError:  # surrogates: the bytes were not UTF-8
        return raw


def _bidi_holds(text: str) -> bool:
    """RFC 3454 section 6: right-to-left text begins and ends with it and holds no left-to-right letter."""
    if not any(map(stringprep.in_table_d1, text)):
        return True
    ends = stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
    return ends and not any(map(stringprep.in_table_d2, text))


def _text(message: bytes) -> str:
    if len(message) > MAX_MESSAGE:
        raise ScramError("a SCRAM message is too long")
    # The name inside SCRAM may hold any UTF-8; Postgres ignores it and so do we. Latin-1 keeps every byte as it came.
    return message.decode("latin-1")


def _split(text: str, separator: str, parts: int, what: str) -> list[str]:
    found = text.split(separator, parts - 1)
    if len(found) != parts:
        raise ScramError(f"malformed: {what} is cut short")
    return found


def _attributes(text: str) -> list[tuple[str, str]]:
    """`a=…,b=…` as pairs; each name is one letter."""
    pairs = []
    for part in text.split(","):
        if len(part) < 2 or part[1] != "=" or not (part[0].isalpha() and part[0].isascii()):
            raise ScramError("malformed SCRAM message: an attribute was expected")
        pairs.append((part[0], part[2:]))
    return pairs


def _checked_nonce(nonce: str) -> str:
    if not 1 <= len(nonce) <= MAX_NONCE:
        raise ScramError(f"a nonce has 1 to {MAX_NONCE} characters; this one has {len(nonce)}")
    if not all("!" <= c <= "~" for c in nonce):
        raise ScramError("a nonce holds a character that is not printable")
    return nonce


def _iterations(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and 1 <= int(text) <= MAX_ITERATIONS):
        raise ScramError(f"the server's iteration count is not between 1 and {MAX_ITERATIONS}")
    return int(text)


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _unb64(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        raise ScramError(f"malformed {what}: not base64") from None


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _xor(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).to_bytes(len(a), "big")
