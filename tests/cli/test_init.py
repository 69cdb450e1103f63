"""`daypass init`: what it makes is ready, private where it must be, and never at the cost of what was there."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography import x509
from typer.testing import CliRunner

from proxy.cli.init import ADMIN_SQL, make_certificate
from proxy.cli.main import app
from proxy.cli.output import Failure
from proxy.config import load, warnings
from proxy.policy.load import Policies

ROOT = Path(__file__).parents[2]
runner = CliRunner()


def test_what_it_makes_is_ready(house: Path) -> None:
    config = load(house / "config.yaml")
    assert warnings(config) == []
    assert config.databases["app"].credential.mode == "ephemeral"
    assert all(line in (house / "config.yaml").read_text() for line in ADMIN_SQL)
    policies = Policies(config.policies)
    assert policies.load() == []
    assert list(policies.names()) == ["vendor-readonly"]
    assert (house / "tls" / "key.pem").stat().st_mode & 0o777 == 0o600
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(house / "tls" / "cert.pem", house / "tls" / "key.pem")


def test_its_policy_is_the_example() -> None:
    template = ROOT / "proxy" / "cli" / "templates" / "vendor-readonly.yaml"
    assert template.read_text() == (ROOT / "policies" / "vendor-readonly.yaml").read_text()


def test_it_overwrites_nothing(house: Path) -> None:
    before = {path: path.read_bytes() for path in house.rglob("*") if path.is_file()}
    answer = runner.invoke(app, ["init", str(house)])
    assert answer.exit_code == 2
    assert "already holds config.yaml" in answer.stderr
    assert before == {path: path.read_bytes() for path in house.rglob("*") if path.is_file()}


def test_a_dangling_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls" / "key.pem").symlink_to(tmp_path / "elsewhere")
    assert runner.invoke(app, ["init", str(tmp_path)]).exit_code == 2
    assert not (tmp_path / "elsewhere").exists()
    assert not (tmp_path / "config.yaml").exists()


def test_where_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    answer = runner.invoke(app, ["init", str(tmp_path / "file" / "below")])
    assert answer.exit_code == 2
    assert "error:" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_the_certificate_holds_its_names() -> None:
    pem, _ = make_certificate(["localhost", "127.0.0.1", "::1", "db.example.com", "bücher.example", "localhost"])
    certificate = x509.load_pem_x509_certificate(pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "db.example.com", "xn--bcher-kva.example"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert certificate.signature_hash_algorithm is not None  # channel binding needs it
    with pytest.raises(Failure, match="not a host name"):
        make_certificate(["x" * 300])


def test_the_next_steps_can_be_pasted(tmp_path: Path) -> None:
    answer = runner.invoke(app, ["init", str(tmp_path / "with space"), "--name", "db.example.com"])
    assert answer.exit_code == 0
    assert f"daypass -c '{tmp_path}/with space/config.yaml' serve" in answer.stdout
