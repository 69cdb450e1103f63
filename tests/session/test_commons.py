"""Seats and budgets that processes share: exact, free again when a process dies, unaffected by one that leaves."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path

from proxy.session.commons import Commons

RUSH = """
import sys
from pathlib import Path
from proxy.session.commons import Commons
commons = Commons(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
taken = sum(commons.take_seat("g-1", 50) == 0 for _ in range(40))
tab = commons.spent("g-1", 1000, 0)
for _ in range(500):
    tab.add(1, 10)
    tab.publish()
ran = sum(tab.wait(60, 1000.0) == 0 for _ in range(40))
print(taken, ran, flush=True)
sys.stdin.readline()
"""


def die(commons: Commons) -> None:
    """What the system does when a process dies: its descriptors go, its files stay."""
    for tab in commons._tabs.values():
        os.close(tab._fd)
    commons.resign()
    os.close(commons._held)
    os.close(commons._guard)


def test_seats_are_counted_over_all_processes(tmp_path: Path) -> None:
    one, two = Commons(tmp_path), Commons(tmp_path)
    assert (one.place, two.place) == (0, 1)
    assert one.take_seat("g-1", 3) == two.take_seat("g-1", 3) == two.take_seat("g-1", 3) == 0
    assert one.take_seat("g-1", 3) == two.take_seat("g-1", 3) == 3
    assert one.take_seat("g-2", 1) == 0
    assert two.take_seat("g-1", None) == 0
    assert one.take_seat("g-1", 2) == 4, "a limit that was lowered counts all that sit"
    two.leave_seat("g-1")
    two.leave_seat("g-1")
    assert one.take_seat("g-1", 3) == 0


def test_what_a_dead_process_sat_on_is_free_at_once(tmp_path: Path) -> None:
    one, two = Commons(tmp_path), Commons(tmp_path)
    tab = two.spent("g-1", 0, 0)
    assert two.take_seat("g-1", 1) == 0
    tab.add(7, 70)
    tab.publish()
    assert one.take_seat("g-1", 1) == 1
    die(two)
    assert one.take_seat("g-1", 1) == 0
    assert one.spent("g-1", 0, 0).rows == 7, "what it passed on stays spent"
    three = Commons(tmp_path)
    assert three.place == 1
    assert three.take_seat("g-1", 2) == 0
    assert three.take_seat("g-1", 2) == 2
    assert three.spent("g-1", 0, 0).octets == 70


def test_a_new_process_in_the_place_of_a_dead_one_has_none_of_its_seats(tmp_path: Path) -> None:
    one, two = Commons(tmp_path), Commons(tmp_path)
    assert one.take_seat("g-1", None) == two.take_seat("g-1", None) == 0
    die(two)
    again = Commons(tmp_path)
    assert again.place == 1
    assert one.take_seat("g-1", 2) == 0


def test_budgets_are_one_for_all(tmp_path: Path) -> None:
    one, two = Commons(tmp_path), Commons(tmp_path)
    here, there = one.spent("g-1", 100, 1000), two.spent("g-1", 100, 1000)
    here.add(5, 50)
    assert (here.rows, there.rows) == (105, 100)
    here.publish()
    there.add(1, 10)
    there.publish()
    assert (here.rows, here.octets) == (there.rows, there.octets) == (106, 1060)
    assert (here.new_rows, there.new_rows) == (5, 1)
    assert one.spent("g-1", 90, 0).rows == 106, "the state lags behind"
    assert one.spent("g-1", 200, 0).rows == 200, "another host has served"
    assert here.wait(2, 1000.0) == there.wait(2, 1000.0) == 0
    assert here.wait(2, 1000.0) == there.wait(2, 1000.0) == 30
    assert there.wait(2, 1030.0) == 0
    assert here.wait(2, 5.0) == 30, "after the machine's restart time begins anew"


def test_what_nobody_needs_is_forgotten(tmp_path: Path) -> None:
    one, two = Commons(tmp_path), Commons(tmp_path)
    one.take_seat("g-1", 1)
    tab = one.spent("g-1", 10, 0)
    two.spent("g-1", 10, 0)
    tab.add(3, 0)
    one.leave_seat("g-1")
    assert one.unsaved() == {"g-1": tab}
    tab.new_rows = 0  # saved
    assert one.unsaved() == {}
    assert (tmp_path / "g-1.tab").exists(), "the other one has it still"
    assert two.spent("g-1", 10, 0).rows == 13
    assert two.unsaved() == {}
    assert not (tmp_path / "g-1.tab").exists()
    assert one.spent("g-1", 13, 0).rows == 13


def test_one_leads(tmp_path: Path) -> None:
    one, two = Commons(tmp_path), Commons(tmp_path)
    assert one.leads()
    assert one.leads()
    assert not two.leads()
    one.resign()
    assert not one.leads()
    assert two.leads()
    assert not one.leads()
    two.close()
    assert not one.leads(), "who resigned leads no more"
    assert Commons(tmp_path).leads()


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    commons = Commons(tmp_path / "run")
    commons.take_seat("g-1", 1)
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "run").iterdir()} == {0o600}


def test_real_processes_at_once(tmp_path: Path) -> None:
    told: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        processes = []
        for _ in range(3):
            process = subprocess.Popen(
                [sys.executable, "-c", RUSH, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            stack.callback(process.communicate)
            stack.callback(process.kill)
            processes.append(process)
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        for process in processes:
            assert process.stdout is not None
            taken, ran = process.stdout.readline().split()
            told["taken"] += int(taken)
            told["ran"] += int(ran)
        assert told == {"taken": 50, "ran": 60}
        watcher = Commons(tmp_path)
        tab = watcher.spent("g-1", 0, 0)
        assert (tab.rows, tab.octets) == (1000 + 3 * 500, 3 * 5000)
        assert watcher.take_seat("g-1", 50) == 50
    assert watcher.take_seat("g-1", 50) == 0
