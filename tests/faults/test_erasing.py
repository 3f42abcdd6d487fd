"""The worker that erases dies: the next one goes on, and the receipt counts each row once."""

from tests.faults import erasing
from tests.harness import Service


def test_worker_killed_while_it_erases_leaves_nobody_behind(victim: Service) -> None:
    erasing.killed_at_erasing(victim, 1)
