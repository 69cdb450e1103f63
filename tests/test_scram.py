"""SCRAM in both roles: the RFC's own vectors, every lie a peer can tell, and the two roles against each other."""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from proxy.scram import (
    MAX_NONCE,
    PLAIN,
    PLUS,
    ClientExchange,
    ScramError,
    ServerExchange,
    Verifier,
    saslprep,
    tls_server_end_point,
)

SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
CLIENT_FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
BINDING = hashlib.sha256(b"a certificate").digest()
VERIFIER = Verifier.make("pencil", salt=SALT)


def server(verifier: Verifier = VERIFIER, binding: bytes | None = None) -> ServerExchange:
    return ServerExchange(verifier, nonce=b"server nonce 18 by", binding=binding)


def client(
    password: str = "pencil", binding: bytes | None = None, offered: tuple[str, ...] = (PLAIN,)
) -> ClientExchange:
    return ClientExchange(password, nonce=b"client nonce 18 by", binding=binding, offered=offered)


def converse(s: ServerExchange, c: ClientExchange) -> bool:
    answer = s.final(c.final(s.first(c.mechanism, c.first())))
    if answer is None:
        return False
    c.verify(answer)
    return True


def test_rfc_7677_vector_as_server() -> None:
    exchange = server()
    exchange._nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    assert exchange.first(PLAIN, CLIENT_FIRST) == SERVER_FIRST
    assert exchange.final(CLIENT_FINAL) == SERVER_FINAL


def test_rfc_7677_vector_as_client() -> None:
    exchange = client()
    exchange._nonce = "rOprNGfwEbeRWgbNEkqO"
    exchange._bare = "n=user,r=rOprNGfwEbeRWgbNEkqO"  # we send no name inside SCRAM, as libpq; the vector has one
    assert exchange.first() == CLIENT_FIRST
    assert exchange.final(SERVER_FIRST) == CLIENT_FINAL
    exchange.verify(SERVER_FINAL)


def test_verifier_has_the_form_of_postgres() -> None:
    text = VERIFIER.encode()
    assert text.startswith("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$")
    assert Verifier.parse(text) == VERIFIER


@pytest.mark.parametrize(
    "text",
    ["", "md5abc", "SCRAM-SHA-256$x:aa$bb:cc", "SCRAM-SHA-256$4096:!$bb:cc", "SCRAM-SHA-256$4096:aaaa$aaaa:aaaa"],
)
def test_a_broken_verifier_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ScramError) as caught:
        Verifier.parse(text)
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize("binding", [None, BINDING])
def test_the_two_roles_understand_each_other(binding: bytes | None) -> None:
    s = server(binding=binding)
    assert converse(s, client(binding=binding, offered=s.mechanisms))
    s = server(binding=binding)
    assert not converse(s, client("pencils", binding=binding, offered=s.mechanisms))


def test_plus_is_offered_first_and_chosen() -> None:
    s = server(binding=BINDING)
    assert s.mechanisms == (PLUS, PLAIN)
    assert client(binding=BINDING, offered=s.mechanisms).mechanism == PLUS
    assert server().mechanisms == (PLAIN,)


def test_another_certificate_in_the_middle_is_found() -> None:
    s = server(binding=BINDING)
    c = client(binding=hashlib.sha256(b"the man in the middle").digest(), offered=s.mechanisms)
    with pytest.raises(ScramError, match="channel binding check failed"):
        converse(s, c)


def test_a_client_that_was_told_we_have_no_plus_is_refused_as_a_downgrade() -> None:
    s = server(binding=BINDING)
    c = client(binding=BINDING, offered=(PLAIN,))  # PLUS taken off the list on the way
    with pytest.raises(ScramError, match="downgrade"):
        converse(s, c)


def test_a_client_without_binding_may_use_the_plain_mechanism_under_tls() -> None:
    assert converse(server(binding=BINDING), client(binding=None, offered=(PLUS, PLAIN)))


def test_y_is_true_where_plus_was_not_offered() -> None:
    assert converse(server(binding=None), client(binding=BINDING, offered=(PLAIN,)))


@pytest.mark.parametrize(
    ("mechanism", "message"),
    [
        (PLUS, b"n,,n=,r=abc"),
        ("SCRAM-SHA-1", b"n,,n=,r=abc"),
        (PLAIN, b""),
        (PLAIN, b"n"),
        (PLAIN, b"n,,"),
        (PLAIN, b"n,,n="),
        (PLAIN, b"n,,r=abc,n="),
        (PLAIN, b"n,,n=,r="),
        (PLAIN, b"n,,n=,r=a\x00b"),
        (PLAIN, b"n,,n=,r=" + b"x" * (MAX_NONCE + 1)),
        (PLAIN, b"n,,n=,r=" + b"x" * 100_000),
        (PLAIN, b"n,,m=ext,n=,r=abc"),
        (PLAIN, b"n,a=postgres,n=,r=abc"),
        (PLAIN, b"p=tls-server-end-point,,n=,r=abc"),
        (PLAIN, b"q,,n=,r=abc"),
        (PLAIN, b"\xff\xfe,,n=,r=abc"),
    ],
)
def test_a_malformed_first_message_is_refused(mechanism: str, message: bytes) -> None:
    with pytest.raises(ScramError):
        server().first(mechanism, message)


def test_plus_knows_one_kind_of_binding() -> None:
    with pytest.raises(ScramError, match="tls-server-end-point"):
        server(binding=BINDING).first(PLUS, b"p=tls-unique,,n=,r=abc")


