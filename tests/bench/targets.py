"""What `make bench` measures: Postgres itself, PgBouncer and daypass in front of it, and what each costs in CPU.

Every target is a real process on loopback, without TLS, so that the three are alike. CPU time is the kernel's
accounting (utime + stime of /proc/PID/stat) of the proxy alone, which a noisy machine blurs least.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import yaml

from proxy.demo.postgres import PostgresServer, any_bindir, free_port, system_bindirs
from proxy.demo.served import Served, initialised
from tests.live.certificate import write_certificate

DATABASE = "bench"
ROLE = "bench_reader"
SECRET = "bench-secret"
TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Target:
    """Where pgbench connects; `pids` are the proxy's processes."""

    name: str
    port: int
    user: str
    password: str
    pids: tuple[int, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    def cpu_us(self) -> float:
        """CPU microseconds that the proxy has used so far; 0 without one."""
        return sum(_cpu_us(pid) for pid in self.pids)


def _cpu_us(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_US


def _children(pid: int) -> list[int]:
    """The worker processes of a supervisor; the processes that judge heavy statements do nothing here."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def programs() -> Path:
    """The folder with pgbench and the server: the distribution's newest, else the wheel's."""
    for bindir in system_bindirs():
        if (bindir / "pgbench").exists():
            return bindir
    return any_bindir()


@dataclass(frozen=True, slots=True)
class House:
    """How the targets are set up. `workers` is a list: one daypass for each."""

    scale: int = 10
    tls: bool = False
    durability: str = "write"
    workers: tuple[int | str, ...] = (1,)


@contextmanager
def targets(house: House) -> Iterator[list[Target]]:
    """Starts all of them with a loaded pgbench database; ends all of them."""
    with ExitStack() as stack:
        home = Path(tempfile.mkdtemp(prefix="daypass-bench-"))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        home.chmod(0o755)
        cert, key = write_certificate(home / "tls")
        tls = (cert.read_bytes(), key.read_bytes()) if house.tls else None
        server = stack.enter_context(PostgresServer(programs(), settings={"shared_buffers": "512MB"}, tls=tls))
        _load(server, house.scale)
        found = [Target("direct", server.port, ROLE, SECRET)]
        bouncer = pgbouncer()
        if bouncer is not None:
            found.append(stack.enter_context(_bouncing(bouncer, server, (cert, key) if house.tls else None)))
        found.append(stack.enter_context(_relaying(server)))
        for workers in house.workers:
            found.append(stack.enter_context(_daypass(server, home, house, workers)))
        yield found


def pgbouncer() -> str | None:
    """The program, where it is installed."""
    return shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))


def _load(server: PostgresServer, scale: int) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as conn:
        conn.execute(f"create database {DATABASE}")
        conn.execute(f"create role {ROLE} login password '{SECRET}'")
    environment = {**os.environ, "PGPASSWORD": server.password}
    address = ["-h", server.host, "-p", str(server.port), "-U", server.user, DATABASE]
    subprocess.run(
        [server.bindir / "pgbench", "-i", "-q", "-s", str(scale), *address],
        check=True,
        env=environment,
        capture_output=True,
    )
    with psycopg.connect(server.dsn(DATABASE), autocommit=True) as conn:
        # A million rows for the big results, once as they are and once to be shown with a masked column.
        conn.execute(
            "create table masked as select aid, bid, abalance, filler::text from pgbench_accounts limit 1000000"
        )
        conn.execute(f"grant select on all tables in schema public to {ROLE}")


@contextmanager
def _bouncing(program: str, server: PostgresServer, tls: tuple[Path, Path] | None) -> Iterator[Target]:
    """PgBouncer in session mode with SCRAM both ways, as the user that Postgres runs as: it refuses to be root."""
    port = free_port()
    home = Path(tempfile.mkdtemp(prefix="daypass-bouncer-"))
    (home / "users.txt").write_text(f'"{ROLE}" "{SECRET}"\n')
    (home / "pgbouncer.ini").write_text(
        f"[databases]\n{DATABASE} = host={server.host} port={server.port} dbname={DATABASE}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\npool_mode = session\n"
        f"auth_type = scram-sha-256\nauth_file = {home}/users.txt\nlogfile = {home}/log\nmax_client_conn = 500\n"
        "default_pool_size = 200\nignore_startup_parameters = extra_float_digits\nverbose = 0\nlog_connections = 0\n"
        "log_disconnections = 0\nserver_tls_sslmode = disable\n"
    )
    if tls is not None:
        with (home / "pgbouncer.ini").open("a") as ini:
            ini.write(f"client_tls_sslmode = require\nclient_tls_cert_file = {home}/c.pem\n")
            ini.write(f"client_tls_key_file = {home}/k.pem\n")
        shutil.copy(tls[0], home / "c.pem")
        shutil.copy(tls[1], home / "k.pem")
    as_user: dict[str, int | list[int]] = {}
    if os.geteuid() == 0:
        runner = pwd.getpwnam("postgres")
        for path in (home, *home.iterdir()):
            os.chown(path, runner.pw_uid, runner.pw_gid)
        as_user = {"user": runner.pw_uid, "group": runner.pw_gid, "extra_groups": []}
    process = subprocess.Popen(
        [program, "-q", home / "pgbouncer.ini"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        **as_user,  # type: ignore[call-overload]
    )
    target = Target("pgbouncer", port, ROLE, SECRET, (process.pid,))
    try:
        _answers(target)
        yield target
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _relaying(server: PostgresServer) -> Iterator[Target]:
    """A bare relay of bytes on the same event loop."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.relay", str(server.port)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield Target("relay", int(process.stdout.readline()), ROLE, SECRET, (process.pid,))
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def _daypass(server: PostgresServer, home: Path, house: House, workers: int | str) -> Iterator[Target]:
    """daypass with guard and record on, from a generated configuration."""
    name = "daypass" if workers == 1 else f"daypass {workers}"
    folder = home / name.replace(" ", "-")
    initialised(folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["listen"]["host"], config["listen"]["port"] = "127.0.0.1", 0
    if not house.tls:
        config["listen"]["tls"] = {"mode": "disable"}
    config["workers"] = workers
    config["recording"]["durability"] = house.durability
    config["metrics"] = {"host": "127.0.0.1", "port": 0}
    credential = {"mode": "shared", "user": ROLE, "password_env": "BENCH_PASSWORD"}
    config["databases"] = {
        DATABASE: {
            "host": server.host,
            "port": server.port,
            "dbname": DATABASE,
            "tls": "disable",
            "credential": credential,
        }
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    for example in (folder / "policies").glob("*.yaml"):
        example.unlink()
    policy = {
        "name": "bench",
        "databases": [DATABASE],
        "search_path": ["public"],
        "tables": {"public.pgbench_*": {}, "public.masked": {"mask": {"filler": "last4"}}},
    }
    (folder / "policies" / "bench.yaml").write_text(yaml.safe_dump(policy))
    served = Served(folder, home, {"BENCH_PASSWORD": SECRET})
    try:
        served.start()
        grant = served.grant(
            person="bench@example.com",
            vendor="bench",
            database=DATABASE,
            policy="bench",
            length="2h",
            reason="benchmark",
        )
        yield Target(name, served.port, grant["user"], grant["token"], (served.pid, *_children(served.pid)))
        served.run("recording", "verify")
    finally:
        served.close()


def _answers(target: Target, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            psycopg.connect(
                host="127.0.0.1",
                port=target.port,
                user=target.user,
                password=target.password,
                dbname=DATABASE,
            ).close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
