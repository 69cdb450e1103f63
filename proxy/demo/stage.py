"""Builds the demonstration: a Postgres with sample data, a configured daypass that runs, and its grants.

Everything goes through what a user has: `daypass init`, `daypass serve`, `daypass grant create` as processes of their
own. It must not know what is shown or how. It keeps the promise that leaving the stage leaves nothing behind: no
process, no folder.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from proxy.demo.client import Login
from proxy.demo.postgres import PostgresServer
from proxy.demo.served import Served, ServedError, initialised

DATABASE = "shop"
ADMIN = "daypass_admin"
POLICY = "vendor-readonly"
PASSWORD_VARIABLE = "DEMO_SHOP_PASSWORD"  # noqa: S105 - a variable's name

# What a vendor could have changed, in one word: rows, the sequence, the catalog but for daypass's own views.
FINGERPRINT = """
select md5(concat_ws('|', (select sum(hashtextextended(c::text, 0)) from app.customers c),
    (select count(*) from app.orders), (select count(*) from app.order_items), (select count(*) from app.events),
    (select sum(salary) from hr.salaries), (select last_value::text || is_called from app.invoice_seq),
    (select count(*) from pg_class where relnamespace::regnamespace::text !~ '^daypass_'),
    (select count(*) from pg_proc)))
"""
ROWS = """
select sum(reltuples)::bigint from pg_class
where relkind = 'r' and relnamespace in ('app'::regnamespace, 'hr'::regnamespace)
"""


class Stage:
    """The running demonstration, as a context manager; each part built is told to `tell` with its seconds."""

    served: Served

    def __init__(self, tell: Callable[[str, float], None]) -> None:
        self._tell = tell
        self._stack = contextlib.ExitStack()
        self._password = secrets.token_hex(12)
        self.postgres = PostgresServer()

    def __enter__(self) -> Stage:
        try:
            self._build()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def grant(self, person: str, length: str, reason: str) -> dict[str, Any]:
        """Makes a grant with the real command and returns what it printed."""
        return self.served.grant(
            person=person, vendor="Acme Analytics", database=DATABASE, policy=POLICY, length=length, reason=reason
        )

    def login(self, grant: dict[str, Any]) -> Login:
        """How the vendor of `grant` logs in."""
        return Login("127.0.0.1", self.served.port, DATABASE, grant["user"], grant["token"])

    def fingerprint(self) -> str:
        """Of all data in the database, asked as superuser, past daypass."""
        with self._superuser(DATABASE) as conn:
            row = conn.execute(FINGERPRINT).fetchone()
        return str(row[0]) if row else ""

    def role(self, grant: dict[str, Any]) -> str:
        """The Postgres role of a grant; empty when there is none."""
        with self._superuser(DATABASE) as conn:
            name = "daypass_%_" + str(grant["grant"]).replace("-", "")
            row = conn.execute("select rolname from pg_roles where rolname like %s", [name]).fetchone()
        return str(row[0]) if row else ""

    def as_role(self, role: str, sql: str) -> str:
        """What Postgres itself answers a role, past daypass: the first row, or the error."""
        import psycopg  # noqa: PLC0415 - only the demo needs it

        with self._superuser(DATABASE) as conn:
            conn.execute(f'set role "{role}"')
            try:
                return str((conn.execute(sql).fetchone() or [""])[0])
            except psycopg.Error as error:
                return f"ERROR:  {str(error).strip().splitlines()[0]}"

    # -- inside

    def _build(self) -> None:
        self._stack.callback(self.postgres.close)
        with self._timed() as done:
            self.postgres.start()
            done(f"Postgres {self._version()}, a real server, on 127.0.0.1:{self.postgres.port}")
        with self._timed() as done:
            rows = load(self.postgres, self._password)
            done(f"sample data: {rows:,} rows of a web shop, and salaries that no vendor should see")
        with self._timed() as done:
            home = Path(tempfile.mkdtemp(prefix="daypass-demo-"))
            self._stack.callback(shutil.rmtree, home, ignore_errors=True)
            self._configure(home / "daypass")
            self.served = Served(home / "daypass", home, {PASSWORD_VARIABLE: self._password})
            self._stack.callback(self.served.close)
            self.served.start()
            done(f"daypass on 127.0.0.1:{self.served.port}, TLS required")

    @contextlib.contextmanager
    def _timed(self) -> Iterator[Callable[[str], None]]:
        began = time.monotonic()
        yield lambda text: self._tell(text, time.monotonic() - began)

    def _superuser(self, dbname: str) -> Any:
        return superuser(self.postgres, dbname)

    def _version(self) -> str:
        with self._superuser("postgres") as conn:
            row = conn.execute("show server_version").fetchone()
        return str(row[0]).split()[0] if row else ""

    def _configure(self, folder: Path) -> None:
        """`daypass init` makes keys and certificate; the database and the policy are the demonstration's."""
        initialised(folder)
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config["listen"] |= {"host": "127.0.0.1", "port": 0}
        config["metrics"] = {"host": "127.0.0.1", "port": 0}
        config["databases"] = {
            DATABASE: {
                "host": self.postgres.host,
                "port": self.postgres.port,
                "dbname": DATABASE,
                "tls": "disable",  # the wheel's server was built without OpenSSL; this is loopback
                "credential": {"mode": "ephemeral", "user": ADMIN, "password_env": PASSWORD_VARIABLE},
            }
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        for example in (folder / "policies").glob("*.yaml"):
            example.unlink()
        (folder / "policies" / f"{POLICY}.yaml").write_bytes(_resource(f"{POLICY}.yaml"))


def superuser(postgres: PostgresServer, dbname: str) -> Any:
    """A connection that may everything, past daypass. Raises ServedError without a client library."""
    try:
        import psycopg  # noqa: PLC0415 - only the demo needs it; it is no part of a plain installation
    except ImportError as error:
        raise ServedError("the demonstration needs a client library: pip install 'daypass[demo]'") from error
    return psycopg.connect(postgres.dsn(dbname), autocommit=True)


def load(postgres: PostgresServer, password: str) -> int:
    """The sample data, and the role that makes roles, with this password; returns how many rows there are."""
    with superuser(postgres, "postgres") as conn:
        conn.execute(f"create role {ADMIN} login createrole password '{password}'")
        conn.execute(f"create database {DATABASE}")
        conn.execute(f"grant create on database {DATABASE} to {ADMIN}")
    with superuser(postgres, DATABASE) as conn:
        conn.execute(_resource("data.sql"))
        row = conn.execute(ROWS).fetchone()
    return int(row[0]) if row else 0


def _resource(name: str) -> bytes:
    return resources.files("proxy.demo").joinpath(name).read_bytes()
