"""The demonstration itself: sets the stage, lets a vendor work, shows both sides, and says whether all was right.

Exit code 0 only if everything that should be allowed was, everything that should be refused was, nothing in the
database changed, and the recording of it all verifies.
"""

from __future__ import annotations

import json
import signal
import time
from datetime import UTC, datetime
from types import FrameType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.rule import Rule
from rich.syntax import Syntax

from proxy.demo.client import ClientError, connect
from proxy.demo.postgres import PostgresError
from proxy.demo.script import STEPS, WALL, Step
from proxy.demo.served import ServedError
from proxy.demo.stage import Stage


class Play:
    """One performance on one console."""

    def __init__(self, console: Console, *, once: bool, client: str = "auto") -> None:
        self._console = console
        self._once = once
        self._client = client
        self._checks = 0
        self._wrong: list[str] = []

    def run(self) -> int:
        """Exit code: 0 all as it should be, 1 something was not, 3 the stage could not be built."""
        say = self._console.print
        began = time.monotonic()
        say("[bold]daypass demo[/bold]  a vendor works on a production database for an hour, and the owner has proof\n")
        try:
            with Stage(self._built) as stage:
                self._perform(stage)
                self._verdict(time.monotonic() - began)
                if not self._once:
                    self._invite(stage)
        except (ServedError, PostgresError) as error:
            say(f"[red]daypass demo could not be set up:[/red] {escape(str(error))}")
            return 3
        return 1 if self._wrong else 0

    def _built(self, text: str, seconds: float) -> None:
        self._console.print(f"  [green]✓[/green] {escape(text)} [dim]{seconds:.1f} s[/dim]")

    def _perform(self, stage: Stage) -> None:
        before = stage.fingerprint()
        short = stage.grant("mallory@acme.example", "1s", "a token that is over at once")
        grant = stage.grant("maria@acme.example", "1h", "TICKET-4711: why is revenue down?")
        self._console.print(
            f"  [green]✓[/green] grant {grant['grant']} for maria@acme.example: database {grant['database']}, "
            f"policy {grant['policy']}, until {_clock(grant['expires_at'])}\n"
        )
        self._vendor(stage, grant)
        self._wall(stage, grant)
        self._expired(stage, short)
        self._check("nothing in the database changed", stage.fingerprint() == before)
        self._owner(stage, grant)
        self._end(stage, grant)

    def _vendor(self, stage: Stage, grant: dict[str, Any]) -> None:
        try:
            client = connect(stage.login(grant), self._client)
        except ClientError as error:
            raise ServedError(f"the vendor could not log in: {error}\n{stage.served.log()}") from error
        self._title(f"What the vendor sees · {client.name} over TLS with channel binding")
        if client.greeting():
            self._console.print(escape(client.greeting()), style="cyan")
        self._check("a greeting says that the session is recorded", "record" in client.greeting().lower())
        try:
            for step in STEPS:
                self._step(step, client.run(step.sql))
        except ClientError as error:
            raise ServedError(f"the vendor's connection ended: {error}\n{stage.served.log()}") from error
        finally:
            client.close()

    def _step(self, step: Step, answer: str) -> None:
        self._console.print(f"\n[dim]-- {escape(step.title)}[/dim]")
        self._console.print(Syntax(step.sql, "postgresql", theme="ansi_dark", background_color="default"))
        self._console.print(escape(answer), style="red" if answer.startswith("ERROR") else "", highlight=False)
        self._check(step.title, step.complaint(answer) is None, step.complaint(answer))

    def _wall(self, stage: Stage, grant: dict[str, Any]) -> None:
        """The role of the grant, asked without daypass in between: Postgres itself keeps what is hidden."""
        role = stage.role(grant)
        self._title("Had daypass been fooled: the vendor's role, asked past it")
        for sql, refused in WALL:
            answer = stage.as_role(role, sql)
            self._console.print(f"\n{role}=> {escape(sql)}", highlight=False)
            self._console.print(escape(answer), style="red" if answer.startswith("ERROR") else "", highlight=False)
            self._check(f"past daypass: {sql}", answer.startswith("ERROR:") is refused, answer)

    def _end(self, stage: Stage, grant: dict[str, Any], seconds: float = 10.0) -> None:
        """The grant ends, and its role with it."""
        self._shell(stage, "grant", "revoke", grant["grant"], "--reason", "done", "-o", "table")
        deadline = time.monotonic() + seconds
        while (role := stage.role(grant)) and time.monotonic() < deadline:
            time.sleep(0.1)
        self._console.print("its role in Postgres is dropped" if not role else f"its role {role} is still there")
        self._check("the grant's role is dropped with it", not role, role)

    def _expired(self, stage: Stage, grant: dict[str, Any]) -> None:
        self._console.print("\n[dim]-- another vendor, whose grant of one second is over[/dim]")
        end = datetime.fromisoformat(grant["expires_at"])
        while (left := (end - datetime.now(UTC)).total_seconds()) > -0.05:
            time.sleep(max(0.01, min(left + 0.05, 0.2)))
        try:
            connect(stage.login(grant), self._client).close()
            said = "logged in"
        except ClientError as error:
            said = str(error)
        self._console.print(escape(said), style="red")
        self._check("an expired token is refused and told why", "expired" in said, said)

    def _owner(self, stage: Stage, grant: dict[str, Any]) -> None:
        self._title("What the owner keeps")
        session = self._session(stage, grant)
        self._shell(stage, "session", "list", "-o", "table")
        self._shell(stage, "recording", "verify", "-o", "table")
        exported = stage.served.run("recording", "export", session, "--format", "jsonl").stdout
        self._recorded([json.loads(line) for line in exported.splitlines()])
        pace = ["--no-wait"] if self._once or not self._console.is_terminal else ["--speed", "4", "--max-idle", "0.5"]
        self._shell(stage, "recording", "replay", session, *pace)

    def _session(self, stage: Stage, grant: dict[str, Any], seconds: float = 5.0) -> str:
        """The id of the vendor's session, once it has ended and is sealed."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for entry in json.loads(stage.served.run("session", "list", "-o", "json").stdout):
                if entry["grant"] == grant["grant"] and entry["state"] != "open":
                    return str(entry["session"])
            time.sleep(0.1)
        raise ServedError(f"the vendor's session is not in `session list` as ended\n{stage.served.log()}")

    def _recorded(self, events: list[dict[str, Any]]) -> None:
        """Every statement of the script stands in the record, and what was refused there too."""
        failed = {e["n"] for e in events if e["event"] == "outcome" and e.get("sqlstate")}
        said = {
            e["sql"].strip().rstrip(";"): e["verdict"] == "deny" or e["n"] in failed
            for e in events
            if e["event"] == "statement"
        }
        for step in STEPS:
            refused = said.get(step.sql.strip().rstrip(";"))
            self._check(f"recorded: {step.title}", refused is step.refused, f"the recording says refused = {refused}")

    def _shell(self, stage: Stage, *arguments: str) -> None:
        self._console.print(f"\n[bold]$ daypass {' '.join(arguments)}[/bold]")
        colour = self._console.is_terminal and not self._console.no_color
        ended = stage.served.show(*arguments, width=self._console.width, colour=colour)
        self._check(f"daypass {arguments[0]} {arguments[1]}", ended == 0, f"ended with {ended}")

    def _check(self, what: str, right: bool, why: str | None = None) -> None:
        self._checks += 1
        if not right:
            self._wrong.append(f"{what}: {why or 'no'}")
            self._console.print(f"[bold red]✗ {escape(self._wrong[-1])}[/bold red]")

    def _verdict(self, seconds: float) -> None:
        allowed = sum(not step.refused for step in STEPS)
        self._console.print()
        if self._wrong:
            failed = f"✗ {len(self._wrong)} of {self._checks} checks failed"
            self._console.print(f"[bold red]{failed}[/bold red] [dim]{seconds:.0f} s[/dim]")
            for line in self._wrong:
                self._console.print(f"  [red]{escape(line)}[/red]")
            return
        self._console.print(
            f"[bold green]✓ {allowed} statements that should be allowed were; {len(STEPS) - allowed} that should be "
            "refused were, and so was the expired token.[/bold green]\n"
            f"  Nothing in the database changed; all of it is recorded and verifies. "
            f"[dim]{self._checks} checks, {seconds:.0f} s[/dim]"
        )

    def _invite(self, stage: Stage) -> None:
        grant = stage.grant("you@acme.example", "1h", "trying daypass")
        login = stage.login(grant)
        self._title("Your turn")
        self._console.print("Be the vendor, in another terminal (the token is good for an hour):\n")
        self._console.out(f"PGPASSWORD={login.token} psql '{login.url()}'", highlight=False)
        self._console.print("\nThen be the owner:\n")
        for command in ("session list", "recording verify", f"grant revoke {grant['grant']} --reason enough"):
            self._console.out(f"{stage.served.command()} {command}", highlight=False)
        self._console.print("\n[dim]Ctrl-C ends it all and leaves nothing behind.[/dim]")
        try:
            signal.pause()
        except KeyboardInterrupt:
            self._console.print("\nEnded.")

    def _title(self, text: str) -> None:
        self._console.print()
        self._console.print(Rule(f"[bold]{escape(text)}[/bold]", align="left"))


def _clock(text: str) -> str:
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%H:%M UTC")


def _terminated(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(143)


def run(*, once: bool, client: str = "auto") -> int:
    """The whole demonstration in the foreground; see `Play.run` for the exit code. 130 and 143: Ctrl-C, SIGTERM."""
    signal.signal(signal.SIGTERM, _terminated)
    signal.signal(signal.SIGHUP, _terminated)
    try:
        return Play(Console(soft_wrap=True), once=once, client=client).run()
    except KeyboardInterrupt:
        return 130
