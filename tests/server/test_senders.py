"""One notice to one sink, against real servers: what arrives, what is refused, what is too slow; no secret in a word.

Covers proxy/server/notice.py.
"""

from __future__ import annotations

import asyncio
import email
import hashlib
import hmac
import json
import os
import ssl
import sys
import threading
import time
from datetime import UTC, datetime
from email.policy import default
from pathlib import Path
from typing import Any

import pytest

from proxy.access.outbox import Step
from proxy.config_notify import Notify
from proxy.server.notice import Notice, as_mail, as_slack, notice, signature
from proxy.server.senders import NotDelivered, deliver, target
from tests.live.certificate import write_certificate
from tests.server.sinks import Hook, Mailbox

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
TOKEN = "dp_" + "a2" * 16
DETAIL = {
    "grant": "g-7k3m9x2q",
    "by": "ann",
    "person": "jo@vendor.example",
    "reason": f"<!channel> & {TOKEN}",
    "sql": "select ssn from t where ssn = '900-00-0001'",
    "checks": [{"evidence": "900-00-0001", "name": "backup"}],
}


@pytest.fixture
def told() -> Notice:
    return notice(Step(42, NOON, "grant.revoked", DETAIL), "0a1b2c3d")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_certificate(tmp_path_factory.mktemp("tls"))


def sink(**values: Any) -> Notify:
    return Notify.model_validate({"timeout": "5s", **values})


async def send(where: Notify, told: Notice) -> str:
    return await deliver(where, told, lambda: NOON)


async def refusal(where: Notify, told: Notice) -> NotDelivered:
    with pytest.raises(NotDelivered) as caught:
        await send(where, told)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 300
    return caught.value


def test_no_token_no_statement_no_value_in_any_form(told: Notice) -> None:
    mail = as_mail(told, "d@shop.example", ["a@shop.example"]).as_string()
    for text in (json.dumps(told.data()), as_slack(told).decode(), mail):
        assert TOKEN not in text
        assert "900-00-0001" not in text
        assert "g-7k3m9x2q" in text


def test_the_id_is_the_steps_own_also_after_a_restore(told: Notice) -> None:
    assert told.id == notice(Step(42, NOON, "grant.revoked", {}, tries=7), "0a1b2c3d").id
    later = Step(42, NOON.replace(hour=13), "grant.revoked", DETAIL)
    assert told.id != notice(later, "0a1b2c3d").id
    assert told.id.startswith("0a1b2c3d-42-")


def test_a_line_for_people(told: Notice) -> None:
    assert told.text == "grant.revoked g-7k3m9x2q: person jo@vendor.example; reason <!channel> & ***; by ann"
    assert "&lt;!channel&gt; &amp; ***" in json.loads(as_slack(told))["text"]
    evil = notice(Step(1, NOON, "request.created", {"by": "a\r\nBcc: x@evil.example", "purpose": "y" * 9000}), "i")
    assert "\n" not in evil.text
    assert "Bcc" not in as_mail(evil, "d@shop.example", ["a@shop.example"])


