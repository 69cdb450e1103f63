"""The house's pulse: what has to be looked at again and again, each in its own rhythm.

Outcomes reach the disk, deadlines and revocations end sessions, changed policy files and catalogs reach the judges.
A round that fails is logged and tried again at the next; none of them can stop another.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import asyncpg
import structlog

from proxy import catalog
from proxy.access import exposure
from proxy.access.grants import Grants
from proxy.access.hosts import Hosts
from proxy.access.kills import Kills
from proxy.access.lead import Lead
from proxy.access.model import Grant
from proxy.access.privileges import Connection
from proxy.access.roles import Released, RoleError, refuse_released
from proxy.access.store import StoreError
from proxy.config import Config, ConfigError, Database
from proxy.server.metrics import Counts
from proxy.server.notify import Notifier
from proxy.server.streams import Streams
from proxy.session.ephemeral import Keeper, connections
from proxy.session.holding import Holding
from proxy.session.judging import Bench
from proxy.session.refusals import LoginRefused, refusal
from proxy.session.registry import Registry
from proxy.session.removal import Removal
from proxy.session.renewing import Renewing
from proxy.session.steward import Steward
from proxy.session.timekeeper import Timekeeper
from proxy.tasks import spawn
from recorder.files import RecordError
from recorder.journal import Recorder
from recorder.upkeep import Upkeep

log = structlog.get_logger()

FLUSH_EVERY: Final = 0.05
EVERY_SECOND: Final = 1.0
GRANTS_EVERY: Final = 0.25
AGREEMENTS_EVERY: Final = 0.5
CATALOG_EVERY: Final = 5.0
CHECKPOINT_EVERY: Final = 10.0
UPKEEP_EVERY: Final = 10.0


Round = tuple[str, float, Callable[[], Awaitable[None]]]
"""A name, how often (seconds), and what is done."""


class Watch:
    """All the rounds of one server."""

    def __init__(
        self,
        *,
        config: Config,
        recorder: Recorder,
        upkeep: Upkeep,
        registry: Registry,
        grants: Grants,
        kills: Kills,
        bench: Bench,
        keeper: Keeper,
        counts: Counts,
        steward: Steward,
        removal: Removal,
        timekeeper: Timekeeper,
        holding: Holding,
        renewing: Renewing,
        notifier: Notifier,
        witnessing: Callable[[bytes | None], Awaitable[None]],
        more: Sequence[Round],
        lead: Lead,
        hosts: Hosts,
        streams: Streams,
    ) -> None:
        self._config = config
        self._recorder = recorder
        self._upkeep = upkeep
        self._registry = registry
        self._grants = grants
        self._kills = kills
        self._bench = bench
        self._keeper = keeper
        self._counts = counts
        self._steward = steward
        self._removal = removal
        self._timekeeper = timekeeper
        self._holding = holding
        self._renewing = renewing
        self._notifier = notifier
        self._witnessing = witnessing
        self._more = more
        self._lead = lead
        self._hosts = hosts
        self._streams = streams
        self._led = False
        self._tasks: list[asyncio.Task[None]] = []
        self._quiet = grants.quiet()
        self._asked_for = -1
        """How many sessions there had been when the state was last asked about them."""
        self.fault: str | None = None
        """Why the state cannot be read; None while it can."""
        self.catalog_changed: Callable[[str], None] = lambda database: None
        """Called with the name of a database whose catalog has changed, before anything is done about it."""
        self._sooner = {name: asyncio.Event() for name in config.databases}
        self._definers: dict[str, list[str]] = {}
        self._untried = set(config.databases)
        self._tried = asyncio.Event()

    def start(self) -> None:
        """Begin all rounds."""
        rounds: list[Round] = [
            ("flush", FLUSH_EVERY, self._flush),
            ("deadlines", GRANTS_EVERY, self._deadlines),
            ("grants", GRANTS_EVERY, self._look_at_state),
            ("policies", EVERY_SECOND, self._policies),
            ("agreements", AGREEMENTS_EVERY, self._renewing.round),
            ("probe", EVERY_SECOND, self._probe),
            ("checkpoint", CHECKPOINT_EVERY, self._checkpoint),
            ("upkeep", UPKEEP_EVERY, self._keep_up),
            ("roles", EVERY_SECOND, self._roles),
            ("holds", GRANTS_EVERY, self._holding.round),
            ("removals", EVERY_SECOND, self._removals),
            ("clock", EVERY_SECOND, self._timekeeper.round),
            ("lead", EVERY_SECOND, self._claim),
            ("steward", EVERY_SECOND, self._stages),
            ("sinks", EVERY_SECOND, self._stream),
            ("prune", EVERY_SECOND, self._prune),
            ("spent", EVERY_SECOND, self.save_spent),
        ]
        rounds += self._more
        rounds += [(f"notify {name}", EVERY_SECOND, self._notices(name)) for name in self._notifier.sinks]
        for name, every, what in rounds:
            self._tasks.append(spawn(_repeat(name, every, what), name=name))
        for name, database in self._config.databases.items():
            self._tasks.append(spawn(self._catalog(name, database), name=f"catalog {name}"))

    async def first_look(self, seconds: float) -> None:
        """Wait until every database has been asked for its catalog once, at most `seconds`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._tried.wait(), seconds)

    def look_at(self, database: str) -> None:
        """Another process has seen this database's catalog change: look now."""
        if database in self._sooner:
            self._sooner[database].set()

    def looked_enough(self) -> None:
        """`first_look` is over, whatever it has seen."""
        self._tried.set()

    async def stop(self) -> None:
        """End all rounds."""
        self._upkeep.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._steward.close()
        await self._lead.let_go()

    def reload_policies(self) -> None:
        """Read the policy files now, whether they seem changed or not."""
        findings = self._bench.reload()
        self._counts.reloads["bad" if findings else "good"] += 1
        for finding in findings:
            log.error("policy_broken", file=finding.file, line=finding.line, key=finding.key, message=finding.message)
        self._bench.renew(self._registry)
        log.info("policies_loaded", problems=len(findings))
        observing = self._bench.observing()
        self._counts.observing = len(observing)
        for name in observing:
            log.warning("policy_observes", policy=name, message="it records everything and refuses nothing")

    # Rounds

    async def _flush(self) -> None:
        self._recorder.flush_all()
        if not self._recorder.healthy():
            self._end_unrecorded()

    def _end_unrecorded(self) -> None:
        """A session whose recording is broken must not go on, whether or not it sends another statement."""
        for session in self._registry:
            broken = session.relay.talk.recording.broken
            if broken is not None:
                session.finish(refusal("recording"), broken)

    async def _deadlines(self) -> None:
        self._registry.tick()

    async def _look_at_state(self) -> None:
        """Revocations, and orders to end a session: nothing is asked where nobody has written since the last time."""
        if not len(self._registry):
            return
        quiet, added = self._quiet.holds(), self._registry.added
        if quiet and added == self._asked_for:
            return
        seen = {session.id for session in self._registry}
        try:
            live = await self._grants.live()
            kills = await self._kills.take(seen)
        except StoreError as problem:
            # Deadlines still hold; a revocation is seen as soon as the state is there again.
            if self.fault is None:
                log.error("state_unavailable", reason=str(problem))
            self.fault = str(problem)
            return
        self.fault = None
        self._quiet.rest()
        self._asked_for = added
        self._registry.keep_only(live, seen, await self._why(live))
        for kill in kills:
            log.warning("session_killed", session=kill.session, by=kill.by)
            self._registry.kill(kill.session, reason=kill.reason, by=kill.by)

    async def _why(self, live: dict[str, Grant]) -> dict[str, Grant]:
        """Of the sessions' grants those that are over: the last word to a client is the reason."""
        gone = {session.grant.id for session in self._registry} - live.keys()
        if not gone:
            return {}
        try:
            return await self._grants.these(gone)
        except StoreError as problem:  # they end all the same
            log.error("state_unavailable", reason=str(problem))
            return {}

    async def save_spent(self) -> None:
        """Write down what grants have used, so that a restart does not give it back."""
        for grant, spent in self._registry.unsaved().items():
            rows, octets = spent.new_rows, spent.new_octets
            await self._grants.spend(grant, rows, octets)
            spent.new_rows -= rows
            spent.new_octets -= octets

    async def _policies(self) -> None:
        if self._bench.changed:
            self.reload_policies()

    async def _probe(self) -> None:
        if not self._recorder.healthy():
            self._recorder.probe()

    async def _checkpoint(self) -> None:
        for found in self._recorder.checkpoint():
            log.warning("recording_recovered", what=str(found))

    def leads(self) -> bool:
        """Whether this is the one process, among all of all hosts, that does what only one should do."""
        return self._registry.commons.leads() and self._lead.holds()

    async def _claim(self) -> None:
        """One process of each host asks for the lock in the state; which of the hosts has it, leads."""
        if self._registry.commons.leads():
            leads = await self._lead.hold()
        else:
            await self._lead.let_go()
            leads = False
        if leads != self._led:
            log.info("leads" if leads else "lost_the_lead")
        self._led = leads
        if self._registry.commons.leads():
            await self._hosts.tell(self._registry.commons.sat())

    async def _stages(self) -> None:
        if self.leads():
            await self._steward.round()

    async def _stream(self) -> None:
        """The folder is this host's, so whoever leads on it delivers, as it is with the upkeep."""
        self._streams.lead(self._registry.commons.leads())

    async def _keep_up(self) -> None:
        """Checkpoints, packing and deleting: all the folder's, so one process does it, and none of it on this loop."""
        if not self._registry.commons.leads():
            return
        try:
            done = await asyncio.to_thread(self._upkeep.round)
        except (OSError, RecordError) as problem:
            log.error("upkeep_failed", reason=str(problem))
            return
        await self._witnessing(done.checkpoint)
        if done.packed:
            plain, stored = (sum(sizes) for sizes in zip(*((e.plain_bytes, e.bytes) for e in done.packed), strict=True))
            log.info("recordings_stored", count=len(done.packed), bytes=plain, stored_bytes=stored)
        for one in done.deleted:
            log.warning("recording_expired", recording=one.id, grant=one.grant)

    async def _removals(self) -> None:
        if self.leads():
            await self._removal.round()
        else:
            self._removal.pending = 0

    def _notices(self, sink: str) -> Callable[[], Awaitable[None]]:
        async def tell() -> None:
            if self.leads():
                await self._notifier.round(sink)

        return tell

    async def _prune(self) -> None:
        if self.leads():
            await self._notifier.prune()

    async def _roles(self) -> None:
        """Pause what stands on released tables; drop the roles of grants that are over, and of those before a crash."""
        if not any(self._keeper.is_for(name) for name in self._config.databases):
            return
        await self._keeper.look_at_releases()
        for session in self._registry:
            grant = session.grant
            if session.signing:
                continue
            if released := self._keeper.released(grant.database):
                try:
                    refuse_released(self._bench.plan(grant), released)
                except Released as problem:
                    session.finish(refusal("released", grant=grant.id, table=problem.table), str(problem))
                except LoginRefused as refused:
                    session.finish(refused.refusal, refused.truth)
        if not self.leads():
            return
        live = await self._grants.live()
        now = self._registry.clock.now()
        await self._keeper.suspend([g for g in live.values() if g.state(now, self._bench.terms(g)) == "paused"])
        for name in await self._keeper.reconcile(live, self._bench.plans(live.values())):
            log.info("role_dropped", role=name)

    async def _bring_up_to_date(self, database: str, snapshot: catalog.Catalog) -> None:
        """The roles of open sessions get what the next judge will send them to, before it does."""
        if not self._keeper.is_for(database):
            return
        for session in self._registry:
            grant = session.grant
            if grant.database == database and not session.signing:
                try:
                    limit = connections(grant, session.relay.talk.judge)
                    await self._keeper.credential(grant, self._bench.plan(grant, snapshot), limit)
                except Released as problem:
                    session.finish(refusal("released", grant=grant.id, table=problem.table), str(problem))
                except (RoleError, LoginRefused) as problem:
                    session.finish(refusal("policy gone", policy=grant.policy, grant=grant.id), str(problem))

    async def _doors(self, name: str, connection: Connection) -> None:
        """Say it loudly, once for each change: what these functions read no role keeps, only the guard does."""
        found = await exposure.open_definers(connection, self._bench.schemas(name))
        if found != self._definers.get(name, []):
            log.warning(
                "security_definer_open",
                database=name,
                functions=found,
                message="everybody may run these with their owner's rights; `daypass database check` prints the REVOKEs"
                if found
                else "none is left",
            )
        self._definers[name] = found
        self._counts.definers[name] = len(found)

    async def _catalog(self, name: str, database: Database) -> None:
        """Keep the snapshot of one database: taken as soon as it answers, taken again when it has changed."""
        connection: asyncpg.Connection[Any] | None = None
        wait = 0.0
        told = ""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._sooner[name].wait(), wait)
            self._sooner[name].clear()
            try:
                if connection is None or connection.is_closed():
                    connection = await catalog.connect_to(database)
                known = self._bench.catalog(name)
                if known is None or await catalog.fingerprint(connection) != known.fingerprint:
                    if known is not None:
                        self.catalog_changed(name)
                    snapshot = await catalog.read(connection)
                    await self._bring_up_to_date(name, snapshot)
                    self._bench.know(name, snapshot)
                    self._bench.renew(self._registry)
                    log.info("catalog_read", database=name, revision=snapshot.revision)
                    await self._doors(name, connection)
                if self.leads():
                    await self._keeper.settle(name)
                wait, told = CATALOG_EVERY, ""
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ConfigError) as problem:
                text = str(problem) or type(problem).__name__
                self._bench.unknown(name, text)
                if text != told:
                    log.warning("catalog_unavailable", database=name, reason=text)
                wait, told = EVERY_SECOND, text
                if connection is not None:
                    connection.terminate()
                    connection = None
            self._untried.discard(name)
            if not self._untried:
                self._tried.set()


async def _repeat(name: str, every: float, what: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(every)
        try:
            await what()
        except Exception:
            log.exception("round_failed", round=name)
