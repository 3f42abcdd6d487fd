"""Beat runs twice, then dies: schedules go on, from one of them."""

from tests.faults import beat
from tests.harness import Service


def test_of_two_beats_one_runs_and_its_death_is_made_up_for(victim: Service) -> None:
    beat.beat_twice(victim, 3)
