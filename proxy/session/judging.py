"""Which judge decides for a grant: its pinned policy, the file as it is now, and the catalog of its database.

Judges are shared by all sessions and made once for each pair of policy revision and catalog revision. A grant whose
pinned revision differs from the file is judged by both. Invariant: a grant has a judge only where its policy still
exists, names its database, and that database's catalog is known; else there is no session.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from collections.abc import Callable, Iterable

import structlog

from proxy.access.model import Grant, Terms
from proxy.catalog import Catalog
from proxy.policy import ddl
from proxy.policy.ddl import RolePlan
from proxy.policy.judge import Judge, Judges, both, startup_settings
from proxy.policy.load import Policies, PolicyError, parse
from proxy.policy.model import Policy
from proxy.session.refusals import LoginRefused, refusal
from proxy.session.registry import Registry
from proxy.session.terms import terms_of
from proxy.yaml_file import Finding

log = structlog.get_logger()

WITHDRAWN_AFTER = 10.0
"""Seconds that a policy must be gone, while other files are there, before its grants end: files get replaced."""
EMPTY_AFTER = 60.0
"""The same, where no policy is left."""
KEPT_JUDGES = 64
"""Judges of old revisions are dropped above this number; one that a session still uses lives on in it."""


class Bench:
    """All judges of this process.

    `secret` keys the hash masks; each policy revision gets its own key from it. `installation` names the views and
    roles in the databases of which `ephemeral` says that their sessions use ephemeral roles.
    """

    def __init__(
        self,
        policies: Policies,
        secret: bytes,
        installation: str = "",
        ephemeral: Callable[[str], bool] = lambda database: False,
    ) -> None:
        self._policies = policies
        self._secret = secret
        self._installation = installation
        self._ephemeral = ephemeral
        self._catalogs: dict[str, Catalog] = {}
        self._problems: dict[str, str] = {}
        self._judges: dict[tuple[str, str, str], Judge] = {}
        self._pinned: dict[str, Policy] = {}
        self._sound = False
        """Whether every policy file could be read the last time."""
        self.loads = 0
        """How often the policy files were read."""

    # What the world does

    def know(self, database: str, catalog: Catalog) -> None:
        """A snapshot of a database has been taken."""
        self._catalogs[database] = catalog
        self._problems.pop(database, None)

    def unknown(self, database: str, problem: str) -> None:
        """No snapshot can be taken now; the last one, if any, stays in use."""
        self._problems[database] = problem

    def catalog(self, database: str) -> Catalog | None:
        """The snapshot in use."""
        return self._catalogs.get(database)

    def observing(self) -> list[str]:
        """The policies that refuse nothing."""
        return [name for name in self._policies.names() if self._policies.get(name).mode == "observe"]

    def schemas(self, database: str) -> set[str]:
        """The schemas that policies for this database name."""
        mine = (self._policies.get(name) for name in self._policies.names())
        return {
            name.split(".")[0]
            for policy in mine
            if database in policy.databases
            for name in (*policy.model.tables, *policy.model.functions.allow)
        }

    @property
    def ready(self) -> bool:
        """Whether at least one database can be judged for."""
        return bool(self._catalogs)

    def reload(self) -> list[Finding]:
        """Read the policy files anew; a broken one's last good revision stays in force."""
        found = self._policies.load()
        self.loads += 1
        self._sound = not found
        return found

    @property
    def changed(self) -> bool:
        """Whether policy files have changed since they were read."""
        return self._policies.changed()

    # What sessions ask

    def for_grant(self, grant: Grant) -> Judges:
        """See `opening.Judging`."""
        current = self._current(grant)
        catalog = self._catalogs.get(grant.database)
        if catalog is None:
            problem = self._problems.get(grant.database, "daypass is still reading its catalog")
            raise LoginRefused(
                refusal("upstream not ready", database=grant.database, text="it does not answer"), problem
            )
        pinned = self._pinned_policy(grant, current)
        return both(self._judge(pinned, grant.database, catalog), self._judge(current, grant.database, catalog))

    def plan(self, grant: Grant, catalog: Catalog | None = None) -> RolePlan:
        """The role plan of the policy that a grant pins, on today's catalog or another one."""
        if self._current(grant).mode == "observe":
            raise LoginRefused(refusal("observed", policy=grant.policy, database=grant.database))
        known = catalog or self._catalogs[grant.database]
        judge = self._judge(self._pinned_policy(grant, self._current(grant)), grant.database, known)
        return ddl.plan(judge.bound, self._installation)

    def terms(self, grant: Grant) -> Terms | None:
        """See `opening.Judging`."""
        try:
            return terms_of(self._current(grant))
        except LoginRefused:
            return None

    def plans(self, grants: Iterable[Grant]) -> dict[str, list[RolePlan]]:
        """The role plans that these grants have, by database; without those that cannot be told now."""
        found: dict[str, list[RolePlan]] = {}
        for grant in grants:
            if self._ephemeral(grant.database) and grant.database in self._catalogs:
                with contextlib.suppress(LoginRefused):
                    found.setdefault(grant.database, []).append(self.plan(grant))
        return found

    def withdrawn(self, grant: Grant) -> tuple[str, float] | None:
        """Why a grant's policy is no more, and how many seconds that must last to be believed; None where it stands, or
        where files that cannot be read leave it open."""
        try:
            policy = self._policies.get(grant.policy)
        except KeyError:
            if not self._sound:
                return None
            # A folder with nothing in it may be one that is not mounted.
            seconds = WITHDRAWN_AFTER if self._policies.names() else EMPTY_AFTER
            return f"the policy {grant.policy} was withdrawn", seconds
        if grant.database in policy.databases:
            return None
        return f"the policy {grant.policy} is no longer for the database {grant.database}", WITHDRAWN_AFTER

    def settings(self, grant: Grant) -> dict[str, str]:
        """See `opening.Judging`."""
        catalog = self._catalogs[grant.database]
        judges = self.for_grant(grant)
        return startup_settings(judges.policy, catalog.server_version_num, judges.limits)

    def agreements(self, grant: Grant) -> tuple[str, ...]:
        """See `opening.Judging`."""
        return tuple(dict.fromkeys((*grant.terms.agreements, *self._current(grant).model.agreements)))

    def renew(self, registry: Registry) -> None:
        """Give every open session today's judge; end those that have none any more."""
        for session in registry:
            try:
                judge = self.for_grant(session.grant)
                if session.signing:
                    continue
                if session.relay.talk.observe and judge.policy.mode != "observe":
                    # It was opened without read-only and search_path: no policy can be enforced in it.
                    raise LoginRefused(refusal("enforced", policy=judge.policy.name))
                session.relay.rejudge(judge)
                registry.follow(session, self.terms(session.grant))
            except LoginRefused as refused:
                session.finish(refused.refusal, refused.truth)
        registry.look_again()

    def _current(self, grant: Grant) -> Policy:
        try:
            policy = self._policies.get(grant.policy)
        except KeyError:
            raise LoginRefused(refusal("policy gone", policy=grant.policy, grant=grant.id)) from None
        if grant.database not in policy.databases:
            raise LoginRefused(
                refusal("policy gone", policy=grant.policy, grant=grant.id),
                f"policy {grant.policy} no longer names database {grant.database}",
            )
        return policy

    def _pinned_policy(self, grant: Grant, current: Policy) -> Policy:
        """The policy as it was when the grant was made."""
        if grant.policy_revision == current.revision:
            return current
        found = self._pinned.get(grant.policy_revision)
        if found is None:
            try:
                found = parse(grant.policy_text, f"the policy of grant {grant.id}")
            except PolicyError as broken:
                raise LoginRefused(refusal("policy gone", policy=grant.policy, grant=grant.id), str(broken)) from None
            self._pinned[grant.policy_revision] = found
        return found

    def _judge(self, policy: Policy, database: str, catalog: Catalog) -> Judge:
        key = (policy.revision, database, catalog.revision)
        judge = self._judges.get(key)
        if judge is None:
            mask_key = hmac.new(self._secret, b"mask " + policy.revision.encode(), hashlib.sha256).hexdigest()
            views = ddl.views_schema(self._installation) if self._ephemeral(database) else None
            judge = Judge(policy, catalog, key=mask_key, views=views)
            for problem in judge.problems:
                log.warning("policy_problem", policy=policy.name, database=database, problem=str(problem))
            while len(self._judges) >= KEPT_JUDGES:
                del self._judges[next(iter(self._judges))]
            self._judges[key] = judge
        return judge
