"""Builds the demonstration: a Postgres with sample data, a configured daypass that runs, and its grants.

Everything goes through what a user has: `daypass init`, `daypass serve`, `daypass grant create` as processes of their
own. It must not know what is shown or how. It keeps the promise that leaving the stage leaves nothing behind: no
process, no folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from proxy.demo.client import Login
from proxy.demo.postgres import PostgresServer
from proxy.demo.watchdog import Watchdog

DATABASE = "shop"
READER = "shop_reader"
POLICY = "vendor-readonly"
PASSWORD_VARIABLE = "DEMO_SHOP_PASSWORD"  # noqa: S105 - a variable's name

# The fingerprint of what a vendor could have changed: rows, and the sequence.
FINGERPRINT = """
select md5(concat_ws('|', (select sum(hashtextextended(c::text, 0)) from app.customers c),
    (select count(*) from app.orders), (select count(*) from app.order_items), (select count(*) from app.events),
    (select sum(salary) from hr.salaries), (select last_value::text || is_called from app.invoice_seq),
    (select count(*) from pg_class), (select count(*) from pg_proc)))
"""
ROWS = """
select sum(reltuples)::bigint from pg_class
where relkind = 'r' and relnamespace in ('app'::regnamespace, 'hr'::regnamespace)
"""


class StageError(Exception):
    """Something of the demonstration's own did not start; the text has its output."""


