"""recorder/reconcile.py: what differs between a record and a log, and what only looks so."""

from datetime import timedelta
from pathlib import Path

from recorder.events import Outcome, SessionEnd, Statement
from recorder.journal import Recorder
from recorder.pglog import Backend, Log, Ran
from recorder.reconcile import Reconciled, Recorded, Sent, align, reconcile, recorded
from tests.recorder.support import START, Ticker, start

SECOND = timedelta(seconds=1)


def sent(n: int, text: str, *, sqlstate: str | None = None, protocol: str = "simple", rewritten: str = "") -> Sent:
    return Sent(n, START + n * SECOND, protocol, (text, *([rewritten] if rewritten else [])), sqlstate)


def ran(text: str, *, simple: bool = True, audit: bool = False) -> Ran:
    return Ran(START + SECOND, text, simple, audit)


def backend(*lines: Ran, pid: int = 7, user: str = "vendor_ro", application: str = "psql", after: float = 0) -> Backend:
    return Backend(pid, START + after * SECOND, user, "app", application, "10.0.0.1", list(lines))


def compare(session: Recorded | None, *backends: Backend, roles: tuple[str, ...] = (), span: float = 60) -> Reconciled:
    log = Log({str(number): one for number, one in enumerate(backends)}, START - span * SECOND, START + span * SECOND)
    return reconcile([session] if session else [], lambda pids, users: log, roles=roles)


def one(*statements: Sent) -> Recorded:
    return Recorded("s-1", 7, START, START + 10 * SECOND, list(statements))


def kinds(result: Reconciled) -> list[tuple[str, str]]:
    return [(found.kind, found.text) for found in result.differences]


def test_equal() -> None:
    record = one(
        sent(1, "select 1"), sent(2, "select a", rewritten="select b"), sent(3, "select $1", protocol="extended")
    )
    result = compare(record, backend(ran("select 1"), ran("select b"), ran("select $1", simple=False)))
    assert result.ok
    assert (result.sessions, result.statements, result.roles, result.uncovered) == (1, 3, ("vendor_ro",), ())


def test_several_in_one_message_and_errors_that_were_never_logged() -> None:
    record = [sent(1, "select 1"), sent(2, "select 2"), sent(3, "selec", sqlstate="42601"), sent(4, "select 4")]
    assert align([ran("select 1; -- one\n select 2;"), ran("select 4")], record) == ([], [])


def test_a_statement_that_the_record_lacks() -> None:
    result = compare(
        one(sent(1, "select 1"), sent(2, "select 2")), backend(ran("select 1"), ran("drop table t"), ran("select 2"))
    )
    assert kinds(result) == [("unrecorded", "drop table t")]
    assert result.differences[0].session == "s-1"


def test_a_statement_that_never_arrived() -> None:
    record = one(sent(1, "select 1"), sent(2, "select 2"), sent(3, "select 3"))
    assert kinds(compare(record, backend(ran("select 1"), ran("select 3")))) == [("missing", "select 2")]
    assert kinds(compare(record, backend(ran("select 1"), ran("select 2")))) == [("missing", "select 3")]
    assert kinds(compare(one(sent(1, "select 1", sqlstate="none yet")), backend())) == []


def test_a_connection_that_no_session_has() -> None:
    stranger = backend(ran("select secret"), ran("select more"), pid=8, application="")
    result = compare(one(sent(1, "select 1")), backend(ran("select 1")), stranger)
    (found,) = result.differences
    assert (found.kind, found.session, found.pid, found.statements, found.text) == (
        "foreign",
        None,
        8,
        2,
        "select secret",
    )
    assert compare(None, stranger).ok  # a role that nobody named and no session showed
    assert not compare(None, stranger, roles=("vendor_ro",)).ok
    assert compare(None, backend(pid=9), roles=("vendor_ro",)).ok  # connected, and did nothing


def test_the_same_process_id_at_another_time_is_another() -> None:
    again = backend(ran("select secret"), after=3600)
    result = compare(one(sent(1, "select 1")), backend(ran("select 1")), again)
    assert kinds(result) == [("foreign", "select secret")]


def test_our_own_connections_are_counted_apart() -> None:
    own = backend(ran("select relname"), pid=9, application="daypass catalog")
    result = compare(one(sent(1, "select 1")), backend(ran("select 1")), own)
    assert (result.ok, result.own) == (True, 1)


def test_what_the_log_does_not_cover() -> None:
    result = compare(one(sent(1, "select 1")), span=-1)
    assert (result.ok, result.uncovered, result.sessions) == (True, ("s-1",), 0)
    result = compare(one(sent(1, "select 1")))
    assert (kinds(result), result.uncovered) == ([("missing", "select 1")], ())
    assert compare(one()).uncovered == ("s-1",)
    assert reconcile([one(sent(1, "select 1"))], lambda pids, users: Log()).uncovered == ("s-1",)


def test_pgaudit_alone() -> None:
    record = one(sent(1, "select a from t;"), sent(2, "show x"))
    assert compare(record, backend(ran("select a from t", audit=True))).ok
    assert kinds(compare(record, backend(ran("select b from t", audit=True)))) == [("unrecorded", "select b from t")]


def test_what_a_recording_says_was_sent(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, now=Ticker())
    recording = recorder.open("s-1", start("s-1", upstream_pid=7))
    for n, (text, verdict, protocol) in enumerate(
        [
            ("select 1 ", "allow", "simple"),
            ("drop t", "deny", "simple"),
            ("select $1", "mask", "extended"),
            ("f", "allow", "function"),
        ],
        1,
    ):
        rewritten = "select m" if verdict == "mask" else None
        recording.append(
            Statement(n=n, sql=text, params=None, verdict=verdict, rule=None, rewritten=rewritten, protocol=protocol)
        )
    recording.append(Outcome(n=1, rows=1, bytes=1, ms=1.0, sqlstate=None))
    recording.append(Statement(n=5, sql="select 5", params=None, verdict="allow", rule=None, rewritten=None))
    recording.append(Outcome(n=5, rows=0, bytes=0, ms=0.0, sqlstate="42501", sent=False))
    recording.close(SessionEnd(reason="client", detail=None, statements=5))
    other = recorder.open("s-2", start("s-2"))
    other.close(SessionEnd(reason="client", detail=None, statements=0))
    recorder.close()
    found = recorded(recording.path)
    assert found is not None
    assert (found.session, found.pid) == ("s-1", 7)
    assert found.end is not None
    assert [(one.n, one.texts, one.sqlstate) for one in found.sent] == [
        (1, ("select 1",), None),
        (3, ("select $1", "select m"), "none yet"),
    ]
    assert recorded(other.path) is None


def test_as_json() -> None:
    result = compare(None, backend(ran("select secret")), roles=("vendor_ro",)).to_dict()
    assert (result["ok"], result["differences"][0]["kind"], result["roles"]) == (False, "foreign", ("vendor_ro",))
