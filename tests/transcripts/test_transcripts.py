"""Golden conversations: the same words from the client must lead to the same words on all four sides.

Each step of a conversation is sent to a real daypass before a real Postgres, which traces both of its connections
(`serve --trace-wire`). A step's lines are what the client said, what went upstream, what came from there, and what the
client got. DAYPASS_UPDATE_TRANSCRIPTS=1 writes the files anew; read the difference before committing it.

Covers proxy/server/tracing.py and proxy/wire/trace.py.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from proxy.wire import build
from proxy.wire.trace import Conversation as Talk
from tests.live.house import POLICY, House, until
from tests.live.raw import Raw
from tests.support.postgres import Servers, default_first
from tests.transcripts.conversations import CONVERSATIONS, Conversation

FOLDER = Path(__file__).parent
QUIET = POLICY + "greeting: false\n"
ORDER = ("client\tF", "upstream\tF", "upstream\tB", "client\tB")


@pytest.fixture(scope="module", params=default_first(), ids=lambda bindir: bindir.parent.name)
def traced(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, pg_servers: Servers
) -> Iterator[House]:
    """A running House that traces."""
    house = House(tmp_path_factory.mktemp("traced"), pg_servers.get(request.param), policy=QUIET)
    house.start(arguments=["--trace-wire", str(house.folder / "traces"), "--trace-steady"])
    yield house
    house.hurry()


def replay(house: House, conversation: Conversation) -> str:
    """Hold the conversation; returns its transcript."""
    known = set((house.folder / "traces").glob("s-*.trace"))
    with Raw(house.port, timeout=10) as raw:
        raw.login(house.grant(policy=conversation.policy))
        (trace,) = set((house.folder / "traces").glob("s-*.trace")) - known
        said: list[str] = []
        for step in conversation.steps:
            before = trace.stat().st_size
            raw.send(step.send)
            if step.meanwhile is not None:
                step.meanwhile(house)
            for letter in step.until:
                assert raw.until(letter)[-1][0] == letter, f"{step.why}: the connection ended"
            lines = trace.read_bytes()[before:].decode().splitlines()
            said += [f"# {step.why}"] if step.why else []
            # Which lane is first is chance where messages come in several pieces.
            said += [line for lane in ORDER for line in lines if line.startswith(lane)]
            assert all(line.startswith(ORDER) for line in lines)
    return "\n".join(said) + "\n"


@pytest.mark.parametrize("conversation", CONVERSATIONS, ids=lambda conversation: conversation.name)
def test_the_conversation_is_as_it_was(traced: House, conversation: Conversation) -> None:
    golden = FOLDER / f"{conversation.name}.trace"
    said = replay(traced, conversation)
    if os.environ.get("DAYPASS_UPDATE_TRANSCRIPTS"):
        golden.write_text(said)
    assert said.splitlines() == golden.read_text().splitlines()


def heard(raw: Raw, house: House, conversation: Conversation) -> list[str]:
    """What a client hears in the whole conversation."""
    said, lines = Talk(steady=True, started=True), []
    for step in conversation.steps:
        raw.send(step.send)
        if step.meanwhile is not None:
            step.meanwhile(house)
        for letter in step.until:
            for kind, body in raw.until(letter):
                lines += said.server(build.message(kind.encode(), body))
    return lines


# A denial that a Flush brings has no counterpart where nothing is denied.
UNDENIED = [one for one in CONVERSATIONS if not any(step.until == "E" for step in one.steps)]


@pytest.mark.parametrize("conversation", UNDENIED, ids=lambda conversation: conversation.name)
def test_whoever_is_only_observed_hears_what_postgres_says(traced: House, conversation: Conversation) -> None:
    with Raw(traced.port, timeout=10) as through, Raw(traced.pg.port, timeout=10) as direct:
        through.login(traced.grant(policy="watcher"), search_path="app")
        direct.start(traced.role, traced.dbname, search_path="app")
        direct.prove("vendor-secret")
        assert heard(through, traced, conversation) == heard(direct, traced, conversation)


def test_every_transcript_is_of_a_conversation() -> None:
    names = {path.stem for path in FOLDER.glob("*.trace")}
    assert names == {conversation.name for conversation in CONVERSATIONS}


def test_traces_are_loud_private_and_without_secrets(traced: House) -> None:
    folder = traced.folder / "traces"
    assert traced.wait_log("tracing")["level"] == "warning"
    user, token = traced.grant()
    with Raw(traced.port, minor=2) as raw:
        assert raw.ask_tls() == b"S"
        raw.tls()
        raw.login((user, token))
        with Raw(traced.port) as other:
            other.send(b"\0\0\0\x2c\x04\xd2\x16\x2e", raw.pid.to_bytes(4, "big"), raw.secret)
            assert other.rest() == b""
        (session,) = [line["session"] for line in traced.lines() if line.get("user") == user]
        secret = raw.secret
    trace = folder / f"{session}.trace"
    assert trace.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    text = trace.read_text()
    for words in (
        "# TLSv1.3",
        "StartupMessage",
        "AuthenticationSASL",
        "SASLResponse\t ***",
        "BackendKeyData\t NNNN ***",
    ):
        assert words in text
    for _ in until(5):
        everything = b"".join(path.read_bytes() for path in folder.iterdir())
        if b"CancelRequest\t NNNN ***" in everything:
            break
    else:
        raise AssertionError("the CancelRequest was not traced")
    for hidden in (token.encode(), secret, secret.hex().encode(), b"vendor-secret", b"r=", b"p="):
        assert hidden not in everything


def test_a_trace_that_cannot_be_written_ends_no_session(traced: House, tmp_path: Path) -> None:
    folder = tmp_path / "traces"
    house = House(tmp_path, traced.pg).start(arguments=["--trace-wire", str(folder)])
    try:
        login = house.grant()
        with Raw(house.port) as raw:
            raw.login(login)
        (trace,) = folder.iterdir()
        # In its usual form each line begins with its time.
        time, lane, side, _, name, _ = trace.read_text().splitlines()[1].split("\t")
        assert abs(datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds() < 60
        assert (lane, side, name) == ("client", "F", "StartupMessage")
        shutil.rmtree(folder)
        with Raw(house.port) as raw:
            raw.login(login)
            raw.send(build.query(b"select 1"))
            assert raw.until("Z")[-1][0] == "Z"
        assert house.wait_log("trace_failed")["level"] == "error"
    finally:
        house.hurry()


def test_a_folder_that_cannot_be_used_ends_the_start(traced: House, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    house = House(tmp_path, traced.pg)
    with pytest.raises(AssertionError, match="trace_failed"):
        house.start(arguments=["--trace-wire", str(tmp_path / "file")])
    assert house.process is not None
    assert house.process.wait(5) == 2
    house.process = None
