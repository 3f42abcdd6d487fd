"""The worker dies, or hangs: nothing accepted is lost, nothing is stored twice."""

from tests.faults import workers
from tests.harness import Service


def test_worker_killed_in_a_transaction_loses_nothing(victim: Service) -> None:
    workers.worker_killed(victim, 2)


def test_batch_that_kills_the_worker_is_dead_after_three_deaths(victim: Service) -> None:
    workers.killed_by_a_batch(victim, 1)


def test_batches_are_accepted_without_a_worker_and_stored_later(victim: Service) -> None:
    workers.queue_full(victim, 300)
