"""What pgBackRest and WAL-G print, in their forms of several versions, and what they print when something is wrong."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from proxy.access.backups import Backup, NoBackupError, of_pgbackrest, of_walg, parsed

MONDAY = 1767600000  # 2026-01-05 08:00:00 UTC


def stanza(name: str = "app", *, code: int = 0, message: str = "ok", backups: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "archive": [{"database": {"id": 1, "repo-key": 1}, "id": "16-1", "max": "0" * 24, "min": "0" * 24}],
        "backup": backups,
        "cipher": "none",
        "db": [{"id": 1, "repo-key": 1, "system-id": 7147741414128675215, "version": "16"}],
        "name": name,
        "repo": [{"cipher": "none", "key": 1, "status": {"code": code, "message": message}}],
        "status": {"code": code, "lock": {"backup": {"held": False}, "restore": {"held": False}}, "message": message},
    }


def backup(stop: int, kind: str = "full", error: bool | None = False) -> dict[str, Any]:
    return {
        "archive": {"start": "0" * 24, "stop": "0" * 24},
        "backrest": {"format": 5, "version": "2.55.1"},
        "database": {"id": 1, "repo-key": 1},
        "error": error,
        "info": {"delta": 1, "repository": {"delta": 1, "size": 1}, "size": 1},
        "label": f"{kind}-{stop}",
        "prior": None,
        "reference": None,
        "timestamp": {"start": stop - 60, "stop": stop},
        "type": kind,
    }


def printed(*stanzas: dict[str, Any]) -> bytes:
    return json.dumps(stanzas).encode()


def test_the_newest_good_backup_of_a_stanza() -> None:
    out = printed(
        stanza("other", backups=[backup(MONDAY + 9)]),
        stanza(backups=[backup(MONDAY), backup(MONDAY + 60, "incr"), backup(MONDAY + 120, "diff", error=True)]),
    )
    at = datetime(2026, 1, 5, 8, 1, tzinfo=UTC)
    assert of_pgbackrest(out, "app") == Backup(f"incr-{MONDAY + 60}", "incr", at)
    assert of_pgbackrest(printed(stanza(backups=[backup(MONDAY, error=None)])), None).label == f"full-{MONDAY}"


def test_what_pgbackrest_logs_before_its_answer_is_skipped() -> None:
    out = b"WARN: repo1: no age is set\n" + printed(stanza(backups=[backup(MONDAY)]))
    assert of_pgbackrest(out, "app").kind == "full"
    pretty = b"WARN: something\n" + json.dumps([stanza(backups=[backup(MONDAY)])], indent=1).encode()
    assert of_pgbackrest(pretty, "app").kind == "full"


@pytest.mark.parametrize(
    ("out", "asked", "why"),
    [
        (printed(stanza("other", backups=[])), "app", "pgbackrest knows no stanza app; there are: other"),
        (printed(), "app", "pgbackrest knows no stanza app; there is none"),
        (printed(), None, "pgbackrest knows no stanza"),
        (printed(stanza("a", backups=[]), stanza("b", backups=[])), None, "several stanzas (a, b): name one"),
        (printed(stanza(code=2, message="no valid backups", backups=[])), "app", "stanza app: no valid backups"),
        (printed(stanza("[invalid]", code=99, message="other", backups=[])), None, "stanza [invalid]: other"),
        (printed(stanza(backups=[])), "app", "pgbackrest lists no good backup"),
        (printed(stanza(backups=[backup(MONDAY, error=True)])), "app", "pgbackrest lists no good backup"),
        (b"ERROR: [055]: unable to open missing file", "app", "it printed no JSON"),
        (b"\xff\xfe", "app", "it printed no JSON"),
        (b'[{"name": "app"}]', "app", "stanza app: nothing"),
        (b'[{"name": "app", "status": {"code": 0}, "backup": [{"timestamp": 7}, {}]}]', "app", "no good backup"),
        (b"[3]", None, "knows no stanza"),
        (b"{}", None, "knows no stanza"),
    ],
)
def test_no_good_backup_of_pgbackrest(out: bytes, asked: str | None, why: str) -> None:
    with pytest.raises(NoBackupError) as no:
        of_pgbackrest(out, asked)
    assert why in str(no.value)


def entry(name: str, **times: str) -> dict[str, Any]:
    return {"backup_name": name, "wal_file_name": "0" * 24, "storage_name": "default", "is_permanent": False, **times}


def test_the_newest_backup_of_walg_with_and_without_details() -> None:
    full = entry("base_000000010000000000000002", time="2026-01-05T08:00:00Z")
    delta = entry(
        "base_000000010000000000000004_D_000000010000000000000002",
        time="2026-01-05T09:00:10Z",
        start_time="2026-01-05T08:59:00.123456Z",
        finish_time="2026-01-05T10:00:00.5+01:00",
    )
    found = of_walg(json.dumps([delta, full]).encode())
    assert found.kind == "delta"
    assert found.at == datetime(2026, 1, 5, 9, 0, 0, 500_000, tzinfo=UTC)
    assert of_walg(json.dumps([full]).encode()) == Backup(
        "base_000000010000000000000002", "full", datetime(2026, 1, 5, 8, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    "out",
    [b"null", b"[]", b"{}", b"[1]", b'[{"time": "yesterday"}]', b'[{"time": "0001-01-01T00:00:00Z"}]',
     b'[{"time": "2026-01-05T08:00:00"}]'],
)  # fmt: skip
def test_no_backup_of_walg(out: bytes) -> None:
    with pytest.raises(NoBackupError, match="wal-g lists no good backup"):
        of_walg(out)
    with pytest.raises(NoBackupError, match="no JSON"):
        of_walg(b"No backups found")


def test_json_of_any_program() -> None:
    assert parsed(b'{"frozen": false}') == {"frozen": False}
    assert parsed(b'checking\n{"frozen": false}') == {"frozen": False}
    with pytest.raises(ValueError, match="Expecting value"):
        parsed(b"fine")
