"""Lines of a trace: libpq's form, no secrets, no line that a peer could forge, no more memory than promised."""

from __future__ import annotations

import random
import tracemalloc

from proxy.wire import build
from proxy.wire.trace import KEPT, Conversation


def test_a_query_in_the_form_of_libpq() -> None:
    said = Conversation(started=True)
    assert said.client(build.query(b"SELECT 1")) == ['F\t13\tQuery\t "SELECT 1"']
    column = b"?column?\0" + bytes(6) + (23).to_bytes(4, "big") + b"\0\4\xff\xff\xff\xff\0\0"
    answer = [
        build.message(b"T", b"\0\1" + column),
        build.text_row("1"),
        build.message(b"C", b"SELECT 1\0"),
        build.ready(ord("I")),
    ]
    assert said.server(b"".join(answer)) == [
        'B\t33\tRowDescription\t 1 "?column?" 0 0 23 4 -1 0',
        "B\t11\tDataRow\t 1 1 '1'",
        'B\t13\tCommandComplete\t "SELECT 1"',
        "B\t5\tReadyForQuery\t I",
    ]


def test_the_extended_protocol_byte_by_byte() -> None:
    said = Conversation(started=True)
    sent = (
        build.parse(b"s", b"select $1", (23,))
        + build.bind(b"", b"s", (b"\0\n\x7fab", None), (1,), (0,))
        + build.describe(ord("P"))
        + build.execute(b"", 5)
        + build.close(ord("S"), b"s")
        + build.FLUSH
        + build.SYNC
        + build.TERMINATE
    )
    lines = [line for byte in sent for line in said.client(bytes((byte,)))]
    assert lines == [
        'F\t22\tParse\t "s" "select $1" 1 23',
        'F\t30\tBind\t "" "s" 1 1 2 5 \'\\x00\\x0a\\x7fab\' -1 1 0',
        'F\t6\tDescribe\t P ""',
        'F\t9\tExecute\t "" 5',
        'F\t7\tClose\t S "s"',
        "F\t4\tFlush",
        "F\t4\tSync",
        "F\t4\tTerminate",
    ]
    assert Conversation(started=True).client(sent) == lines


def test_a_login_shows_no_secret() -> None:
    said = Conversation()
    lines = said.client(build.startup({"user": "g-1", "database": "shop"}))
    lines += said.server(build.negotiate(2, ["_pq_.x"]) + build.sasl(["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]))
    lines += said.client(build.sasl_initial("SCRAM-SHA-256", b"n,,n=,r=hush1"))
    lines += said.server(build.sasl_continue(b"r=hush2,s=hush3,i=4096"))
    lines += said.client(build.sasl_response(b"c=biws,r=hush4,p=hush5"))
    lines += said.server(build.sasl_final(b"v=hush6") + build.AUTHENTICATION_OK + build.key_data(4711, b"hush" * 8))
    assert lines == [
        'F\t32\tStartupMessage\t 3 0 "user" "g-1" "database" "shop" ""',
        'B\t19\tNegotiateProtocolVersion\t 3 2 1 "_pq_.x"',
        'B\t42\tAuthenticationSASL\t "SCRAM-SHA-256-PLUS" "SCRAM-SHA-256"',
        "F\t35\tSASLInitialResponse\t ***",
        "B\t30\tAuthenticationSASLContinue\t ***",
        "F\t26\tSASLResponse\t ***",
        "B\t15\tAuthenticationSASLFinal\t ***",
        "B\t8\tAuthenticationOk",
        "B\t40\tBackendKeyData\t 4711 ***",
    ]
    for asked in (b"\0\0\0\3", b"\0\0\0\5salt"):
        said.server(build.message(b"R", asked))
        assert said.client(build.password(b"hush")) == ["F\t9\tPasswordMessage\t ***"]
    assert Conversation().client(build.cancel(7, b"hush" * 8)) == ["F\t44\tCancelRequest\t 7 ***"]


def test_a_peer_cannot_forge_a_line() -> None:
    for text in ("a\nB\t5\tReadyForQuery", "\x1b[2J", "\u2028", "\u202egnp", "\r"):
        for line in (
            *Conversation(started=True).client(build.query(text.encode())),
            *Conversation().server(build.error(severity="ERROR", code="XX000", text=text)),
        ):
            assert line.replace("\t", "").isprintable()
            assert line.count("\t") == 3


def test_long_fields_and_messages_are_cut_and_counted() -> None:
    said = Conversation(started=True)
    (line,) = said.client(build.query(b"x" * 1000))
    assert line == f'F\t1005\tQuery\t "{"x" * 256}" (+744 bytes)'
    row = b"\0\2" + (1 << 20).to_bytes(4, "big") + bytes(1 << 20) + b"\0\0\0\1z"
    (line,) = said.server(build.message(b"D", row))
    assert line.endswith(f"(+{(1 << 20) - 256} bytes) (+{len(row) - KEPT} bytes)")
    assert len(line) < 1200
    assert said.server(build.ready(ord("T"))) == ["B\t5\tReadyForQuery\t T"]


def test_what_differs_from_run_to_run_can_be_left_out() -> None:
    said = Conversation(steady=True)
    report = b"SERROR\0C42P01\0Mno table\0Fparse_relation.c\0L1449\0RparserOpenTable\0\0"
    assert said.server(build.message(b"E", report)) == [
        'B\tNN\tErrorResponse\t S "ERROR" C "42P01" M "no table" F "SSSS" L "SSSS" R "SSSS"'
    ]
    assert said.server(build.key_data(4711, b"abcd")) == ["B\t12\tBackendKeyData\t NNNN ***"]
    assert said.server(build.message(b"t", b"\0\2\0\0\0\x17\0\0\x40\0")) == ["B\t14\tParameterDescription\t 2 23 NNNN"]
    assert said.server(build.message(b"A", b"\0\0\x12\x67ch\0load\0")) == [
        'B\t16\tNotificationResponse\t NNNN "ch" "load"'
    ]


def test_nothing_that_a_peer_sends_raises_or_is_hoarded() -> None:
    dice = random.Random(7)
    for _ in range(2000):
        said = Conversation(started=dice.random() < 0.5)
        kind = bytes((dice.choice(b"QPBDECHSXFpdcfRSKvZTDCIs123ntGHWVENA\x80"),))
        data = build.message(kind, dice.randbytes(dice.randrange(40)))
        for line in said.client(data) + said.server(data):
            assert line.count("\n") == 0
    assert Conversation().server(b"D\0\0\0\3") == ["B\t3\ta message of type 'D' with a length that cannot be"]
    assert Conversation().server(build.message(b"Z", b"I?")) == ["B\t6\tReadyForQuery\t I (malformed)"]
    assert Conversation().server(build.message(b"D", b"\0\1\0\0")) == ["B\t8\tDataRow\t 1 (malformed)"]
    tracemalloc.start()
    said = Conversation(started=True)
    said.client(b"d" + (1 << 30).to_bytes(4, "big"))
    for _ in range(500):
        said.client(bytes(65_536))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
