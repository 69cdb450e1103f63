"""The evidence bundle: one ZIP archive for one grant, which proves itself with nothing but the file and a public key.

    manifest.json  manifest.sig   every other file with size and SHA-256, signed by the installation's key
    access/…  policy.yaml         what the state knew: request, agreements, approvals, prechecks, removal, review
    recordings/<id>.jsonl[…]      a session as it is stored, with <id>.entry (its line in the node log) and
                                  <id>.proof (that this line stands in the log of a signed checkpoint)

Must not know the state. Invariant: `check` believes nothing that is not signed by the key or follows from what is.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from recorder import chain, prove, seal, stored
from recorder.entries import Seal, Stored, decode_entry
from recorder.seal import Signer
from recorder.stored import BrokenError, Identity, SealedError
from recorder.walk import walk

FORMAT: Final = "daypass evidence v1"
MANIFEST, SIGNATURE, KEY = "manifest.json", "manifest.sig", "public.pem"
_BLOCK: Final = 1 << 20
_SMALL: Final = 64 << 20
"""More than any file but a recording has."""


class EvidenceError(Exception):
    """This is no evidence bundle that can be looked at."""


class Recorded(msgspec.Struct, frozen=True):
    """One recording of a bundle: its session and its file."""

    session: str
    file: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a bundle. `files` maps a name to its size and SHA-256; `policy` is the revision that was granted;
    `left_out` says what belongs here and could not be had, with the reason."""

    format: str
    grant: str
    person: str
    made_at: str
    made_by: str
    key: str
    policy: str
    recordings: list[Recorded]
    agreements: dict[str, str]
    left_out: dict[str, str]
    files: dict[str, tuple[int, str]]


@dataclass(slots=True)
class Checked:
    """What `check` found. `steps` are (what was looked at, whether it holds, more about it)."""

    manifest: Manifest | None = None
    key: str = ""
    key_given: bool = False
    steps: list[tuple[str, bool, str]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.manifest is not None and all(holds for _, holds, _ in self.steps)

    def say(self, what: str, holds: bool, more: str = "") -> bool:
        self.steps.append((what, holds, more))
        return holds

    def to_dict(self) -> dict[str, Any]:
        """As `evidence verify -o json` prints it."""
        found = self.manifest
        return {
            "ok": self.ok,
            "grant": found.grant if found else None,
            "person": found.person if found else None,
            "made_at": found.made_at if found else None,
            "key": {"fingerprint": self.key, "source": "given" if self.key_given else "found"},
            "checks": [{"check": what, "ok": holds, "detail": more} for what, holds, more in self.steps],
            "left_out": found.left_out if found else {},
        }


def write(
    file: Path,
    *,
    signer: Signer,
    public: bytes,
    grant: str,
    person: str,
    policy: str,
    made_at: str,
    made_by: str,
    texts: dict[str, bytes],
    recordings: Iterable[tuple[str, Path, bytes, bytes]],
    agreements: dict[str, str],
    left_out: dict[str, str],
    page: Callable[[Manifest], bytes],
) -> Manifest:
    """Make the bundle. `recordings` are (session, stored file, line of the node log, proof); `agreements` maps the
    names of text files to the hashes that were accepted; `page` makes index.html. OSError."""
    listed: dict[str, tuple[int, str]] = {}
    shown: list[Recorded] = []
    with zipfile.ZipFile(file, "x", zipfile.ZIP_DEFLATED) as archive:

        def put(name: str, data: bytes) -> None:
            archive.writestr(name, data)
            listed[name] = (len(data), hashlib.sha256(data).hexdigest())

        for name, data in texts.items():
            put(name, data)
        for session, path, line, proof in recordings:
            name = f"recordings/{session}{stored.suffix(path)}"
            listed[name] = _add(archive, name, path)
            put(f"recordings/{session}.entry", line)
            put(f"recordings/{session}.proof", proof)
            shown.append(Recorded(session, name))
        manifest = Manifest(
            format=FORMAT, grant=grant, person=person, made_at=made_at, made_by=made_by, key=signer.fingerprint,
            policy=policy, recordings=shown, agreements=agreements, left_out=left_out, files=listed,
        )  # fmt: skip
        put("index.html", page(manifest))
        data = json.dumps(msgspec.to_builtins(manifest), indent=1, ensure_ascii=False).encode()
        archive.writestr(MANIFEST, data)
        archive.writestr(SIGNATURE, signer.sign_text(_signed(data)))
        archive.writestr(KEY, public)
    return manifest


def _add(archive: zipfile.ZipFile, name: str, path: Path) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as source, archive.open(name, "w", force_zip64=True) as out:
        while block := source.read(_BLOCK):
            digest.update(block)
            size += len(block)
            out.write(block)
    return size, digest.hexdigest()


def _signed(manifest: bytes) -> bytes:
    return FORMAT.encode() + b"\n" + manifest


def check(file: Path, *, public_key: Path | None = None, keys: Sequence[Identity] = ()) -> Checked:
    """Everything that the bundle claims, checked. EvidenceError where it is none; KeyFileError for `public_key`."""
    found = Checked(key_given=public_key is not None)
    try:
        with zipfile.ZipFile(file) as archive:
            _check(archive, found, public_key, keys)
    except zipfile.BadZipFile as cause:
        raise EvidenceError(f"{file} is no evidence bundle: {cause}") from None
    except (KeyError, NotImplementedError, RuntimeError, EOFError) as cause:
        found.say("the archive can be read", False, str(cause).strip("'\""))
    return found


def _check(archive: zipfile.ZipFile, found: Checked, public_key: Path | None, keys: Sequence[Identity]) -> None:
    names = archive.namelist()
    if MANIFEST not in names or SIGNATURE not in names:
        raise EvidenceError(f"this archive has no {MANIFEST} with {SIGNATURE}: it is no evidence bundle")
    key = _key(archive, public_key)
    found.key = seal.fingerprint(key)
    data = _read(archive, MANIFEST)
    signature = _read(archive, SIGNATURE).decode("ascii", "replace")
    if not found.say("the manifest is signed by the key", seal.check_text(_signed(data), signature, key)):
        return
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError as cause:
        found.say("the manifest can be read", False, str(cause))
        return
    if not found.say("the manifest is of a form that this version knows", manifest.format == FORMAT, manifest.format):
        return
    found.manifest = manifest
    twice = sorted({name for name in names if names.count(name) > 1})
    extra = sorted(set(names) - set(manifest.files) - {MANIFEST, SIGNATURE, KEY})
    found.say("nothing was added", not extra and not twice, ", ".join([*extra, *twice][:5]))
    wrong = [why for name, wanted in manifest.files.items() if (why := _differs(archive, name, wanted))]
    found.say(f"all {len(manifest.files)} files are there, and are as they were", not wrong, "; ".join(wrong[:5]))
    if wrong:
        return
    _policy(archive, found, manifest)
    for name, accepted in manifest.agreements.items():
        there = manifest.files.get(name, (0, ""))[1] == accepted
        found.say(f"the accepted text is {name}", there, accepted[:16])
    for recorded in manifest.recordings:
        _recording(archive, found, manifest, recorded, key, keys)


def _key(archive: zipfile.ZipFile, given: Path | None) -> Ed25519PublicKey:
    if given is not None:
        return seal.load_public(given)
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder) / KEY
        here.write_bytes(_read(archive, KEY))
        return seal.load_public(here)


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > _SMALL:
        raise EvidenceError(f"{name} is larger than it can be")
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, OSError, ValueError) as cause:
        raise EOFError(f"{name}: {cause}") from None
    except Exception as cause:  # zlib.error is no subclass of anything that zipfile names
        raise EOFError(f"{name}: {cause}") from None


