"""The evidence bundle against whoever would change it: every byte, every file, every claim.

Covers recorder/evidence_page.py and recorder/__main__.py as far as evidence goes.
"""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from recorder import evidence, files, prove, seal, stored
from recorder.evidence import EvidenceError, Manifest
from recorder.evidence_page import page_of
from recorder.journal import Recorder
from recorder.seal import Signer
from recorder.treelog import TreeLog
from tests.recorder.support import Ticker, end, outcome, start, statement

POLICY = b"name: reader\n"
TEXT = b"# NDA\n"
PARTS = {"grant": {"vendor": "Acme <b>", "reason": "audit"}, "approvals": [{"by": "ann", "at": "2026", "reason": "ok"}]}


class Made:
    """A recordings folder with two sessions of one grant, and their bundle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "recordings"
        ticker = Ticker()
        recorder = Recorder(self.folder, now=ticker)
        for name in ("s-1", "s-2"):
            recording = recorder.open(name, start(name))
            recording.append(statement())
            recording.append(outcome())
            recording.close(end())
        recorder.close()
        TreeLog(self.folder).round(ticker())
        self.file = folder / "evidence.zip"
        self.key = seal.public_key_file(self.folder)
        self.manifest = self.write(self.file)

    def write(self, file: Path, **changes: object) -> Manifest:
        proofs = {name: prove.seal(self.folder, name) for name in ("s-1", "s-2")}
        paths = {stored.session_id(one): self.folder / one for one in stored.session_files(self.folder)}
        facts: dict[str, object] = {
            "signer": Signer.load(self.folder, create=False),
            "public": self.key.read_bytes(),
            "grant": "g-7k3m9x2q",
            "person": "jane",
            "policy": hashlib.sha256(POLICY).hexdigest(),
            "made_at": "2026-11-26T00:00:00.000000Z",
            "made_by": "ann",
            "texts": {"policy.yaml": POLICY, "agreements/nda.md": TEXT},
            "recordings": [(name, paths[name], proof.line, proof.file) for name, proof in proofs.items()],
            "agreements": {"agreements/nda.md": hashlib.sha256(TEXT).hexdigest()},
            "left_out": {},
            "page": lambda manifest: page_of(manifest, PARTS),
        }
        return evidence.write(file, **(facts | changes))  # type: ignore[arg-type]

    def rewritten(self, change: Callable[[dict[str, bytes]], object]) -> Path:
        """The bundle with its files changed by somebody who has no key."""
        with zipfile.ZipFile(self.file) as archive:
            held = {name: archive.read(name) for name in archive.namelist()}
        change(held)
        changed = self.file.with_name("changed.zip")
        with zipfile.ZipFile(changed, "w") as archive:
            for name, data in held.items():
                archive.writestr(name, data)
        return changed


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("evidence"))


def failed(file: Path, key: Path | None) -> list[str]:
    found = evidence.check(file, public_key=key)
    assert found.ok == (not [what for what, holds, _ in found.steps if not holds])
    return [f"{what}: {more}" for what, holds, more in found.steps if not holds]


def test_an_honest_bundle_holds(made: Made) -> None:
    found = evidence.check(made.file, public_key=made.key)
    assert found.ok, found.steps
    said = [what for what, _, _ in found.steps]
    assert "the policy is the revision that was granted" in said
    assert len([what for what in said if what.startswith("s-")]) == 2 * 4
    assert evidence.check(made.file).ok
    assert found.to_dict()["key"]["source"] == "given"


def test_another_key_does_not_do(made: Made, tmp_path: Path) -> None:
    other = Made(tmp_path)
    assert failed(made.file, other.key) == ["the manifest is signed by the key: "]


def damage(data: bytes) -> bytes:
    return data[:-2] + bytes([data[-2] ^ 1]) + data[-1:]


ATTACKS: dict[str, Callable[[dict[str, bytes]], object]] = {
    "a policy is changed": lambda held: held.update({"policy.yaml": b"name: other\n"}),
    "an agreement is changed": lambda held: held.update({"agreements/nda.md": TEXT + b" "}),
    "a recording is changed": lambda held: held.update({"recordings/s-1.jsonl": damage(held["recordings/s-1.jsonl"])}),
    "a recording is removed": lambda held: held.pop("recordings/s-1.jsonl"),
    "a recording and its manifest entry are removed": lambda held: (
        held.pop("recordings/s-1.jsonl"), held.update({"manifest.json": held["manifest.json"].replace(b"s-1", b"s-9")})
    ),
    "two recordings are swapped": lambda held: held.update(
        {"recordings/s-1.jsonl": held["recordings/s-2.jsonl"], "recordings/s-2.jsonl": held["recordings/s-1.jsonl"]}
    ),
    "a proof is swapped": lambda held: held.update({"recordings/s-1.proof": held["recordings/s-2.proof"]}),
    "a seal is changed": lambda held: held.update({"recordings/s-1.entry": damage(held["recordings/s-1.entry"])}),
    "a file is added": lambda held: held.update({"recordings/s-3.jsonl": b"{}\n"}),
    "the page is changed": lambda held: held.update({"index.html": b"<h1>all fine</h1>"}),
    "the person is another": lambda held: held.update(
        {"manifest.json": held["manifest.json"].replace(b"jane", b"jack")}
    ),
    "the signature is changed": lambda held: held.update({"manifest.sig": damage(held["manifest.sig"])}),
    "what is left out is changed": lambda held: held.update(
        {"manifest.json": held["manifest.json"].replace(b'"left_out": {}', b'"left_out": {"s-9": "open"}')}
    ),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_by_somebody_without_the_key(made: Made, attack: str) -> None:
    assert failed(made.rewritten(ATTACKS[attack]), made.key)


def test_attacks_by_somebody_with_the_key(made: Made, tmp_path: Path) -> None:
    """Who can sign a manifest still cannot make a recording fit the seal, nor a policy its revision."""
    one = made.folder / "2026" / "01" / "s-1.jsonl"
    path = one if one.exists() else made.folder / next(iter(stored.session_files(made.folder)))
    forged = tmp_path / "s-1.jsonl"
    forged.write_bytes(path.read_bytes().replace(b"select", b"delete", 1))
    first, second = (prove.seal(made.folder, name) for name in ("s-1", "s-2"))
    cases: dict[str, dict[str, object]] = {
        "what was sealed": {"recordings": [("s-1", forged, first.line, first.file)]},
        "the seal is its own": {"recordings": [("s-1", path, second.line, second.file)]},
        "stands in the node log": {"recordings": [("s-1", path, damage(first.line), first.file)]},
        "revision that was granted": {"policy": "00" * 32},
        "the accepted text": {"agreements": {"agreements/nda.md": "00" * 32}},
        "a session of this grant": {"grant": "g-other"},
    }
    for index, (what, changes) in enumerate(cases.items()):
        file = tmp_path / f"{index}.zip"
        made.write(file, **changes)
        found = failed(file, made.key)
        assert any(what in said for said in found), (what, found)


def test_every_flipped_byte_of_the_archive_is_found_or_harmless(made: Made, tmp_path: Path) -> None:
    """A flip in a field that ZIP itself does not read (a time, an attribute) changes nothing that is shown."""
    data = made.file.read_bytes()
    with zipfile.ZipFile(made.file) as archive:
        honest = {name: archive.read(name) for name in archive.namelist()}
    places = random.Random(7).sample(range(len(data)), 300)
    changed = tmp_path / "flipped.zip"
    for place in places:
        changed.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        try:
            found = evidence.check(changed, public_key=made.key)
        except EvidenceError:
            continue
        if found.ok:
            with zipfile.ZipFile(changed) as archive:
                assert {name: archive.read(name) for name in archive.namelist() if name != "public.pem"} == {
                    name: text for name, text in honest.items() if name != "public.pem"
                }, place


def test_what_is_no_bundle(tmp_path: Path, made: Made) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"no archive")
    empty = tmp_path / "empty.zip"
    with zipfile.ZipFile(empty, "w"):
        pass
    for file in (text, empty):
        with pytest.raises(EvidenceError):
            evidence.check(file)


def test_the_page_runs_and_fetches_nothing(made: Made) -> None:
    with zipfile.ZipFile(made.file) as archive:
        page = archive.read("index.html").decode()
    assert "Acme &lt;b&gt;" in page
    assert "<script" not in page
    assert "default-src 'none'" in page.replace("&#x27;", "'")


def test_the_recorder_alone_checks_it(made: Made) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "recorder", "evidence", str(made.file), "--public-key", str(made.key)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "It holds. Key" in done.stdout
    changed = made.rewritten(lambda held: held.update({"policy.yaml": b"x"}))
    done = subprocess.run(
        [sys.executable, "-m", "recorder", "evidence", str(changed)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "BAD  all" in done.stdout


def test_the_manifest_names_what_is_left_out(made: Made, tmp_path: Path) -> None:
    file = tmp_path / "left.zip"
    made.write(file, left_out={"s-9": "the session is still open"})
    found = evidence.check(file, public_key=made.key)
    assert found.ok
    assert json.loads(json.dumps(found.to_dict()))["left_out"] == {"s-9": "the session is still open"}
    assert files.NODE  # the folder itself is not needed
