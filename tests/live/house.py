"""A whole daypass for tests: the real command in a process of its own, in front of a real Postgres.

`House` writes a configuration, runs `daypass serve`, makes grants, and reads what was recorded. Tests use the same
things as people: a port, a token, recordings, a log.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from proxy.access.grants import Grants
from proxy.access.store import Store
from proxy.clock import SystemClock
from proxy.demo.postgres import PostgresServer
from proxy.policy.load import parse
from tests.live.certificate import write_certificate
from tests.support import command
from tests.support.postgres import load_shop, read_only_role

POLICY = """
name: reader
databases: [shop]
search_path: [app]
tables:
  app.customers: {deny: [ssn], mask: {email: email}}
  app.orders: {}
  app.order_items: {}
  app.products: {}
  app.events: {}
limits: {statement_timeout: 20s, transaction: 5m}
"""
OBSERVE = "name: watcher\nmode: observe\ndatabases: [shop]\n"


class House:
    """One running daypass. `port` is where clients connect, `metrics_port` where health is asked."""

    def __init__(self, folder: Path, pg: PostgresServer, **settings: Any) -> None:
        self.folder = folder
        self.pg = pg
        self.dbname = load_shop(pg)
        self.role = read_only_role(pg, self.dbname)
        self.port = self.metrics_port = 0
        self.process: subprocess.Popen[bytes] | command.Started | None = None
        self.settings = settings
        (folder / "policies").mkdir(exist_ok=True)
        self.write_policy("reader", settings.pop("policy", POLICY))
        self.write_policy("watcher", OBSERVE)
        write_certificate(folder / "tls")
        self.configure(**settings)

    def configure(self, **settings: Any) -> None:
        """Write config.yaml; `settings` are top-level keys that replace those of the standard one."""
        config: dict[str, Any] = {
            "listen": {
                "host": "127.0.0.1",
                "port": 0,
                "tls": {"mode": "allow", "cert": "tls/cert.pem", "key": "tls/key.pem"},
            },
            "databases": {
                "shop": {
                    "host": self.pg.host,
                    "port": self.pg.port,
                    "dbname": self.dbname,
                    "tls": "disable",
                    "credential": {"mode": "shared", "user": self.role, "password_env": "SHOP_PASSWORD"},
                }
            },
            "metrics": {"host": "127.0.0.1", "port": 0},
            "recording": {"compress": "none"},  # tests read the lines themselves, also minutes later
            **settings,
        }
        # JSON is YAML.
        (self.folder / "config.yaml").write_text(json.dumps(config))

    def write_policy(self, name: str, text: str) -> None:
        """Put a policy file in its place, in one step as an editor should."""
        path = self.folder / "policies" / f"{name}.yaml"
        path.with_suffix(".new").write_text(text)
        path.with_suffix(".new").replace(path)

    # The process

    def start(
        self,
        *,
        prepare: Callable[[], None] | None = None,
        password: str = "vendor-secret",
        arguments: Sequence[str] = (),
    ) -> House:
        """Run `daypass serve` and wait until it is ready; `prepare` runs in the child before it, which then is
        a new interpreter (tests/support/command.py says what else is)."""
        with (self.folder / "serve.log").open("ab") as log:
            began = log.tell()
            words = ["-c", str(self.folder / "config.yaml"), "serve", *arguments]
            environment = {**os.environ, "SHOP_PASSWORD": password}
            if prepare is None and "LD_PRELOAD" not in environment:
                self.process = command.start(*words, stdout=log.fileno(), stderr=log.fileno(), env=environment)
            else:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "proxy.cli.main", *words],
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    env=environment,
                    preexec_fn=prepare,  # noqa: PLW1509 - no other thread runs while a test starts it
                )
        ready = self.wait_log("ready", after=began, timeout=60)
        self.port, self.metrics_port = ready["port"], ready["metrics_port"]
        return self

    def run(
        self, *words: str | Path, env: Mapping[str, str] | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """`daypass -c this house's config words...`, which knows the password that `serve` has, to its end."""
        environment = {**os.environ, "SHOP_PASSWORD": "vendor-secret", **(env or {})}
        return command.daypass("-c", self.folder / "config.yaml", *words, env=environment, timeout=timeout)

    def stop(self, how: int = signal.SIGTERM, timeout: float = 15) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.process = None

    def hurry(self) -> None:
        """End the process without waiting for its sessions."""
        if self.process is not None and self.process.poll() is None:
            for _ in range(2):
                self.process.send_signal(signal.SIGTERM)
                time.sleep(0.05)
        self.stop()

    def log(self, after: int = 0) -> list[dict[str, Any]]:
        """The log lines so far, from byte `after` on."""
        lines = (self.folder / "serve.log").read_bytes()[after:].decode(errors="replace").splitlines()
        found: list[dict[str, Any]] = []
        for line in lines:
            with contextlib.suppress(json.JSONDecodeError):
                entry = json.loads(line)
                found.append(entry if isinstance(entry, dict) else {"event": line})
        return found

    def wait_log(self, event: str, *, after: int = 0, timeout: float = 5, **facts: Any) -> dict[str, Any]:
        """Wait for a log line of this event with these facts."""
        for _ in until(timeout):
            for entry in self.log(after):
                if entry.get("event") == event and facts.items() <= entry.items():
                    return entry
            if self.process is not None and self.process.poll() is not None:
                break
        raise AssertionError(f"no {event} {facts} in the log:\n{(self.folder / 'serve.log').read_text()[-4000:]}")

    def memory(self) -> int:
        """Resident bytes of the process."""
        assert self.process is not None
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def http(self, path: str) -> tuple[int, str]:
        """(status, text) of a page on the metrics port."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}{path}", timeout=5) as page:
                return page.status, page.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    # Grants

    def grant(
        self, *, policy: str = "reader", seconds: float = 3600, starts_in: float = 0, **more: Any
    ) -> tuple[str, str]:
        """(user, token) of a new grant."""
        text = (self.folder / "policies" / f"{policy}.yaml").read_text()

        async def make(grants: Grants) -> tuple[str, str]:
            grant, token = await grants.create(
                person=more.get("person", "Ana Vendor"),
                vendor="Acme",
                database="shop",
                policy=policy,
                policy_revision=parse(text, "test").revision,
                policy_text=text,
                reason="a test",
                length=timedelta(seconds=seconds),
                starts_at=datetime.now(UTC) + timedelta(seconds=starts_in) if starts_in else None,
                bind_ip=more.get("bind_ip"),
                created_by="operator",
            )
            return grant.id, token

        made: tuple[str, str] = self._grants(make)
        return made

    def revoke(self, user: str, reason: str = "no longer needed") -> None:
        """Revoke a grant, as another process would."""

        async def end(grants: Grants) -> None:
            await grants.revoke(user, reason=reason, by="operator")

        self._grants(end)

    def _grants(self, what: Callable[[Grants], Any]) -> Any:
        async def run() -> Any:
            store = await Store.open(f"sqlite:///{self.folder / 'state.db'}")
            try:
                return await what(Grants(store, SystemClock()))
            finally:
                await store.close()

        # In a thread of its own, so that tests that run a loop may call this too.
        found: list[Any] = []

        def worker() -> None:
            found.append(asyncio.run(run()))

        import threading

        thread = threading.Thread(target=worker)
        thread.start()
        thread.join()
        assert found, "the grant store failed"
        return found[0]

    def dsn(self, login: tuple[str, str], **more: str) -> str:
        """A libpq connection string."""
        words = {
            "host": "127.0.0.1",
            "port": str(self.port),
            "dbname": "shop",
            "user": login[0],
            "password": login[1],
            "sslmode": "prefer",
            "connect_timeout": "10",
            **more,
        }
        return " ".join(f"{key}='{value}'" for key, value in words.items())

    # Recordings

    def lines(self, session: str | None = None) -> list[dict[str, Any]]:
        """The events of all session recordings, or of one, oldest first."""
        found: list[dict[str, Any]] = []
        for path in self.recordings():
            if session is None or path.name.startswith(session):
                for line in path.read_text().splitlines():
                    found.append(json.loads(line))
        return found

    def recordings(self) -> list[Path]:
        """The session recordings, by age."""
        return sorted((self.folder / "recordings").rglob("s-*.jsonl"), key=lambda path: path.name)

    def statements(self, session: str | None = None) -> list[str]:
        """The recorded statements that were sent."""
        return [
            line["sql"]
            for line in self.lines(session)
            if line["event"] == "statement" and line["verdict"] != "deny" and line.get("protocol") != "parse"
        ]

    def installation(self) -> list[dict[str, Any]]:
        """The events of the installation's own recording."""
        path = self.folder / "recordings" / "installation.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def logins(self) -> list[dict[str, Any]]:
        """The refused logins, from the installation's own recording."""
        return [entry for entry in self.installation() if entry["event"] == "login"]


def until(timeout: float, step: float = 0.02) -> Iterator[None]:
    """Go round until `timeout` seconds are over."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        yield
        time.sleep(step)
