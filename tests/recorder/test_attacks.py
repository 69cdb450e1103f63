"""Every attack of the table is found, as docs/reference/verify.md says; and so is every flipped byte of a folder."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from recorder import nodeview, stored, treelog
from recorder.events import SessionEnd
from recorder.examine import Examiner
from recorder.journal import Recorder
from recorder.pack import Form, Packer
from recorder.seal import load_public, public_key_file
from recorder.verify import verify
from tests.recorder import attacks
from tests.recorder.attacked import AGE, DAY, build
from tests.recorder.attacks import TABLES, UNSEEN
from tests.recorder.support import START, Ticker, start

ALL = [attack for table in TABLES for attack in table.attacks]
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "verify.md"


def test_the_folder_itself_is_whole(tmp_path: Path) -> None:
    build(tmp_path / "origin")
    report = verify(tmp_path / "origin", identities=[AGE], public_key=tmp_path / "kept.pem")
    assert report.ok, report.to_dict()
    states = {one.id: one.state for one in report.recordings}
    assert states == {
        "gone": "expired",
        "packed": "sealed",
        "locked": "sealed",
        "installation": "open",
        "one": "sealed",
        "two": "sealed",
        "died": "interrupted",
        "node": "open",
    }


def test_there_are_enough() -> None:
    names = [attack.what for table in TABLES for attack in table.attacks]
    assert len(names) >= 60
    assert len({*names, *(attack.what for attack in UNSEEN)}) == len(names) + len(UNSEEN)


def test_every_attack_is_found_as_the_page_says(tmp_path: Path) -> None:
    found = attacks.play_all(tmp_path)
    for attack in (attack for table in TABLES for attack in table.attacks):
        report = found[attack.what]
        assert not report.ok, attack.what
        kinds = {(one.id, finding.kind) for one in report.recordings for finding in one.findings}
        assert attack.finds in kinds, (attack.what, kinds)
        damaged = {one.id for one in report.recordings if one.state == "damaged"}
        assert {id_ for id_, _ in kinds} == damaged, attack.what
    for attack in UNSEEN:  # not a wish: when one of these is found one day, the page has to change
        assert found[attack.what].ok, attack.what
    assert PAGE.read_text() == attacks.page(found), "python -m tests.recorder.attacks > docs/reference/verify.md"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings of two lines: plain, compressed, encrypted; and a checkpoint."""
    directory = tmp_path_factory.mktemp("small") / "r"
    forms = [Form(compress=False), Form(), Form(recipients=(str(AGE.to_public()),))]
    for number, form in reversed([*enumerate(forms)]):
        recorder = Recorder(directory, now=Ticker())
        recording = recorder.open(f"s-{number}", start(f"s-{number}"))
        recording.close(SessionEnd(reason="client", detail=None, statements=0))
        recorder.close()
        Packer(directory, form, Ticker(START + DAY)).round()
    treelog.TreeLog(directory).round(START)
    assert verify(directory, identities=[AGE]).ok
    return directory


FILES = [
    "2026/11/s-0.jsonl",
    "2026/11/s-1.jsonl.zst",
    "2026/11/s-2.jsonl.zst.age",
    "node.jsonl",
    "node.head",
    "checkpoint",
    "checkpoints/2026-11-23",
]


def flips(path: Path, *, step: int = 1, bit: int = 0) -> Iterator[tuple[int, int]]:
    """One bit after another, of every byte or every `step`-th; the file is as it was afterwards."""
    data = path.read_bytes()
    try:
        for at in range(0, len(data), step):
            mask = 1 << ((at + bit) % 8)
            path.write_bytes(bytes((*data[:at], data[at] ^ mask, *data[at + 1 :])))
            yield at, mask
    finally:
        path.write_bytes(data)


@pytest.mark.parametrize("key", [True, False], ids=["with the key", "without the key"])
@pytest.mark.parametrize("file", FILES[:3])
def test_every_byte_of_a_recording(small: Path, file: str, key: bool) -> None:
    view = nodeview.read(small, load_public(public_key_file(small)))
    examiner = Examiner(small, view, live=(), copies={}, keys=[AGE] if key else [])
    id_ = stored.session_id(file)
    assert examiner.named(id_, view.recordings[id_]).state == "sealed"
    for at, mask in flips(small / file):
        assert examiner.named(id_, view.recordings[id_]).state == "damaged", (at, mask)


@pytest.mark.parametrize("file", FILES[3:])
@pytest.mark.thorough
def test_the_bytes_of_the_log_its_end_and_its_checkpoints(small: Path, file: str) -> None:
    """Every eleventh; `test_every_bit` takes all of them."""
    assert verify(small).ok
    for at, mask in flips(small / file, step=11):
        assert not verify(small).ok, (at, mask)


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_every_bit(small: Path, file: str) -> None:
    for bit in range(8):
        for at, mask in flips(small / file, bit=bit):
            assert not verify(small, identities=[AGE]).ok, (at, mask)


def test_a_log_cut_anywhere(small: Path, tmp_path: Path) -> None:
    copy = tmp_path / "r"
    shutil.copytree(small, copy)
    data = (copy / "node.jsonl").read_bytes()
    for size in range(0, len(data) - 1, 97):
        (copy / "node.jsonl").write_bytes(data[:size])
        assert not verify(copy).ok, size