class Stage:
    """The running demonstration. Use as a context manager; `steps` of the set-up are told to `tell`."""

    def __init__(self, tell: Callable[[str, float], None]) -> None:
        self._tell = tell
        self._stack = contextlib.ExitStack()
        self.postgres = PostgresServer()
        self._home = self.folder = Path()
        self._password = secrets.token_hex(12)
        self.port = 0

    def __enter__(self) -> Stage:
        try:
            self._build()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def daypass(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs the command line against the demonstration's configuration."""
        done = subprocess.run(
            [*_daypass(), "-c", str(self.folder / "config.yaml"), *arguments],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env=self._environment(),
        )
        if check and done.returncode:
            raise StageError(f"daypass {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def grant(self, person: str, length: str, reason: str) -> dict[str, Any]:
        """Makes a grant with the real command and returns what it printed."""
        done = self.daypass(
            *("grant", "create", "--person", person, "--vendor", "Acme Analytics", "--database", DATABASE),
            *("--policy", POLICY, "--for", length, "--reason", reason, "-o", "json"),
        )
        printed: dict[str, Any] = json.loads(done.stdout)
        return printed

    def login(self, grant: dict[str, Any]) -> Login:
        """How the vendor of `grant` logs in."""
        return Login("127.0.0.1", self.port, DATABASE, grant["user"], grant["token"])

    def command(self) -> str:
        """What a person types to run this installation's daypass on the demonstration's configuration."""
        beside = Path(sys.executable).with_name("daypass")
        return shlex.join([str(beside) if beside.exists() else "daypass", "-c", str(self.folder / "config.yaml")])

    def log(self) -> str:
        """The end of what `daypass serve` logged."""
        path = self.folder / "serve.log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def fingerprint(self) -> str:
        """Of all data in the database, asked as superuser, past daypass."""
        with self._superuser(DATABASE) as conn:
            row = conn.execute(FINGERPRINT).fetchone()
        return str(row[0]) if row else ""

    # -- inside

    def _build(self) -> None:
        self._stack.callback(self.postgres.close)
        with self._timed() as done:
            self.postgres.start()
            done(f"Postgres {self._version()}, a real server, on 127.0.0.1:{self.postgres.port}")
        with self._timed() as done:
            rows = self._load()
            done(f"sample data: {rows:,} rows of a web shop, and salaries that no vendor should see")
        with self._timed() as done:
            self._home = Path(tempfile.mkdtemp(prefix="daypass-demo-"))
            self._stack.callback(shutil.rmtree, self._home, ignore_errors=True)
            self._configure()
            self._serve()
            done(f"daypass on 127.0.0.1:{self.port}, TLS required")

    @contextlib.contextmanager
    def _timed(self) -> Iterator[Callable[[str], None]]:
        began = time.monotonic()
        yield lambda text: self._tell(text, time.monotonic() - began)

    def _superuser(self, dbname: str) -> Any:
        try:
            import psycopg  # noqa: PLC0415 - only the demo needs it; it is no part of a plain installation
        except ImportError as error:
            raise StageError("the demonstration needs a client library: pip install 'daypass[demo]'") from error
        return psycopg.connect(self.postgres.dsn(dbname), autocommit=True)

    def _version(self) -> str:
        with self._superuser("postgres") as conn:
            row = conn.execute("show server_version").fetchone()
        return str(row[0]).split()[0] if row else ""

    def _load(self) -> int:
        with self._superuser("postgres") as conn:
            conn.execute(f"create role {READER} login password '{self._password}'")
            conn.execute(f"create database {DATABASE}")
        with self._superuser(DATABASE) as conn:
            conn.execute(_resource("data.sql"))
            row = conn.execute(ROWS).fetchone()
        return int(row[0]) if row else 0

    def _environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "DAYPASS_"))}
        return kept | {PASSWORD_VARIABLE: self._password}

    def _configure(self) -> None:
        """`daypass init` makes keys and certificate; the database and the policy are the demonstration's."""
        made = self.folder = self._home / "daypass"
        done = subprocess.run(
            [*_daypass(), "init", str(made)], capture_output=True, text=True, check=False, env=self._environment()
        )
        if done.returncode:
            raise StageError(f"daypass init ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        kept = yaml.safe_load((made / "config.yaml").read_text())
        kept["listen"] |= {"host": "127.0.0.1", "port": 0}
        kept["metrics"] = {"host": "127.0.0.1", "port": 0}
        kept["databases"] = {
            DATABASE: {
                "host": "127.0.0.1",
                "port": self.postgres.port,
                "dbname": DATABASE,
                "tls": "disable",
                "credential": {"mode": "shared", "user": READER, "password_env": PASSWORD_VARIABLE},
            }
        }
        (made / "config.yaml").write_text(yaml.safe_dump(kept, sort_keys=False))
        for example in (made / "policies").glob("*.yaml"):
            example.unlink()
        (made / "policies" / f"{POLICY}.yaml").write_bytes(_resource(f"{POLICY}.yaml"))

    def _serve(self, seconds: float = 20.0) -> None:
        path = self.folder / "serve.log"
        with path.open("wb") as log:
            server = subprocess.Popen(
                [*_daypass(), "-c", str(self.folder / "config.yaml"), "serve"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment(),
                start_new_session=True,  # Ctrl-C is ours; the server gets a SIGTERM and its time to seal the record
            )
        watchdog = Watchdog(server.pid, self._home)
        self._stack.callback(_end, server, watchdog)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and server.poll() is None:
            for line in path.read_text(errors="replace").splitlines():
                with contextlib.suppress(json.JSONDecodeError):
                    entry = json.loads(line)
                    if isinstance(entry, dict) and entry.get("event") == "ready":
                        self.port = int(entry["port"])
                        return
            time.sleep(0.02)
        raise StageError(f"daypass serve did not get ready:\n{path.read_text(errors='replace')}")


def _end(server: subprocess.Popen[bytes], watchdog: Watchdog) -> None:
    server.terminate()
    try:
        server.wait(15)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    watchdog.release()


def _daypass() -> list[str]:
    """The command line of this very installation, whatever the PATH says."""
    return [sys.executable, "-c", "import sys; from proxy.cli.main import main; sys.exit(main())"]


def _resource(name: str) -> bytes:
    return resources.files("proxy.demo").joinpath(name).read_bytes()
