"""`up` is killed, or told to stop: nothing is left running, nothing is lost."""

from tests.faults import up
from tests.harness import Service


def test_killed_up_leaves_nothing_behind_and_starts_again(victim: Service) -> None:
    up.up_killed(victim, 1)


def test_stopped_up_answers_what_is_under_way(victim: Service) -> None:
    up.up_stopped(victim, 1)
