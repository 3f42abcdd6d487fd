"""The processes that `up` runs are told apart, also beside those of another `up`."""

from pathlib import Path

import pytest
from django.test import override_settings

from telemetry_site import programs


def node_name(queue: str) -> str:
    """What the worker of a queue is called."""
    argv = programs.worker(queue).argv
    return argv[argv.index("-n") + 1]


def test_workers_of_two_instances_on_one_machine_have_names_of_their_own() -> None:
    names = set()
    for folder in ("/srv/one", "/srv/two"):
        with override_settings(DATA_DIR=Path(folder)):
            names |= {node_name(queue) for queue in programs.WORKERS}
    assert len(names) == 2 * len(programs.WORKERS)


@pytest.mark.parametrize("queue", programs.WORKERS)
def test_a_workers_name_begins_with_its_queue_and_ends_with_its_machine(queue: str) -> None:
    assert node_name(queue).startswith(f"{queue}-")
    assert node_name(queue).endswith("@%h")
