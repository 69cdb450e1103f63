"""What a policy's role may read, as DDL: a plan that proxy.access carries out. Pure: it talks to no database.

One NOLOGIN role for each plan holds USAGE, SELECT on what is shown whole, and SELECT on the views that stand for the
rest. Plans and views are named by their content, so making one twice is making it once. The wall for hidden data is
this role, not the guard.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from proxy.policy.bind import Bound
from proxy.policy.builtins import quote


@dataclass(frozen=True, slots=True)
class View:
    """One security_barrier view: where it stands, and the SELECT that it is."""

    schema: str
    name: str
    select: str
    table: str

    @property
    def create(self) -> str:
        return f"CREATE VIEW {quote(self.schema)}.{quote(self.name)} WITH (security_barrier) AS {self.select}"

    @property
    def comment(self) -> str:
        """What a migration of the owner's sees that fails because of this view."""
        text = (
            f"daypass shows {self.table} through this view. Before you alter the table: "
            "daypass database release NAME drops it at once; it is made again afterwards."
        ).replace("'", "''")
        return f"COMMENT ON VIEW {quote(self.schema)}.{quote(self.name)} IS '{text}'"


@dataclass(frozen=True, slots=True)
class RolePlan:
    """The role of one policy revision on one catalog. `tables` are shown whole, `views` in part."""

    role: str
    schema: str
    schemas: tuple[str, ...]
    tables: tuple[tuple[str, str], ...]
    views: tuple[View, ...]
    functions: tuple[tuple[str, str], ...]

    @property
    def grants(self) -> tuple[str, ...]:
        """The GRANTs, to be made once after role and views exist."""
        role = quote(self.role)
        lines = [f"GRANT USAGE ON SCHEMA {quote(s)} TO {role}" for s in (*self.schemas, self.schema)]
        lines += [f"GRANT SELECT ON {quote(s)}.{quote(t)} TO {role}" for s, t in self.tables]
        lines += [f"GRANT SELECT ON {quote(v.schema)}.{quote(v.name)} TO {role}" for v in self.views]
        return tuple(lines)


def views_schema(installation: str) -> str:
    """The schema of an installation's views in any database."""
    return f"daypass_{installation}_views"


def plan(bound: Bound, installation: str) -> RolePlan:
    """The plan for a bound policy. `bound` was bound with `views=views_schema(installation)`."""
    schema = views_schema(installation)
    shown = [s for key, s in sorted(bound.relations.items()) if key[0] not in ("pg_catalog", "information_schema")]
    tables = tuple((s.relation.schema, s.relation.name) for s in shown if s.view is None)
    views = tuple(
        View(*s.view, s.substitute, s.relation.qualified) for s in shown if s.view is not None and s.substitute
    )
    functions = tuple(
        sorted({(f.schema, f.name) for f in bound.catalog.functions if (f.schema, f.name) in bound.allowed_functions})
    )
    schemas = {s.relation.schema for s in shown} | {schema for schema, _ in functions}
    content = repr((bound.catalog.database, sorted(schemas), tables, views, functions))
    mark = hashlib.sha256(content.encode()).hexdigest()[:12]
    return RolePlan(f"daypass_{installation}_p_{mark}", schema, tuple(sorted(schemas)), tables, views, functions)