def test_a_name_of_any_alphabet_is_ignored() -> None:
    assert server().first(PLAIN, "n,,n=jürgen,r=abc".encode()).startswith(b"r=abc")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"c=biws",
        b"c=biws,r={nonce}",
        b"c=biws,r=other,p=AAAA",
        b"c=!!!!,r={nonce},p=AAAA",
        b"c=biws,r={nonce},p=AAAA",
        b"c=eSws,r={nonce},p=AAAA",
        b"p=AAAA",
        b"c=biws,r={nonce},p=AAAA,x=1",
        b"c=biws,r={nonce},p=\xff",
    ],
)
def test_a_malformed_final_message_is_refused(message: bytes) -> None:
    exchange = server()
    nonce = exchange.first(PLAIN, b"n,,n=,r=abc").split(b",")[0][2:]
    with pytest.raises(ScramError):
        exchange.final(message.replace(b"{nonce}", nonce))


def test_final_before_first_is_refused() -> None:
    with pytest.raises(ScramError):
        server().final(CLIENT_FINAL)
    with pytest.raises(ScramError):
        client().verify(SERVER_FINAL)


def _server_first(c: ClientExchange, template: bytes) -> bytes:
    return template.replace(b"{nonce}", c.first().split(b"r=")[1])


@pytest.mark.parametrize(
    "template",
    [
        b"",
        b"r={nonce}",
        b"r={nonce}x,s=AAAA",
        b"r={nonce},s=AAAA,i=4096",
        b"r=other,s=AAAA,i=4096",
        b"r={nonce}" + b"x" * 10_000 + b",s=AAAA,i=4096",
        b"r={nonce}" + b"x" * 1_000_000 + b",s=AAAA,i=4096",
        b"r={nonce}x,s=AAAA,i=1000000000",
        b"r={nonce}x,s=AAAA,i=0",
        b"r={nonce}x,s=AAAA,i=-1",
        b"r={nonce}x,s=AAAA,i=" + b"9" * 5000,
        b"r={nonce}x,s=AAAA,i=\xb2",
        b"r={nonce}x,s=,i=4096",
        b"r={nonce}x,s=?,i=4096",
        b"m=x,r={nonce}x,s=AAAA,i=4096",
        b"\xff" * 20,
    ],
)
def test_a_hostile_server_gets_no_proof(template: bytes) -> None:
    c = client()
    with pytest.raises(ScramError):
        c.final(_server_first(c, template))


@pytest.mark.parametrize("final", [b"", b"v=", b"v=AAAA", b"v=?", b"e=other-error", b"x=1", SERVER_FINAL])
def test_a_server_without_the_verifier_is_found(final: bytes) -> None:
    c = client()
    c.final(_server_first(c, b"r={nonce}x,s=AAAA,i=4096"))
    with pytest.raises(ScramError):
        c.verify(final)


def test_no_mechanism_in_common() -> None:
    for offered in ((), (PLUS,), ("SCRAM-SHA-1",)):
        with pytest.raises(ScramError):
            client(offered=offered)


def test_an_unknown_user_gets_a_stable_salt_and_never_in() -> None:
    key = b"k" * 32
    one, again, other = Verifier.mock("g-aaaa", key), Verifier.mock("g-aaaa", key), Verifier.mock("g-bbbb", key)
    assert one == again
    assert one.salt != other.salt
    assert one.salt != Verifier.mock("g-aaaa", b"another installation").salt
    assert (one.iterations, len(one.salt)) == (VERIFIER.iterations, len(SALT))
    assert not converse(server(one), client(""))
    Verifier.mock("\udcff", key)  # a name that was not UTF-8


@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        ("dp_abc", b"dp_abc"),
        ("a\u00a0b", b"a b"),  # non-ASCII space becomes a space
        ("I\u00adX", b"IX"),  # a soft hyphen vanishes
        ("\u2168", b"IX"),  # a Roman numeral is compatibility-decomposed
        ("\u0627\u0031", "\u0627\u0031".encode()),  # right-to-left that ends otherwise: used as it stands
        ("\u0007é", "\u0007é".encode()),  # prohibited: used as it stands
        ("\u00ad", "\u00ad".encode()),  # nothing left: used as it stands
        ("\udcff", b"\xff"),  # not UTF-8 at all
    ],
)
def test_saslprep_as_postgres_does_it(password: str, prepared: bytes) -> None:
    assert saslprep(password) == prepared


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_give_an_answer_or_a_scram_error(one: bytes, two: bytes) -> None:
    s, c = server(binding=BINDING), client()
    calls: list[Callable[[], object]] = [
        lambda: s.first(PLAIN, b"n,," + one),
        lambda: s.final(two),
        lambda: c.final(one),
        lambda: c.verify(two),
    ]
    for call in calls:
        with contextlib.suppress(ScramError):
            call()


def _certificate(
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, algorithm: hashes.SHA256 | hashes.SHA384 | None
) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    start = datetime.datetime(2026, 1, 1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, start, start + datetime.timedelta(days=1))
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)


def test_tls_server_end_point() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    with_256, with_384 = _certificate(key, hashes.SHA256()), _certificate(key, hashes.SHA384())
    assert tls_server_end_point(with_256) == hashlib.sha256(with_256).digest()
    assert tls_server_end_point(with_384) == hashlib.sha384(with_384).digest()
    with pytest.raises(ScramError, match="no hash"):
        tls_server_end_point(_certificate(ed25519.Ed25519PrivateKey.generate(), None))
    with pytest.raises(ScramError, match="cannot be read"):
        tls_server_end_point(b"not a certificate")
