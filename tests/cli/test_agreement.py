"""`daypass agreement`, and what the other commands say of agreements: proxy/cli/unsigned.py."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_grant import answer, create, run

JO = "jo@vendor.example"


@pytest.fixture
def house(house: Path) -> Path:
    """Its policy asks for `nda`, whose text is there."""
    with (house / "policies" / "vendor-readonly.yaml").open("a") as file:
        file.write("agreements: [nda]\n")
    (house / "agreements").mkdir()
    (house / "agreements" / "nda.md").write_text("---\nversion: 3\n---\n# NDA\n\nYou tell nobody.\n")
    return house


def accept(house: Path, *more: str, name: str = "Jo Doe") -> dict[str, Any]:
    made: dict[str, Any] = answer(run(house, "agreement", "accept", "nda", "--person", JO, "--name", name, *more))
    return made


def listed(house: Path) -> dict[str, dict[str, Any]]:
    return {entry["agreement"]: entry for entry in answer(run(house, "agreement", "list"))}


def steps(house: Path, action: str) -> list[dict[str, Any]]:
    lines = (house / "recordings" / "installation.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line.get("action") == action]


def test_a_grant_is_given_to_who_has_accepted(house: Path) -> None:
    refused = create(house)
    assert refused.exit_code == 1
    assert refused.stdout == ""
    assert "what jo@vendor.example has not accepted yet: nda (version 3)" in refused.stderr
    assert "daypass agreement accept nda --person jo@vendor.example" in refused.stderr
    assert "daypass request create" in refused.stderr
    assert answer(run(house, "grant", "list")) == []
    accept(house)
    # The next obstacle is the database, which is not there.
    assert create(house).exit_code == 3
    (house / "agreements" / "nda.md").write_text("Other words.\n")
    assert create(house).exit_code == 1
    (house / "agreements" / "nda.md").unlink()
    missing = create(house)
    assert missing.exit_code == 1
    assert "nda.md is missing" in missing.stderr


def test_a_paper_signature_is_kept(house: Path, tmp_path: Path) -> None:
    scan = tmp_path / "scan.pdf"
    scan.write_bytes(b"%PDF\0\xff")
    made = accept(house, "--file", str(scan), "--by", "op@owner.example")
    digest = hashlib.sha256(scan.read_bytes()).hexdigest()
    assert (made["how"], made["file"], made["file_sha256"]) == ("paper", "scan.pdf", digest)
    assert (made["recorded_by"], made["counts"]) == ("op@owner.example", True)
    (step,) = steps(house, "agreement.accepted")
    assert (step["by"], step["detail"]["file_sha256"]) == ("op@owner.example", digest)
    assert step["where"]
    copy = tmp_path / "copy.pdf"
    words = ["agreement", "paper", made["acceptance"], "--to", str(copy)]
    assert answer(run(house, *words))["sha256"] == digest
    assert copy.read_bytes() == scan.read_bytes()
    again = run(house, *words)
    assert again.exit_code == 2
    assert "File exists" in again.stderr


def test_what_cannot_be_recorded_as_accepted(house: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    base = ["agreement", "accept", "nda", "--person", JO]
    for words, message in (
        ([*base, "--name", "Jo"], "is not a full name"),
        ([*base, "--name", "Jo Doe", "--file", str(tmp_path / "none")], "No such file"),
        ([*base, "--name", "Jo Doe", "--file", str(tmp_path / "empty")], "is empty"),
        (["agreement", "accept", "nad", "--person", JO, "--name", "Jo Doe"], "did you mean nda?"),
        (["agreement", "accept", "../nda", "--person", JO, "--name", "Jo Doe"], "there is no agreement"),
        (["agreement", "paper", "a-00000000", "--to", str(tmp_path / "x")], "no acceptance"),
        (["agreement", "show", "nope"], "there is no agreement"),
        (["agreement", "revoke", "nda", "--person", JO, "--reason", "x"], "has accepted no text"),
    ):
        result = run(house, *words)
        assert result.exit_code == 2, result.output
        assert message in result.stderr
        assert result.stdout == ""
    assert listed(house)["nda"]["acceptances"] == []


def test_what_was_accepted_in_which_version(house: Path) -> None:
    accept(house)
    first = listed(house)["nda"]
    assert (first["version"], first["policies"], first["problem"]) == ("3", ["vendor-readonly"], None)
    assert [a["counts"] for a in first["acceptances"]] == [True]
    (house / "agreements" / "nda.md").write_text("---\nversion: 4\n---\nYou tell nobody at all.\n")
    accept(house, name="Jo B. Doe")
    found = [(a["version"], a["signed_as"], a["counts"]) for a in listed(house)["nda"]["acceptances"]]
    assert found == [("4", "Jo B. Doe", True), ("3", "Jo Doe", False)]
    table = run(house, "agreement", "list", "-o", "table").stdout
    assert "old text" in table
    assert table.count("Jo") == 2
    for words, version in (([], "4"), (["--version", "3"], "3"), (["--sha", first["sha256"][:8]], "3")):
        shown = answer(run(house, "agreement", "show", "nda", *words))
        assert (shown["version"], shown["current"]) == (version, version == "4")
        assert hashlib.sha256(shown["text"].encode()).hexdigest() == shown["sha256"]
    assert "these are kept: 4 (" in run(house, "agreement", "show", "nda", "--version", "9").stderr
    (house / "agreements" / "nda.md").unlink()
    assert "nda.md is missing" in run(house, "agreement", "show", "nda").stderr
    assert answer(run(house, "agreement", "show", "nda", "--version", "3"))["version"] == "3"
    assert "nda.md is missing" in listed(house)["nda"]["problem"]
    assert "You tell nobody at all." in run(house, "agreement", "show", "nda", "--version", "4", "-o", "table").stdout


def test_a_link_is_shown_once_and_its_secret_is_nowhere_else(house: Path) -> None:
    words = ["agreement", "link", "nda", "--person", JO]
    refused = run(house, *words)
    assert refused.exit_code == 2
    assert "there is no page for links" in refused.stderr
    assert "set links.url in config.yaml" in refused.stderr
    with (house / "config.yaml").open("a") as file:
        file.write("links: {url: 'https://access.example/daypass/'}\n")
    made = answer(run(house, *words, "--for", "24h", "--by", "olga"))
    assert list(made) == ["link", "person", "agreement", "version", "sha256", "expires_at", "url"]
    url, secret = made["url"].rsplit("/", 1)
    assert url == "https://access.example/daypass/sign"
    assert len(secret) == 43
    (step,) = steps(house, "agreement.link")
    detail = step["detail"]
    assert (step["by"], detail["person"]) == ("olga", JO)
    assert (detail["link"], detail["sha256"]) == (made["link"], made["sha256"])
    assert detail["expires_at"][:19] == made["expires_at"][:19]
    for path in house.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path
    table = run(house, *words, "-o", "table")
    assert "can read and accept nda (version 3) here, once:" in table.stdout
    assert "warning" not in table.stderr
    accept(house)
    assert "has accepted this text already" in run(house, *words).stderr


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["nda", "--for", "31d"], "at most 30d"),
        (["nda", "--for", "0s"], "more than no time"),
        (["nda", "--for", "soon"], "--for: "),
        (["nad"], "did you mean nda?"),
        (["nda", "--by", ""], "must not be empty"),
    ],
)
def test_links_that_are_not_made(house: Path, more: list[str], message: str) -> None:
    with (house / "config.yaml").open("a") as file:
        file.write("links: {url: 'https://access.example'}\n")
    result = run(house, "agreement", "link", "--person", JO, *more)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert result.stdout == ""


def asked(house: Path) -> str:
    """The grant of a request that was approved."""
    words = ["--vendor", "Acme", "--database", "app", "--policy", "vendor-readonly", "--for", "4h", "--purpose", "x"]
    request = answer(run(house, "request", "create", "--person", JO, *words, "--by", "sponsor"))["request"]
    done = answer(run(house, "request", "approve", request, "--by", "owner", "--reason", "ok"))
    grant: str = done["grant"]
    return grant


def test_a_request_leads_to_a_grant_whose_vendor_signs_at_login(house: Path) -> None:
    grant = asked(house)
    minted = run(house, "grant", "token", grant)
    assert json.loads(minted.stdout)["token"].startswith("dp_")
    assert "jo@vendor.example has to accept nda (version 3) first" in minted.stderr
    assert "has to accept nda (version 3) first" in run(house, "grant", "show", grant).stderr
    (house / "agreements" / "nda.md").unlink()
    assert "no login will pass before the agreement nda has a text" in run(house, "grant", "token", grant).stderr


def test_revoking_an_agreement_ends_the_grants_that_need_it(house: Path) -> None:
    accept(house)
    grant = asked(house)
    assert "has to accept" not in run(house, "grant", "token", grant).stderr
    words = ["agreement", "revoke", "nda", "--person", JO.upper(), "--reason", "left the firm", "--by", "root"]
    done = answer(run(house, *words))
    assert done["grants"] == [grant]
    (found,) = answer(run(house, "grant", "list"))
    assert found["state"] == "revoked"
    assert [a["counts"] for a in listed(house)["nda"]["acceptances"]] == [False]
    assert run(house, *words).exit_code == 2
    assert "revoked" in run(house, "agreement", "list", "-o", "table").stdout


def test_a_missing_text_is_found_before_anybody_needs_it(house: Path) -> None:
    (house / "agreements" / "nda.md").unlink()
    for words in (["config", "check"], ["policy", "check", "--offline"], ["doctor"]):
        result = run(house, *words)
        assert result.exit_code != 0
        assert "nda.md is missing" in result.stdout
    (house / "agreements" / "nda.md").write_bytes(b"\xff")
    (finding,) = json.loads(run(house, "config", "check").stdout)["findings"]
    assert finding["key"] == "agreements[0]"
    assert finding["line"] > 1
    assert "not UTF-8" in finding["message"]


def test_without_agreements_the_list_says_what_one_is(house: Path) -> None:
    policy = house / "policies" / "vendor-readonly.yaml"
    policy.write_text(policy.read_text().replace("agreements: [nda]\n", ""))
    (house / "agreements" / "nda.md").unlink()
    shown = run(house, "agreement", "list", "-o", "table")
    assert shown.stdout == ""
    assert "a policy names it under agreements:" in shown.stderr
