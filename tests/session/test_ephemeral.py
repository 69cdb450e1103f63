"""The keeper of ephemeral roles on a real server: what it made goes with the grant, also where no login succeeded."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from proxy import config
from proxy.access.model import Grant
from proxy.access.roles import RoleError
from proxy.demo.postgres import PostgresServer
from proxy.session.ephemeral import Keeper
from tests.access.test_roles import INSTALLATION, POLICY, connect, database_of, planned

NOW = datetime.now(UTC)


def grant(id: str) -> Grant:
    return Grant(
        id=id,
        person="ana@acme.example",
        vendor="Acme",
        database="shop",
        policy="shop",
        policy_revision="r",
        policy_text=POLICY,
        reason="a test",
        bind_ip=None,
        created_at=NOW,
        created_by="ops",
        starts_at=NOW,
        expires_at=NOW + timedelta(hours=1),
        revoked_at=None,
        revoke_reason=None,
    )


def keeper_for(pg: PostgresServer, dbname: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Keeper:
    monkeypatch.setenv("ADMIN_PASSWORD", pg.password)
    credential = {"mode": "ephemeral", "user": pg.user, "password_env": "ADMIN_PASSWORD"}
    entry = {"host": pg.host, "port": pg.port, "dbname": dbname, "tls": "disable", "credential": credential}
    text = json.dumps({"listen": {"port": 0, "tls": {"mode": "disable"}}, "databases": {"shop": entry}})
    return Keeper(config.load(folder / "config.yaml", text), INSTALLATION, b"secret")


@pytest.mark.parametrize("refused", [True, False])
async def test_a_plan_goes_with_its_grant_also_where_its_login_was_refused(
    pg: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, refused: bool
) -> None:
    database = database_of(pg)
    owner = psycopg.connect(pg.dsn(database), autocommit=True)
    admin = await connect(pg, database)
    keeper = keeper_for(pg, database, tmp_path, monkeypatch)

    def ours() -> int:
        found = owner.execute(f"select count(*) from pg_roles where rolname ~ '^daypass_{INSTALLATION}'").fetchone()
        assert found is not None
        return int(found[0])

    try:
        plan, _ = await planned(admin)
        ana = grant("g-00000001")
        if refused:
            owner.execute("grant usage on schema hr to public; grant select on hr.salaries to public")
            with pytest.raises(RoleError, match=r"hr\.salaries"):
                await keeper.credential(ana, plan, 1)
        else:
            await keeper.credential(ana, plan, 1)
        # Rounds while the grant lives: the plan is wanted, and nothing else is left.
        for _ in range(2):
            await keeper.reconcile({ana.id: ana}, {"shop": [plan]})
            assert ours() >= 1
        await keeper.reconcile({}, {"shop": []})
        assert ours() == 0
    finally:
        await keeper.close()
        await admin.close()
        owner.close()
