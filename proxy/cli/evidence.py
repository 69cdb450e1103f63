"""`daypass evidence`: one archive for one grant that an auditor verifies offline.

Puts together what the state knows, what was recorded, and the proofs; `recorder.evidence` has the form. Invariants:
what belongs in the bundle and is not there is named in it; a bundle is whole under its name or does not exist.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from proxy.access import dossier
from proxy.access.dossier import Dossier
from proxy.cli.identity import IdentityOption, identities
from proxy.cli.options import ByOption, ConfigOption, OutputOption, load_config, who
from proxy.cli.output import NO, UNREACHABLE, USAGE, emit, fail, fields, rfc3339, styled
from proxy.cli.recording import PublicKeyOption
from proxy.cli.state import with_access
from proxy.clock import SystemClock
from recorder import evidence, files, index, prove, report, seal, stored, summary
from recorder.evidence import EvidenceError, Manifest
from recorder.evidence_page import page_of
from recorder.files import RecordError
from recorder.index import Session
from recorder.prove import ProofError
from recorder.scene import visible
from recorder.seal import KeyFileError, Signer
from recorder.treelog import TreeLog

app = typer.Typer(no_args_is_help=True, help="One archive for one grant, which proves itself.")


@app.command("export")
def export_command(
    config: ConfigOption,
    output: OutputOption,
    grant: Annotated[str, typer.Argument(metavar="GRANT", help="The grant's id, for example g-7k3m9x2q.")],
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="Where to (else evidence-GRANT.zip here).")
    ] = None,
    by: ByOption = None,
) -> None:
    """Make the evidence bundle of a grant: request, agreements, approvals, prechecks, policy, recordings, proofs,
    proof of removal, review, all signed.

    Example: daypass evidence export g-7k3m9x2q --to audit/g-7k3m9x2q.zip
    """
    cfg = load_config(config)
    folder = cfg.recording.dir.absolute()
    file = to or Path(f"evidence-{grant}.zip")
    if file.exists():
        fail(USAGE, f"{file} exists", "name another file with --to, or move it away")
    found = with_access(cfg, lambda access: dossier.collect(access.store, grant))
    new = file.with_name(f".{file.name}.new")
    now = SystemClock().now()
    try:
        TreeLog(folder).round(now)
        new.unlink(missing_ok=True)
        manifest = _write(new, folder, found, grant, now, who(by))
        new.rename(file)
    except RecordError as error:
        fail(UNREACHABLE, str(error), "daypass doctor checks recording.dir")
    except OSError as error:
        fail(UNREACHABLE, f"{error.filename or file}: {error.strerror}")
    finally:
        new.unlink(missing_ok=True)

    def table(console: Console) -> None:
        console.print(f"{file}: {len(manifest.files)} files, {len(manifest.recordings)} recordings.")
        for what, why in manifest.left_out.items():
            console.print(f"Not in it: {what}: {why}.")
        console.print(f"Signed with key {manifest.key}. Check it: daypass evidence verify {file}", soft_wrap=True)

    data = {"file": str(file), "grant": grant, "key": manifest.key, "files": len(manifest.files)}
    data |= {"recordings": [one.session for one in manifest.recordings], "left_out": manifest.left_out}
    emit(data, output, table)


@app.command("verify")
def verify_command(
    output: OutputOption,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The bundle.")],
    public_key: PublicKeyOption = None,
    identity: IdentityOption = None,
) -> None:
    """Check everything in a bundle, offline. Exits 1 where something does not hold.

    Example: daypass evidence verify evidence-g-7k3m9x2q.zip --public-key public.pem
    """
    try:
        found = evidence.check(file, public_key=public_key, keys=identities(identity))
    except (EvidenceError, KeyFileError) as error:
        fail(USAGE, str(error))
    except OSError as error:
        fail(USAGE, f"cannot read {error.filename or file}: {error.strerror}")

    def table(console: Console) -> None:
        if found.manifest is not None:
            fields([("grant", found.manifest.grant), ("person", found.manifest.person)])(console)
        source = "given" if found.key_given else "found in the bundle: compare its fingerprint with the owner's"
        fields([("key", f"{found.key} ({source})")])(console)
        for what, holds, more in found.steps:
            mark = styled("✓", "green") if holds else styled("✗", "bold red")
            # Names of files and much else are what the maker of the archive wrote.
            console.print(mark, Text(visible(what + (f" ({more})" if more else ""))), soft_wrap=True)
        console.print(styled("It holds.", "bold green") if found.ok else styled("It does not hold.", "bold red"))

    emit(found.to_dict(), output, table)
    raise typer.Exit(0 if found.ok else NO)


def _write(file: Path, folder: Path, found: Dossier, grant: str, now: datetime, by: str) -> Manifest:
    left_out: dict[str, str] = {}
    everything = index.sessions(folder)
    sessions = [one for one in everything if one.grant == grant]
    for one in everything:
        if one.grant is None and one.state in ("damaged", "expired"):
            left_out[one.session] = "its recording is gone or cannot be read: nobody can say which grant it was of"
    recordings = [item for one in sessions if (item := _recording(folder, one, left_out)) is not None]
    texts = {f"access/{name}.json": _json(part) for name, part in found.parts.items()}
    texts["access/steps.jsonl"] = _steps(folder, grant, found.grant.get("request"))
    texts["policy.yaml"] = found.policy
    agreements = {}
    for (name, sha256), data in found.agreements.items():
        place = f"agreements/{name}-{sha256[:12]}.md"
        texts[place], agreements[place] = data, sha256
    for name, data in found.papers.items():
        texts[f"papers/{name}"] = data
    total = summary.summarise(folder, grant=grant)
    texts["report.md"] = report.markdown(total, made=now).encode()
    texts["report.html"] = report.html(total, made=now).encode()
    return evidence.write(
        file,
        signer=Signer.load(folder, create=False),
        public=seal.public_key_file(folder).read_bytes(),
        grant=grant,
        person=found.grant["person"],
        policy=found.grant["policy_revision"],
        made_at=rfc3339(now) or "",
        made_by=by,
        texts=texts,
        recordings=recordings,
        agreements=agreements,
        left_out=left_out,
        page=lambda manifest: page_of(manifest, found.parts),
    )


def _recording(folder: Path, session: Session, left_out: dict[str, str]) -> tuple[str, Path, bytes, bytes] | None:
    if session.state == "open":
        left_out[session.session] = "the session is still open"
        return None
    path = stored.locate(session.path)
    if not path.exists():
        left_out[session.session] = "its recording was deleted, or is gone: `daypass recording verify` says which"
        return None
    try:
        proof = prove.seal(folder, session.session)
    except ProofError as problem:
        left_out[session.session] = str(problem)
        return None
    return session.session, path, proof.line, proof.file


def _steps(folder: Path, grant: str, request: Any) -> bytes:
    """The lines of the installation's recording that are about this grant, as they stand there."""
    path = folder / files.INSTALLATION
    wanted = [f'"{name}"'.encode() for name in (grant, request) if name]
    if not path.exists():
        return b""
    with path.open("rb") as lines:
        return b"".join(line for line in lines if any(name in line for name in wanted))


def _json(part: Any) -> bytes:
    return json.dumps(part, indent=1, ensure_ascii=False, default=str).encode() + b"\n"
