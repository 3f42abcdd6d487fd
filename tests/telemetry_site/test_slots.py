"""The files that processes count in: as many as there are processes, and nothing is lost."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.multiprocess import MultiProcessCollector

from telemetry_site.monitoring import slots
from tests.harness import ROOT

COUNT = """
from telemetry_site.monitoring.instruments import breaker_open, events
events("submit", "stored").inc({number})
breaker_open("nudges").set(1)
"""
# Ends when its standard input does.
HOLD = COUNT + "print('counted', flush=True)\ninput()\n"
FORK = (
    COUNT
    + """
import os
for _ in range(3):
    if not (child := os.fork()):
        events("submit", "stored").inc(10)
        os._exit(0)
    os.waitpid(child, 0)
    events("submit", "stored").inc()
"""
)


def start(folder: Path, program: str, number: int = 1) -> "subprocess.Popen[str]":
    """A process that counts in the folder."""
    return subprocess.Popen(
        [sys.executable, "-c", program.format(number=number)],
        cwd=ROOT,
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, program: str, number: int = 1) -> None:
    process = start(folder, program, number)
    process.communicate(timeout=60)
    assert process.returncode == 0


def told(folder: Path) -> dict[str, float]:
    """Samples as they are told, added up."""
    metrics = MultiProcessCollector.merge(slots.files(folder))
    return {sample.name: sample.value for metric in metrics for sample in metric.samples}


def numbers(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob("*.lock"))


def test_processes_one_after_the_other_count_on_in_one_slot(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        run(tmp_path, COUNT, number)
    assert numbers(tmp_path) == [0]
    assert told(tmp_path)["telemetry_events_total"] == 6


def test_processes_side_by_side_have_slots_of_their_own(tmp_path: Path) -> None:
    processes = [start(tmp_path, HOLD, number) for number in (1, 2, 4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "counted\n"
    assert numbers(tmp_path) == [0, 1, 2]
    assert told(tmp_path) == {"telemetry_events_total": 7, "telemetry_breaker_open": 1}
    for process in processes:
        process.communicate("\n", timeout=60)
    # What is so in a process is so no longer; what it counted has happened.
    assert told(tmp_path) == {"telemetry_events_total": 7}


def test_a_killed_process_leaves_its_slot_to_the_next(tmp_path: Path) -> None:
    process = start(tmp_path, HOLD, 5)
    assert process.stdout is not None
    assert process.stdout.readline() == "counted\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    run(tmp_path, COUNT)
    assert numbers(tmp_path) == [0]
    assert told(tmp_path)["telemetry_events_total"] == 6


def test_forked_children_count_in_slots_of_their_own_and_the_parent_keeps_its(
    tmp_path: Path,
) -> None:
    run(tmp_path, FORK)
    assert numbers(tmp_path) == [0, 1]
    assert told(tmp_path)["telemetry_events_total"] == 1 + 3 * 11


def test_the_files_have_their_space_from_the_start(tmp_path: Path) -> None:
    """On a full disk a page without a block would end the process that first touches it."""
    run(tmp_path, COUNT)
    found = list(tmp_path.glob("*.db"))
    assert len(found) == len(slots.PREFIXES)
    for file in found:
        assert file.stat().st_blocks * 512 >= file.stat().st_size == slots.FILE_BYTES


@pytest.mark.parametrize("name", ["counter_0.db", "histogram_0.db"])
def test_a_slot_that_is_being_made_is_told_of_as_empty(tmp_path: Path, name: str) -> None:
    slots.Slot(tmp_path).file("counter")
    assert told(tmp_path) == {}
    assert str(tmp_path / name) in slots.files(tmp_path)
