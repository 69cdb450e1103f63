"""Messages between processes: they arrive, they stay private, and nothing that is wrong with them does harm."""

from __future__ import annotations

import asyncio
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.server.post import CANCEL, LONGEST, LOOK, Post

Heard = list[tuple[int, bytes]]


def nothing() -> None:
    pass


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came")


def end(folder: Path, place: int) -> tuple[Post, Heard]:
    heard: Heard = []

    def cancel(pid: int, secret: bytes, _done: Callable[[], object]) -> bool:
        heard.append((pid, secret))
        return False

    found = Post(
        folder,
        place,
        cancel=cancel,
        look=lambda name: heard.append((0, name.encode())),
    )
    found.open()
    return found, heard


@pytest.mark.parametrize("name", ["short", "a_folder_with_a_long_name_" * 5])
async def test_all_others_are_asked(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir(mode=0o700)
    (one, first), (two, second), (three, third) = (end(folder, place) for place in range(3))
    one.ask_to_cancel(4711, b"1234", nothing)
    one.ask_to_cancel(-1, bytes(range(256)), nothing)
    await until(lambda: len(second) == len(third) == 2)
    assert second == third == [(4711, b"1234"), (-1, bytes(range(256)))]
    assert first == []
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    three.ask_to_look("shop")
    await until(lambda: len(second) == 3)
    assert second[-1] == (0, b"shop")
    two.close()
    one.ask_to_cancel(4711, b"5678", nothing)
    await until(lambda: len(third) == 3)
    assert len(second) == 3
    for each in (one, three):
        each.close()
    assert list(folder.iterdir()) == []


async def test_one_that_died_is_in_nobodys_way(tmp_path: Path) -> None:
    dead, _ = end(tmp_path, 1)
    assert dead._socket is not None
    asyncio.get_running_loop().remove_reader(dead._socket)
    dead._socket.close()  # its file stays
    one, _ = end(tmp_path, 0)
    one.ask_to_cancel(1, b"abcd", nothing)
    again, heard = end(tmp_path, 1)
    one.ask_to_cancel(2, b"abcd", nothing)
    await until(lambda: bool(heard))
    assert heard == [(2, b"abcd")]
    one.close()
    again.close()


async def test_a_flood_and_nonsense_are_dropped(tmp_path: Path) -> None:
    (one, _), (two, heard) = end(tmp_path, 0), end(tmp_path, 1)
    for number in range(10_000):  # more than any queue holds: nothing waits
        one.ask_to_cancel(number, b"wrong", nothing)
    one.ask_to_cancel(1, b"x" * LONGEST, nothing)
    await until(lambda: bool(heard))
    await asyncio.sleep(0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        for data in (b"", CANCEL, CANCEL + b"abcd", b"?1234567", LOOK + b"right"):
            other.sendto(data, str(tmp_path / "post.1"))
    one.ask_to_cancel(77, b"right", nothing)
    await until(lambda: (77, b"right") in heard)
    assert {secret for _, secret in heard} == {b"wrong", b"right"}
    one.close()
    two.close()


async def test_who_asks_hears_when_all_others_are_done(tmp_path: Path) -> None:
    cancelled: list[Callable[[], object]] = []
    (one, _), (other, _) = end(tmp_path, 0), end(tmp_path, 2)

    def known(_pid: int, _secret: bytes, done: Callable[[], object]) -> bool:
        cancelled.append(done)
        return True

    two = Post(tmp_path, 1, cancel=known, look=str)
    two.open()
    done: list[str] = []
    one.ask_to_cancel(7, b"abcd", lambda: done.append("first"))
    one.ask_to_cancel(8, b"abcd", lambda: done.append("second"))
    await until(lambda: len(cancelled) == 2)
    cancelled[1]()
    await until(lambda: done == ["second"])
    cancelled[0]()
    await until(lambda: done == ["second", "first"])
    cancelled[0]()  # said twice
    one.ask_to_cancel(9, b"abcd", lambda: done.append("closed"))
    one.close()
    assert done == ["second", "first", "closed"]
    one.ask_to_cancel(9, b"abcd", lambda: done.append("nobody"))
    assert done[-1] == "nobody"
    for each in (two, other):
        each.close()


async def test_one_that_never_answers_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.server.post.ANSWER", 0.01)
    (one, _) = end(tmp_path, 0)
    two = Post(tmp_path, 1, cancel=lambda _pid, _secret, _done: True, look=str)
    two.open()
    done: list[str] = []
    one.ask_to_cancel(7, b"abcd", lambda: done.append("given up"))
    await until(lambda: done == ["given up"])
    assert one._asked == {}
    one.close()
    two.close()
