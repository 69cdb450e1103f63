"""What a policy asks of a grant beside its tables and limits, as `access` understands it.

Brings together `policy`'s model and `access`'s terms, which do not know each other. Invariant: what is asked for at
the request and what the file says later are read in the same way.
"""

from __future__ import annotations

from proxy.access.model import Terms
from proxy.policy.model import Policy


def terms_of(policy: Policy) -> Terms:
    """The terms that a policy says now."""
    model = policy.model
    asked = model.approvals
    return Terms(
        approvals=asked.count if asked is not None else 0,
        approvers=tuple(asked.from_) if asked is not None else (),
        agreements=tuple(model.agreements),
        prechecks=tuple(model.prechecks),
        network=policy.network,
        days=policy.window.days,
        hours=policy.window.hours,
        timezone=policy.window.timezone,
        max_seconds=policy.window.max,
    )
