"""`daypass init`: a folder that `serve` can start from, with keys of its own.

Writes files and nothing else. The invariants: no file that exists is touched, and a private key is never readable by
others, not even for a moment.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import shlex
import socket
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from proxy.cli.output import USAGE, fail, note, stdout, styled
from proxy.clock import SystemClock

ADMIN_SQL = (
    "CREATE ROLE daypass_admin LOGIN CREATEROLE PASSWORD '…';",
    "GRANT CREATE ON DATABASE app TO daypass_admin;",
    "GRANT USAGE ON SCHEMA app TO daypass_admin WITH GRANT OPTION;",
    "GRANT SELECT ON ALL TABLES IN SCHEMA app TO daypass_admin WITH GRANT OPTION;",
)
"""What the role of a new configuration needs; the template of config.yaml says the same."""
DAYS = 825  # the longest that common clients accept from a certificate


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to make, or an existing one.")],
    name: Annotated[
        list[str] | None,
        typer.Option("--name", metavar="HOST", help="A further host name or address for the certificate; repeatable."),
    ] = None,
) -> None:
    """Make config.yaml, an example policy and a self-signed certificate, ready to serve.

    Example: daypass init daypass --name db-access.example.com
    """
    names = ["localhost", "127.0.0.1", "::1", socket.gethostname(), *(name or [])]
    contents = {
        "config.yaml": (_template("config.yaml"), 0o644),
        "policies/vendor-readonly.yaml": (_template("vendor-readonly.yaml"), 0o644),
    }
    wanted = [*contents, "tls/cert.pem", "tls/key.pem"]
    present = [path for path in wanted if (folder / path).exists() or (folder / path).is_symlink()]
    if present:
        hint = "choose another folder, or move these files away; nothing was changed"
        fail(USAGE, f"{folder} already holds {', '.join(present)}", hint)
    try:
        certificate, key = make_certificate(names)
        contents |= {"tls/cert.pem": (certificate, 0o644), "tls/key.pem": (key, 0o600)}
        for path, (data, mode) in contents.items():
            _write(folder / path, data, mode)
        (folder / "recordings").mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        fail(USAGE, f"{error.filename or folder}: {error.strerror}")
    _next_steps(folder, list(contents))


def make_certificate(names: list[str]) -> tuple[bytes, bytes]:
    """A self-signed certificate for host names and addresses, and its key; both PEM.

    ECDSA with SHA-256: channel binding needs a signature that has a hash, so Ed25519 would not do. Raises typer's usage
    error for a name that no certificate can hold.
    """
    from cryptography import x509  # noqa: PLC0415  (only here, and slow to import)
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID  # noqa: PLC0415

    alternatives: list[x509.GeneralName] = []
    for name in dict.fromkeys(names):
        try:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            try:
                alternatives.append(x509.DNSName(name.encode("idna").decode("ascii")))
            except (UnicodeError, ValueError):
                fail(USAGE, f"{name!r} is not a host name or address")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "daypass")])
    start = SystemClock().now() - datetime.timedelta(hours=1)  # clocks of vendors differ
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    certificate = builder.sign(key, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _template(name: str) -> bytes:
    return (files("proxy.cli") / "templates" / name).read_bytes()


def _write(path: Path, data: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # O_EXCL: a file that somebody made in the meantime is not overwritten
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)


def _next_steps(folder: Path, made: list[str]) -> None:
    config = shlex.quote(str(folder / "config.yaml"))
    console = stdout()
    console.print(styled(f"Made in {folder}:", "bold"))
    for path in made:
        console.print(f"  {path}")
    console.print()
    console.print(styled("Next:", "bold"))
    admin = "As the database's owner, make the role that makes a role for each grant (config.yaml says more):"
    for number, (what, line) in enumerate(
        [
            ("Name your database in config.yaml, and what may be read of it in policies/vendor-readonly.yaml.", ""),
            (admin, "\n       ".join(ADMIN_SQL)),
            ("Give the password of that role:", "export APP_PASSWORD=…"),
            ("See whether all is well:", f"daypass -c {config} doctor"),
            ("Run the proxy:", f"daypass -c {config} serve"),
            (
                "Let somebody in:",
                f"daypass -c {config} grant create --person jo@vendor.example --vendor Vendor "
                "--database app --policy vendor-readonly --for 4h --reason 'ticket 42'",
            ),
        ],
        start=1,
    ):
        console.print(f"  {number}. {what}")
        if line:
            console.print(styled(f"       {line}", "cyan"))
    note("The certificate is self-signed: clients use sslmode=require with channel binding.")
