"""Batches that come too often, or can't be stored."""

from tests.faults import batches
from tests.harness import Service


def test_batch_sent_eight_times_at_once_is_stored_once(victim: Service) -> None:
    batches.replayed_at_once(victim, 2)


def test_poison_is_dead_and_the_good_around_it_stored(victim: Service) -> None:
    batches.poisoned(victim, 1)
