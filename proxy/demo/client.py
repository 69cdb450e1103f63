"""The vendor's side of the demonstration: a real client that speaks to daypass and shows what it got.

A psql with TLS is driven through its standard input, where there is one on the machine. The psql of the embedded
Postgres was built without OpenSSL and cannot speak TLS; then libpq itself (through psycopg's binding) runs the
statements and the result is laid out as psql does. Both give the text that a vendor would read, errors as libpq
words them. The token travels in the environment or in memory, never in a process's arguments.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

MARK = b"@@ end of answer @@"


class ClientError(Exception):
    """The client could not log in, or its connection ended; the text is libpq's."""


@dataclass(frozen=True, slots=True)
class Login:
    """Where and as whom; always over TLS with channel binding."""

    host: str
    port: int
    dbname: str
    user: str
    token: str

    def url(self) -> str:
        """The connection URL without the token."""
        return f"postgresql://{self.user}@{self.host}:{self.port}/{self.dbname}?sslmode=require&channel_binding=require"


class Client(Protocol):
    """One session of a vendor."""

    name: str

    def greeting(self) -> str:
        """The notices that came with the login."""

    def run(self, sql: str) -> str:
        """What the terminal shows for `sql`; ClientError when the connection is gone."""

    def close(self) -> None: ...


def psql_with_tls() -> str | None:
    """A psql on the PATH whose libpq can speak TLS, found by asking it for TLS where nobody listens."""
    psql = shutil.which("psql")
    if psql is None:
        return None
    said = subprocess.run(
        [psql, "-X", "host=127.0.0.1 port=1 sslmode=require channel_binding=require connect_timeout=2"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    ).stderr
    return None if "not compiled in" in said or "invalid" in said else psql


def connect(login: Login, kind: str = "auto") -> Client:
    """Opens a session. `kind`: auto (psql where it can TLS), psql, libpq. ClientError when the login is refused."""
    psql = None if kind == "libpq" else psql_with_tls()
    if psql is not None:
        return PsqlClient(psql, login)
    if kind == "psql":
        raise ClientError("no psql that speaks TLS on the PATH")
    return LibpqClient(login)


class PsqlClient:
    """psql, fed one statement at a time."""

    def __init__(self, psql: str, login: Login) -> None:
        version = subprocess.run([psql, "--version"], capture_output=True, text=True, check=True).stdout
        self.name = f"psql {version.split()[2]}"
        self._psql = subprocess.Popen(
            [psql, "-X", "-P", "pager=off", login.url()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # one pipe, so that results and errors keep their order
            env=_environment(os.environ) | {"PGPASSWORD": login.token, "PGCONNECT_TIMEOUT": "10"},
            start_new_session=True,
        )
        try:
            self._greeting = self.run("")
        except ClientError:
            self.close()
            raise

    def greeting(self) -> str:
        return self._greeting

    def run(self, sql: str) -> str:
        pipe_in, pipe_out = self._psql.stdin, self._psql.stdout
        if pipe_in is None or pipe_out is None:
            raise ClientError("psql has no pipes")
        try:
            pipe_in.write(sql.encode() + b"\n\\echo " + MARK + b"\n")
            pipe_in.flush()
        except BrokenPipeError:
            pass  # it says why on the other pipe
        heard = b""
        while not heard.endswith(MARK + b"\n"):
            more = os.read(pipe_out.fileno(), 65536)
            if not more:
                raise ClientError(heard.decode(errors="replace").strip())
            heard += more
        return heard.removesuffix(MARK + b"\n").decode(errors="replace").rstrip()

    def close(self) -> None:
        try:
            self._psql.communicate(b"\\q\n", timeout=5)
        except (subprocess.TimeoutExpired, BrokenPipeError, ValueError):
            self._psql.kill()
            self._psql.wait()


class LibpqClient:
    """libpq through psycopg's own binding, with psql's layout."""

    def __init__(self, login: Login) -> None:
        from psycopg import pq  # noqa: PLC0415 - only the demo needs it; it is no part of a plain installation

        self._pq = pq
        self.name = f"libpq {pq.version() // 10000}.{pq.version() % 10000}"
        self._notices: list[str] = []
        conninfo = " ".join(
            f"{key}={value}"
            for key, value in {
                "host": login.host,
                "port": login.port,
                "dbname": login.dbname,
                "user": login.user,
                "password": login.token,
                "sslmode": "require",
                "channel_binding": "require",
                "connect_timeout": 10,
                "application_name": "daypass-demo",
            }.items()
        )
        self._conn = pq.PGconn.connect_start(conninfo.encode())
        self._conn.notice_handler = self._notice  # before the login is over: the greeting comes with it
        self._finish_login()
        if self._conn.status != pq.ConnStatus.OK:
            said = self._conn.get_error_message()
            self._conn.finish()
            raise ClientError(said.strip())
        self._greeting, self._notices = "\n".join(self._notices), []

    def greeting(self) -> str:
        return self._greeting

    def run(self, sql: str) -> str:
        result = self._conn.exec_(sql.encode())
        notices, self._notices = self._notices, []
        status, kinds = result.status, self._pq.ExecStatus
        if status == kinds.TUPLES_OK:
            rows = [
                [_text(result.get_value(row, column)) for column in range(result.nfields)]
                for row in range(result.ntuples)
            ]
            names = [_text(result.fname(column)) for column in range(result.nfields)]
            right = [result.ftype(column) in NUMBERS for column in range(result.nfields)]
            answer = table(names, rows, right)
        elif status == kinds.COMMAND_OK:
            answer = _text(result.command_status)
        else:
            answer = _text(result.error_message).strip()
        if self._conn.status != self._pq.ConnStatus.OK:
            raise ClientError(answer)
        return "\n".join([*notices, answer])

    def close(self) -> None:
        self._conn.finish()

    def _finish_login(self, seconds: float = 10.0) -> None:
        polling, end = self._pq.PollingStatus, time.monotonic() + seconds
        waiting: int = polling.WRITING
        while waiting in (polling.READING, polling.WRITING) and (left := end - time.monotonic()) > 0:
            sockets = [self._conn.socket]
            reading = waiting == polling.READING
            select.select(sockets if reading else [], [] if reading else sockets, [], left)
            waiting = self._conn.connect_poll()

    def _notice(self, result: object) -> None:
        if isinstance(result, self._pq.PGresult):
            self._notices.append(_text(result.error_message).strip())


NUMBERS = {20, 21, 23, 26, 700, 701, 1700}  # type OIDs that psql aligns right: integers, oid, floats, numeric


def table(names: list[str], rows: list[list[str]], right: list[bool]) -> str:
    """A result in psql's default layout."""
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    lines = ["|".join(f" {name.center(width)} " for name, width in zip(names, widths, strict=True)).rstrip()]
    lines.append("+".join("-" * (width + 2) for width in widths))
    lines += [
        "|".join(
            f" {cell.rjust(width) if number else cell.ljust(width)} "
            for cell, width, number in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    ]
    lines.append(f"({len(rows)} row{'' if len(rows) == 1 else 's'})")
    return "\n".join(lines)


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode(errors="replace")


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in environ.items() if not key.startswith("PG")}
