"""A release lasts as long as it says, ends by itself when a table has changed and kept still, and survives nonsense."""

from __future__ import annotations

from proxy.access import releases
from proxy.demo.postgres import PostgresServer
from tests.access.test_roles import INSTALLATION, connect, database_of

SCHEMA = releases.schema_of(INSTALLATION)


async def test_a_release_ends_by_itself_after_a_migration_of_two_steps(pg: PostgresServer) -> None:
    connection = await connect(pg, database_of(pg))
    try:
        await releases.release(connection, INSTALLATION, "app.orders", 60, by_itself=True)
        await releases.release(connection, INSTALLATION, "app.products", 60, by_itself=False)
        over, seen = await releases.settled(connection, INSTALLATION, {})
        assert (over, len(seen)) == ([], 1)
        over, seen = await releases.settled(connection, INSTALLATION, seen)  # nothing has changed yet
        assert over == []
        await connection.execute("alter table app.orders alter column note type varchar(99)")
        over, seen = await releases.settled(connection, INSTALLATION, seen)
        assert over == []
        await connection.execute("alter table app.orders drop column note; alter table app.products drop column price")
        over, seen = await releases.settled(connection, INSTALLATION, seen)
        assert over == []
        over, _ = await releases.settled(connection, INSTALLATION, seen)
        assert over == ["app.orders"]
        assert set(await releases.standing(connection, SCHEMA)) == {"app.products"}
        assert await releases.lift(connection, INSTALLATION, "app.orders") == []
        assert await releases.lift(connection, INSTALLATION, "app.products") == ["app.products"]
    finally:
        await connection.close()


async def test_it_is_over_when_its_time_is_and_a_comment_of_others_is_none(pg: PostgresServer) -> None:
    connection = await connect(pg, database_of(pg))
    try:
        assert await releases.standing(connection, SCHEMA) == {}
        await releases.release(connection, INSTALLATION, None, -1, by_itself=False)
        assert await releases.standing(connection, SCHEMA) == {}
        await releases.release(connection, INSTALLATION, None, 60, by_itself=False)
        assert set(await releases.standing(connection, SCHEMA)) == {releases.ALL}
        for text in ("mine", "[1]", '{"released": 3}', '{"released": {"a": 1}}'):
            await connection.execute(f"comment on schema {SCHEMA} is '{text}'")
            assert await releases.standing(connection, SCHEMA) == {}
    finally:
        await connection.close()
