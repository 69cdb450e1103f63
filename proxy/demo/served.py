"""This installation's `daypass` as processes: `serve` in the background, every other command in the foreground.

For the demonstration and the benchmark, which drive daypass only as a user does. It knows the command line and the
ready line of the log, nothing else. When its owner is gone, the server and its folder are gone as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proxy.demo.watchdog import Watchdog


class ServedError(Exception):
    """A command failed or the server did not get ready; the text has its output."""


class Served:
    """daypass on the configuration in `folder`/config.yaml, with `secrets` in its environment.

    `home` is removed should the owner be killed; it is usually the folder's parent.
    """

    def __init__(self, folder: Path, home: Path, secrets: Mapping[str, str]) -> None:
        self.folder = folder
        self.port = 0
        self._home = home
        self._secrets = dict(secrets)
        self._server: subprocess.Popen[bytes] | None = None
        self._watchdog: Watchdog | None = None

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def pid(self) -> int:
        """Of the running server; 0 when there is none."""
        return self._server.pid if self._server is not None else 0

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """One command on this configuration; with `check`, ServedError unless it ends with 0."""
        done = subprocess.run(
            [*_daypass(), "-c", str(self.config), *arguments],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env=self._environment(),
        )
        if check and done.returncode:
            raise ServedError(
                f"daypass {shlex.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done

    def show(self, *arguments: str, width: int, colour: bool) -> int:
        """One command whose output goes where ours goes; its exit code."""
        sys.stdout.flush()
        look = {"COLUMNS": str(width)} | ({} if colour else {"NO_COLOR": "1"})
        return subprocess.run(
            [*_daypass(), "-c", str(self.config), *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            env=self._environment() | look,
        ).returncode

    def grant(self, **options: str) -> dict[str, Any]:
        """`grant create` with these options (length for --for); what it printed."""
        named = {"for" if key == "length" else key: value for key, value in options.items()}
        flags = [word for key, value in named.items() for word in (f"--{key}", value)]
        printed: dict[str, Any] = json.loads(self.run("grant", "create", *flags, "-o", "json").stdout)
        return printed

    def start(self, seconds: float = 20.0) -> None:
        """Starts `serve`; returns when it accepts sessions."""
        path = self.folder / "serve.log"
        with path.open("wb") as log:
            self._server = subprocess.Popen(
                [*_daypass(), "-c", str(self.config), "serve"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment(),
                start_new_session=True,  # Ctrl-C is its owner's; the server gets SIGTERM and time to seal the record
            )
        self._watchdog = Watchdog(self._server.pid, self._home)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._server.poll() is None:
            for line in path.read_text(errors="replace").splitlines():
                with contextlib.suppress(json.JSONDecodeError):
                    entry = json.loads(line)
                    if isinstance(entry, dict) and entry.get("event") == "ready":
                        self.port = int(entry["port"])
                        return
            time.sleep(0.02)
        raise ServedError(f"daypass serve did not get ready:\n{self.log()}")

    def close(self) -> None:
        """Ends the server in order: it seals its recordings. Safe to call twice."""
        if self._server is not None:
            self._server.terminate()
            try:
                self._server.wait(15)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
            self._server = None
        if self._watchdog is not None:
            self._watchdog.release()
            self._watchdog = None

    def log(self) -> str:
        """The end of what the server logged."""
        path = self.folder / "serve.log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def command(self) -> str:
        """What a person types to run a command on this configuration."""
        beside = Path(sys.executable).with_name("daypass")
        return shlex.join([str(beside) if beside.exists() else "daypass", "-c", str(self.config)])

    def _environment(self) -> dict[str, str]:
        # Whoever started us may have PGPASSWORD or DAYPASS_CONFIG set; neither is meant for this one.
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "DAYPASS_"))}
        return kept | self._secrets


def initialised(folder: Path) -> None:
    """`daypass init`: configuration, keys, certificate and an example policy in `folder`."""
    done = subprocess.run([*_daypass(), "init", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServedError(f"daypass init ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def _daypass() -> list[str]:
    """The command line of this very installation, whatever the PATH says."""
    return [sys.executable, "-m", "proxy.cli.main"]
