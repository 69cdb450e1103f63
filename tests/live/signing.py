"""What tests of signing share: a House whose policies ask for agreements, and how to look at what was signed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from proxy.demo.postgres import PostgresServer
from tests.live.house import POLICY, House, until
from tests.live.raw import Raw

NDA = "---\nversion: 3\n---\n# Confidentiality\n\nYou tell nobody.\n"
SIGN = "set daypass.accept = 'Ana Vendor'"


def policy(name: str, *agreements: str) -> str:
    return POLICY.replace("name: reader", f"name: {name}") + f"agreements: [{', '.join(agreements)}]\n"


def signing_house(folder: Path, server: PostgresServer) -> House:
    """Not started. Its policies ask for agreements; each test is to have people of its own."""
    house = House(folder, server, policy=policy("reader", "nda"))
    (house.folder / "agreements").mkdir()
    publish(house, "nda", NDA)
    publish(house, "terms", "Behave.\n")
    for name in ("changing", "renewed", "long", "missing"):
        publish(house, name, NDA)
        house.write_policy(name, policy(name, name))
    (house.folder / "agreements" / "missing.md").unlink()
    house.write_policy("missing", policy("missing", "nda", "missing"))
    house.write_policy("both", policy("both", "nda", "terms"))
    limits = "limits: {statement_timeout: 20s, transaction: 5m"
    house.write_policy("narrow", policy("narrow", "nda").replace(limits, limits + ", sessions: 1, idle: 1s"))
    return house


def publish(house: House, name: str, text: str) -> None:
    path = house.folder / "agreements" / f"{name}.md"
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)


def connect(house: House, login: tuple[str, str], **more: Any) -> psycopg.Connection[Any]:
    return psycopg.connect(house.dsn(login), **{"autocommit": True} | more)


def keep_asking(conn: psycopg.Connection[Any], text: LiteralString, seconds: float = 5) -> None:
    for _ in until(seconds, 0.05):
        conn.execute(text)


def flood(raw: Raw, data: bytes) -> None:
    for _ in range(2000):
        raw.send(data)


def shown(conn: psycopg.Connection[Any], name: str = "daypass.agreement") -> str:
    (text,) = conn.execute(f"show {name}".encode()).fetchone() or ("",)
    assert isinstance(text, str)
    return text


def psql(house: House, login: tuple[str, str], script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [house.pg.bindir / "psql", house.dsn(login), "-X", "-f", "-"],
        input=script, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def accepted(house: House, person: str) -> list[dict[str, Any]]:
    """What was recorded of this person's signatures."""
    found = [line for line in house.installation() if line.get("action") == "agreement.accepted"]
    return [line for line in found if line["detail"]["person"] == person]


def recorded(house: House, grant: str) -> list[list[dict[str, Any]]]:
    """The recordings of a grant's sessions, those for signing first."""
    found = [[json.loads(line) for line in path.read_text().splitlines()] for path in house.recordings()]
    return sorted((lines for lines in found if lines[0]["grant"] == grant), key=lambda lines: "signing" not in lines[0])
