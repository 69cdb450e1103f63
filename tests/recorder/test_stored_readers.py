"""Search, tape, tail, summary and exports read a recording however it is stored, and say what they cannot open."""

from __future__ import annotations

import io
from datetime import timedelta
from pathlib import Path

import msgspec
import pyrage
import pytest

from recorder import reading, search, search_feed
from recorder.export import FORMATS
from recorder.journal import Recorder
from recorder.pack import Form, Packer
from recorder.search import Query
from recorder.stored import BrokenError, SealedError
from recorder.summary import summarise
from recorder.tail import follow
from recorder.tape import Tape
from tests.recorder.scenes import record
from tests.recorder.support import START, Ticker, end, outcome, start, statement

KEY = pyrage.x25519.Identity.generate()
FORMS = [Form(), Form(recipients=(str(KEY.to_public()),)), Form(compress=False, recipients=(str(KEY.to_public()),))]


def pack(folder: Path, form: Form) -> Path:
    (done,) = Packer(folder, form, Ticker(START + timedelta(days=1))).round()
    return folder / done.file


def exported(path: Path, form: str) -> str:
    out = io.StringIO(newline="")
    FORMATS[form][1](path, out, [KEY])
    return out.getvalue()


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.suffix)
def test_every_reader_reads_every_form(tmp_path: Path, form: Form) -> None:
    plain = record(tmp_path)
    lines = list(reading.lines(plain))
    tape = Tape(plain)
    entries = list(tape.entries(0))
    exports = {name: exported(plain, name) for name in FORMATS}
    sums = msgspec.json.encode(summarise(tmp_path))
    path = pack(tmp_path, form)
    assert not plain.exists()
    for there in (plain, path):  # also by the name that somebody learnt before it was packed
        assert list(reading.lines(there, keys=[KEY])) == lines
        assert list(reading.lines(there, lines[5][0], [KEY])) == lines[5:]
        assert list(follow(there, sleep=lambda _: None, keys=[KEY])) == [raw for _, raw in lines]
        played = Tape(there, [KEY])
        assert list(played.entries(0)) == entries
        assert list(played.entries(9)) == entries[9:]
        assert {name: exported(there, name) for name in FORMATS} == exports
    assert msgspec.json.encode(summarise(tmp_path, keys=[KEY])) == sums
    filled = search_feed.update(tmp_path, keys=[KEY])
    assert filled is not None
    assert (filled.statements, filled.encrypted) == (24, 0)
    hits = search.search(tmp_path, Query(text="delete", verdict="deny")).hits
    assert [(hit.n, hit.recording) for hit in hits] == [(2, str(path))]


def test_without_the_key_it_is_said(tmp_path: Path) -> None:
    record(tmp_path)
    path = pack(tmp_path, FORMS[1])
    filled = search_feed.update(tmp_path)
    assert filled is not None
    assert (filled.statements, filled.encrypted) == (0, 1)
    total = summarise(tmp_path)
    assert (total.sessions, total.statements, total.refused, total.tables) == (1, 24, 18, {})
    assert [odd.kind for odd in total.unusual] == ["encrypted"]
    with pytest.raises(SealedError):
        Tape(path)
    with pytest.raises(SealedError):
        list(follow(path, sleep=lambda _: None))
    filled = search_feed.update(tmp_path, keys=[KEY])  # and nothing was noted that keeps it from being read now
    assert filled is not None
    assert filled.statements == 24


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.suffix)
def test_a_stored_form_that_is_damaged_is_said(tmp_path: Path, form: Form) -> None:
    record(tmp_path)
    path = pack(tmp_path, form)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    search_feed.update(tmp_path, keys=[KEY])
    search_feed.update(tmp_path, keys=[KEY])
    hits = search.search(tmp_path, Query(limit=1000)).hits
    assert len({(hit.session, hit.n) for hit in hits}) == len(hits)  # nothing twice
    assert "damaged" in [odd.kind for odd in summarise(tmp_path, keys=[KEY]).unusual]
    with pytest.raises(BrokenError):
        Tape(path, [KEY])


def test_it_may_be_packed_between_two_looks_of_the_index(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, now=Ticker())
    recording = recorder.open("s-1", start())
    for n in range(1, 4):
        recording.append(statement(n, f"select {n}"))
        if n < 3:
            recording.append(outcome(n))
    recording.flush()
    search_feed.update(tmp_path)
    recording.append(outcome(3, rows=500))
    recording.append(statement(4, "select 4"))
    recording.close(end(4))
    recorder.close()
    pack(tmp_path, FORMS[0])
    search_feed.update(tmp_path)
    hits = search.search(tmp_path, Query(text="select")).hits
    assert [(hit.n, hit.rows) for hit in hits] == [(4, None), (3, 500), (2, 1), (1, 1)]
    assert all(hit.recording.endswith(".jsonl.zst") for hit in hits)