def _differs(archive: zipfile.ZipFile, name: str, wanted: tuple[int, str]) -> str:
    digest, size = hashlib.sha256(), 0
    try:
        with archive.open(name) as source:
            while block := source.read(_BLOCK):
                digest.update(block)
                size += len(block)
                if size > wanted[0]:
                    break
    except KeyError:
        return f"{name} is missing"
    except Exception as cause:
        return f"{name} cannot be read: {cause}"
    return "" if (size, digest.hexdigest()) == tuple(wanted) else f"{name} was changed"


def _policy(archive: zipfile.ZipFile, found: Checked, manifest: Manifest) -> None:
    there = "policy.yaml" in manifest.files
    same = there and hashlib.sha256(_read(archive, "policy.yaml")).hexdigest() == manifest.policy
    found.say("the policy is the revision that was granted", same, manifest.policy[:16])


def _recording(
    archive: zipfile.ZipFile,
    found: Checked,
    manifest: Manifest,
    recorded: Recorded,
    key: Ed25519PublicKey,
    keys: Sequence[Identity],
) -> None:
    session = recorded.session
    line, proof = (_read(archive, f"recordings/{session}.{kind}") for kind in ("entry", "proof"))
    holds = prove.holds(line, proof, key)
    if not found.say(f"{session}: its seal stands in the node log of a signed checkpoint", holds):
        return
    header = chain.decode(line)
    entry = decode_entry(line, header.event) if header is not None else None
    size, digest = manifest.files[recorded.file]
    if not isinstance(entry, Seal | Stored) or entry.id != session:
        found.say(f"{session}: the seal is its own", False)
        return
    same = (entry.bytes, entry.sha256) == (size, digest)
    if not found.say(f"{session}: the recording is what was sealed", same, digest[:16]):
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(recorded.file).name
        with archive.open(recorded.file) as source, path.open("wb") as out:
            while block := source.read(_BLOCK):
                out.write(block)
        try:
            seen = walk(path, recorded.file, keys=keys)
        except SealedError:
            found.say(f"{session}: intact (contents not read)", True, "encrypted; --identity opens it")
            return
        except BrokenError as cause:
            found.say(f"{session}: it can be read", False, str(cause))
            return
    wrong = "; ".join(f"line {one.line}: {one.detail}" for one in seen.findings[:3])
    found.say(f"{session}: its {seen.lines} lines follow one another", not wrong and seen.last == entry.last, wrong)
    start = msgspec.json.decode(seen.first) if seen.first else {}
    told = start.get("grant") == manifest.grant and start.get("person") == manifest.person
    found.say(f"{session}: it is a session of this grant", told, str(start.get("policy_revision", ""))[:16])