async def test_a_webhook_gets_json_with_a_signature(
    told: Notice, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_SECRET", "hush")
    with Hook(certificate) as hook:
        where = sink(webhook=hook.url, ca=str(certificate[0]), secret_env="HOOK_SECRET")
        assert await send(where, told) == "200 OK"
    (got,) = hook.got
    assert got.data == told.data()
    assert (got.headers["idempotency-key"], got.headers["content-type"]) == (told.id, "application/json")
    moment, digest = (part.split("=")[1] for part in got.headers["daypass-signature"].split(","))
    right = hmac.new(b"hush", moment.encode() + b"." + got.body, hashlib.sha256).hexdigest()
    assert (int(moment), digest) == (int(NOON.timestamp()), right)
    assert signature("hush", got.body + b" ", NOON) != got.headers["daypass-signature"]


async def test_a_certificate_that_leads_nowhere_is_not_told(
    told: Notice, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    with Hook(certificate) as hook:
        problem = await refusal(sink(webhook=hook.url), told)
        assert "CERTIFICATE_VERIFY_FAILED" in str(problem)
    elsewhere = write_certificate(tmp_path, "other.example", "127.0.0.9")
    with Hook(elsewhere) as other:
        wrong = await refusal(sink(webhook=other.url, ca=str(elsewhere[0])), told)
    assert "IP address mismatch" in str(wrong)
    assert other.got == []
    assert hook.got == []
    assert not problem.lasting
    assert "cannot be used" in str(await refusal(sink(webhook=hook.url, ca="/nowhere.pem"), told))


@pytest.mark.parametrize(
    ("answer", "lasting"), [(400, True), (404, True), (408, False), (429, False), (500, False), (503, False)]
)
async def test_a_webhook_that_says_no(told: Notice, answer: int, lasting: bool) -> None:
    with Hook(answer=answer, text=b"<b>no\x1b[2J way</b>" + b"x" * 100_000) as hook:
        problem = await refusal(sink(webhook=hook.url), told)
    assert str(problem).startswith(str(answer))
    assert "no [2J way" in str(problem)
    assert problem.lasting is lasting


async def test_a_redirect_is_not_followed(told: Notice) -> None:
    with Hook() as other, Hook(answer=307, headers={"Location": other.url}) as hook:
        assert "not followed" in str(await refusal(sink(webhook=hook.url), told))
    assert other.got == []


async def test_a_webhook_that_is_silent_or_gone(told: Notice) -> None:
    with Hook(delay=threading.Event()) as hook:
        began = time.monotonic()
        problem = await refusal(sink(webhook=hook.url, timeout="300ms"), told)
        assert not problem.lasting
        assert time.monotonic() - began < 3
        url = hook.url
    problem = await refusal(sink(webhook=url), told)
    assert "ConnectError" in str(problem)
    assert not problem.lasting


async def test_an_address_that_is_the_secret(told: Notice, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("T0/B0/hush\n")
    with Hook() as hook:
        where = sink(webhook=hook.url + "/{secret}", form="slack", secret_file=str(tmp_path / "key"))
        await send(where, told)
        assert "hush" not in target(where)
    (got,) = hook.got
    assert got.path == "/hook/T0/B0/hush"
    assert "daypass-signature" not in got.headers
    assert list(got.data) == ["text"]


async def test_a_secret_that_is_missing(told: Notice, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for key, value, message in (
        ("secret_env", "NO_SUCH_SECRET", "NO_SUCH_SECRET is not set"),
        ("secret_file", str(tmp_path / "none"), "cannot be read"),
        ("secret_file", str(tmp_path / "empty"), "is empty"),
    ):
        assert message in str(await refusal(sink(webhook="https://127.0.0.1:1/", **{key: value}), told))


@pytest.mark.filterwarnings("ignore:Requiring AUTH")
@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_a_mail(told: Notice, certificate: tuple[Path, Path], tmp_path: Path, tls: str) -> None:
    (tmp_path / "password").write_text("hunter2")
    box = {"host": "127.0.0.1", "tls": tls, "user": "daypass", "from": "d@shop.example", "to": ["a@shop.example"]}
    async with Mailbox(certificate, at_once=tls == "tls") as mailbox:
        box["port"] = mailbox.port
        where = sink(smtp=box, ca=str(certificate[0]), secret_file=str(tmp_path / "password"))
        assert "kept" in await send(where, told)
        (envelope,) = mailbox.mails
        mailbox.refuse = "554 spam"
        problem = await refusal(where, told)
        assert "554 spam" in str(problem)
        assert problem.lasting
        mailbox.refuse = "451 later"
        assert not (await refusal(where, told)).lasting
        untrusted = sink(smtp=box, secret_file=str(tmp_path / "password"))
        assert "certificate" in str(await refusal(untrusted, told)).lower()
        (tmp_path / "password").write_text("wrong-secret")
        problem = await refusal(where, told)
        assert "wrong-secret" not in str(problem)
        assert not problem.lasting
    assert len(mailbox.mails) == 1
    assert isinstance(envelope.content, bytes)
    mail = email.message_from_bytes(envelope.content, policy=default)
    assert (envelope.mail_from, envelope.rcpt_tos) == ("d@shop.example", ["a@shop.example"])
    assert mail["Subject"].startswith("[daypass] grant.revoked g-7k3m9x2q: ")
    assert mail["Message-ID"] == f"<{told.id}@daypass>"
    assert "person: jo@vendor.example" in mail.as_string()
    assert "ConnectError" in str(await refusal(where, told))


async def test_a_server_that_cannot_starttls_gets_no_password(told: Notice, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2")
    async with Mailbox(None) as plain:
        box = {"host": "127.0.0.1", "port": plain.port, "user": "u", "from": "d@shop.example", "to": ["a@shop.example"]}
        problem = await refusal(sink(smtp=box, secret_file=str(tmp_path / "password")), told)
        assert "STARTTLS" in str(problem).upper()
    assert plain.mails == []


PROGRAM = """
import json, os, sys
data = json.load(sys.stdin)
with open(sys.argv[1], "w") as file:
    json.dump({"data": data, "args": sys.argv, "env": dict(os.environ)}, file)
"""


async def test_a_command_reads_json_and_sees_no_secret(
    told: Notice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_PASSWORD", "hunter2")
    (tmp_path / "hook.py").write_text(PROGRAM)
    out = tmp_path / "out.json"
    assert await send(sink(command=[sys.executable, str(tmp_path / "hook.py"), str(out)]), told) == "exit code 0"
    seen = json.loads(out.read_text())
    assert seen["data"] == told.data()
    assert "hunter2" not in out.read_text()
    assert "g-7k3m9x2q" not in " ".join(seen["args"])
    assert (seen["env"]["DAYPASS_ACTION"], seen["env"]["DAYPASS_ID"]) == ("grant.revoked", told.id)


async def test_a_command_that_fails(told: Notice) -> None:
    problem = await refusal(sink(command=["sh", "-c", "echo no way >&2; exit 7"]), told)
    assert (str(problem), problem.lasting) == ("exit code 7: no way", True)
    assert "cannot be run" in str(await refusal(sink(command=["/no/such/program"]), told))
    assert "killed by signal 9" in str(await refusal(sink(command=["sh", "-c", "kill -9 $$"]), told))
    # One that reads nothing, and one that writes without end, are nobody's trouble.
    assert await send(sink(command=["true"]), told) == "exit code 0"
    flood = sink(command=["sh", "-c", "head -c 3000000 /dev/zero >&2; exit 1"])
    assert "exit code 1" in str(await refusal(flood, told))


async def test_a_command_that_hangs_is_killed_with_its_children(told: Notice, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 60 & echo $! >{pids}; echo $$ >>{pids}; wait"
    assert "no answer within" in str(await refusal(sink(command=["sh", "-c", script], timeout="700ms"), told))
    for pid in map(int, pids.read_text().split()):
        for _ in range(100):
            if not _lives(pid):
                break
            await asyncio.sleep(0.02)
        assert not _lives(pid)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


async def test_a_child_that_stays_does_not_hold_the_delivery_up(told: Notice) -> None:
    began = time.monotonic()
    assert await send(sink(command=["sh", "-c", "sleep 3 & exit 0"]), told) == "exit code 0"
    assert time.monotonic() - began < 2


def test_where_a_sink_leads_without_its_secret() -> None:
    assert target(sink(webhook="https://hooks.chat.example/T0/B0/hush")) == "https://hooks.chat.example/…"
    assert target(sink(command=["/bin/page", "x"])) == "/bin/page"
    box = {"host": "mail.example", "from": "d@shop.example", "to": ["a@x.example", "b@x.example"]}
    assert target(sink(smtp=box)) == "a@x.example, b@x.example by mail.example:587"


def test_the_ssl_context_is_strict(certificate: tuple[Path, Path]) -> None:
    from proxy.server.senders import _trust

    context = _trust(sink(webhook="https://a.example", ca=str(certificate[0])))
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
