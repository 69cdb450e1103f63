"""Signing inside psql and drivers: no acceptance, no statement.

Covers proxy/session/signing.py and proxy/session/notary.py with real clients.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.live.house import POLICY, House

NDA = "---\nversion: 3\n---\n# Confidentiality\n\nYou tell nobody.\n"
SIGN = "set daypass.accept = 'Ana Vendor'"


@pytest.fixture
def house(make_house: Callable[..., House]) -> House:
    """Running; its policy asks for the agreement `nda`."""
    house = make_house(policy=POLICY + "agreements: [nda]\n")
    (house.folder / "agreements").mkdir()
    publish(house, "nda", NDA)
    return house.start()


def publish(house: House, name: str, text: str) -> None:
    path = house.folder / "agreements" / f"{name}.md"
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)


def connect(house: House, login: tuple[str, str], **more: Any) -> psycopg.Connection[Any]:
    return psycopg.connect(house.dsn(login), **{"autocommit": True} | more)


def psql(house: House, login: tuple[str, str], script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [house.pg.bindir / "psql", house.dsn(login), "-X", "-f", "-"],
        input=script, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def steps(house: House, action: str) -> list[dict[str, Any]]:
    return [line for line in house.installation() if line["event"] == "access" and line["action"] == action]


def test_psql(house: House) -> None:
    login = house.grant()
    done = psql(house, login, f"select 1;\nshow daypass.agreement;\n{SIGN};\n\\c\nselect 1 as real;\n")
    print(done.stdout, done.stderr)
    assert 0
