"""The small page of an evidence bundle: what is in it, for whoever opens the archive before they verify it.

Proves nothing and says so. Must not know the state: it shows what it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recorder import page
from recorder.evidence import FORMAT, KEY, Manifest
from recorder.page import text


def page_of(manifest: Manifest, parts: Mapping[str, Any]) -> bytes:
    """index.html for a bundle whose access documents are `parts`."""
    grant, request = parts.get("grant") or {}, parts.get("request") or {}
    body = [page.head(f"Evidence: grant {manifest.grant}"), f"<h1>Evidence: grant {text(manifest.grant)}</h1>\n"]
    body.append(
        page.facts(
            [
                ("person", f"{manifest.person} ({grant.get('vendor', '')})"),
                ("database", grant.get("database")),
                ("policy", f"{grant.get('policy', '')}, revision {manifest.policy[:12]}"),
                ("purpose", grant.get("reason")),
                ("ticket", request.get("ticket")),
                ("time", f"{grant.get('starts_at', '')} to {grant.get('ended_at') or grant.get('expires_at', '')}"),
                ("ended", grant.get("ended_why")),
                ("made", f"{manifest.made_at} by {manifest.made_by}"),
            ]
        )
    )
    body.append(
        f"<p>This page proves nothing. <code>daypass evidence verify FILE --public-key {text(KEY)}</code> checks "
        "everything in this archive, offline, with the public key that its owner gave you by another way.</p>\n"
    )
    said = [
        ("asked for", _line(request, "created_at", "created_by", "purpose")),
        *[("approved", _line(one, "at", "by", "reason")) for one in parts.get("approvals") or []],
        *[("accepted", _line(one, "at", "signed_as", "agreement")) for one in parts.get("acceptances") or []],
        *[("checked", _line(one, "at", "name", "why")) for one in parts.get("prechecks") or []],
        *[("held", _line(one, "asked_at", "decided_by", "state")) for one in parts.get("holds") or []],
        *[("removed", _line(one, "at", "proof", "why")) for one in parts.get("removal") or []],
        ("reviewed", _line(parts.get("review") or {}, "at", "by", "note")),
    ]
    rows = "".join(f"<tr><td>{what}</td><td>{text(line)}</td></tr>\n" for what, line in said if line)
    body.append(f"<h2>What happened</h2>\n<table>\n{rows}</table>\n")
    names = "".join(
        f'<tr><td><a href="{text(name)}">{text(name)}</a></td><td>{size:,}</td>'
        f"<td><code>{digest[:16]}</code></td></tr>\n"
        for name, (size, digest) in sorted(manifest.files.items())
    )
    body.append(f"<h2>Files</h2>\n<table>\n<tr><th>file</th><th>bytes</th><th>SHA-256</th></tr>\n{names}</table>\n")
    if manifest.left_out:
        rows = "".join(f"<tr><td>{text(k)}</td><td>{text(why)}</td></tr>\n" for k, why in manifest.left_out.items())
        body.append(f"<h2>Not in here</h2>\n<table>\n{rows}</table>\n")
    body.append(f"<p>{text(FORMAT)}, signed with key {text(manifest.key)}</p>\n")
    body.append(page.end())
    return "".join(body).encode()


def _line(of: Mapping[str, Any], *names: str) -> str:
    return ", ".join(str(of[name]) for name in names if of.get(name)) if of else ""
