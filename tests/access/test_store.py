"""The state: opened by many at once, kept private, migrated whole, its failures in one line without secrets.

Covers proxy/access/tables.py and proxy/access/migrations.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from proxy.access import migrations, tables
from proxy.access.grants import Grants
from proxy.access.store import HEAD, Store, StoreError
from proxy.clock import SystemClock

OPEN = """
import asyncio, sys
from proxy.access.store import Store
async def main():
    store = await Store.open(sys.argv[1])
    async with store.read() as connection:
        from proxy.access.tables import installation
        import sqlalchemy as sa
        print(*(await connection.execute(sa.select(installation.c.id))).scalars())
    await store.close()
asyncio.run(main())
"""


async def test_opened_again_it_is_the_same(url: str) -> None:
    ids = []
    for _ in range(2):
        store = await Store.open(url)
        async with store.read() as connection:
            ids.append((await connection.execute(sa.select(tables.installation))).one())
        await store.close()
    assert ids[0] == ids[1]
    assert len(ids[0].mock_key) == 32


@pytest.mark.thorough
def test_two_processes_may_open_a_new_state_at_once(url: str) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", OPEN, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    answers = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [0] * 4, answers
    assert len({out for out, _ in answers}) == 1


SPEND = """
import asyncio, sys
from proxy.access.grants import Grants
from proxy.access.store import Store
from proxy.clock import SystemClock
async def main():
    store = await Store.open(sys.argv[1])
    grants = Grants(store, SystemClock())
    for _ in range(30):
        await grants.spend(sys.argv[2], 1, 10)
        assert sys.argv[2] in await grants.live()
    await store.close()
asyncio.run(main())
"""


@pytest.mark.thorough
async def test_processes_that_write_at_once_wait_for_each_other(url: str, store: Store) -> None:
    """As workers do, each with its own connections."""
    grants = Grants(store, SystemClock())
    grant, _ = await grants.create(
        person="p", vendor="v", database="d", policy="x", policy_revision="r", policy_text="", reason="test",
        length=timedelta(hours=1), created_by="op",
    )  # fmt: skip
    running = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", SPEND, url, grant.id, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in running:
        _, error = await process.communicate()
        assert process.returncode == 0, error.decode()
    assert await grants.spent(grant.id) == (90, 900)


async def test_the_migrations_make_the_tables_that_queries_use(store: Store) -> None:
    def differences(connection: sa.Connection) -> object:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return compare_metadata(context, tables.metadata)

    async with store.read() as connection:
        assert await connection.run_sync(differences) == []


def test_head_is_the_newest_migration() -> None:
    script = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert script.get_heads() == [HEAD]


async def test_a_failed_block_leaves_nothing(store: Store) -> None:
    async def change() -> None:
        async with store.write() as connection:
            await connection.execute(sa.update(tables.installation).values(id="changed"))
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        await change()
    async with store.read() as connection:
        assert (await connection.execute(sa.select(tables.installation.c.id))).scalar() != "changed"


async def test_writers_wait_for_each_other(store: Store) -> None:
    async def add() -> None:
        async with store.write() as connection:
            (count,) = (await connection.execute(sa.select(tables.installation.c.id).with_for_update())).one()
            number = int(count) if count.isdigit() and len(count) < 4 else 0
            await connection.execute(sa.update(tables.installation).values(id=str(number + 1)))

    await asyncio.gather(*(add() for _ in range(20)))
    async with store.read() as connection:
        assert (await connection.execute(sa.select(tables.installation.c.id))).scalar() == "20"


async def test_the_file_is_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.touch(mode=0o644)
    store = await Store.open(f"sqlite:///{path}")
    try:
        modes = {file: (tmp_path / file).stat().st_mode & 0o777 for file in os.listdir(tmp_path)}
        assert set(modes) >= {"state.db"}
        assert set(modes.values()) == {0o600}
        async with store.write() as connection:
            for pragma, wanted in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
                assert (await connection.exec_driver_sql(f"pragma {pragma}")).scalar() == wanted
    finally:
        await store.close()


async def test_a_newer_state_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    await (await Store.open(f"sqlite:///{path}")).close()
    with sqlite3.connect(path) as connection:
        connection.execute("update alembic_version set version_num = '9999'")
    with pytest.raises(StoreError, match=r"made by a newer daypass \(version 9999"):
        await Store.open(f"sqlite:///{path}")


async def test_what_cannot_be_opened(tmp_path: Path) -> None:
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"this is no database" * 100)
    (tmp_path / "folder.db").mkdir()
    for url, message in (
        (f"sqlite:///{tmp_path}/none/state.db", "No such file"),
        (f"sqlite:///{broken}", "not a database"),
        (f"sqlite:///{tmp_path}/folder.db", "Is a directory"),
        ("mysql://x", "must begin with"),
        ("postgresql://user:hunter2@127.0.0.1:1/none", "cannot be reached"),
    ):
        with pytest.raises(StoreError, match=message) as caught:
            await Store.open(url)
        assert "hunter2" not in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


async def test_a_locked_file_is_an_error_and_not_a_hang(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = await Store.open(f"sqlite:///{path}")
    async with store.read() as connection:  # a short wait, so that the test is
        await connection.exec_driver_sql("pragma busy_timeout = 50")
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("begin immediate")
    try:
        with pytest.raises(StoreError, match="locked"):
            async with store.write():
                pass
    finally:
        holder.close()
        await store.close()


async def test_the_mark_changes_with_every_write_and_is_not_trusted_at_once(tmp_path: Path) -> None:
    store = await Store.open(f"sqlite:///{tmp_path}/state.db")
    other = await Store.open(f"sqlite:///{tmp_path}/state.db")
    files = (os.path.join(tmp_path, name) for name in ("state.db", "state.db-wal"))
    written = max(os.stat(path).st_mtime_ns for path in files) // 1000
    assert store.mark(written + 1000) is None, "more may follow in the same step of the clock"
    before = store.mark(written + 1_000_000)
    assert before is not None
    assert store.mark(written + 2_000_000) == before
    for number in range(20):
        async with other.write() as connection:
            await connection.execute(tables.installation.update().values(id=f"{number:08x}"))
        now = store.mark(written + 10_000_000_000)
        assert now not in (None, before)
        before = now
    await other.close()
    await store.close()
