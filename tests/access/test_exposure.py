"""What PUBLIC may do, found on real servers, and closed by the very SQL that is printed."""

from __future__ import annotations

from proxy import catalog
from proxy.access.exposure import exposures
from proxy.demo.postgres import PostgresServer
from tests.support.postgres import fresh_database, load_shop


async def test_each_finding_is_closed_by_its_sql(pg_every: PostgresServer) -> None:
    database = fresh_database(pg_every, template=load_shop(pg_every, "exposure_template"))
    connection = await catalog.connect(
        host=pg_every.host,
        port=pg_every.port,
        dbname=database,
        user=pg_every.user,
        password=pg_every.password,
        tls="disable",
        ca=None,
    )
    try:
        await connection.execute("grant usage on schema app to public; grant select (id) on app.orders to public")
        found = await exposures(connection, {"app"})
        said = {e.what: e.severity for e in found}
        assert said["SECURITY DEFINER app.leak"] == "warning"
        assert said["table app.orders"] == "warning"
        for what in ("TEMP", "language plpgsql", "large objects", "advisory locks", "NOTIFY", "sleeping"):
            assert said[what] == "notice"
        for e in found:
            if e.what == "table app.orders":
                await connection.execute("revoke select (id) on app.orders from public")
            for line in e.sql:
                await connection.execute(line)
        assert await exposures(connection, {"app"}) == []
    finally:
        await connection.close()
