"""What the service leans on goes away: accepting goes on, or says 503, and everything recovers."""

from tests.faults import servers
from tests.harness import Service


def test_web_server_killed_under_load_loses_nothing(victim: Service) -> None:
    servers.web_killed(victim, 2)


def test_redis_killed_with_its_data_loses_nothing(victim: Service) -> None:
    servers.redis_killed(victim, 1)


def test_batches_are_accepted_while_redis_hangs(victim: Service) -> None:
    servers.redis_frozen(victim, 3)


def test_batches_are_accepted_while_redis_is_down(victim: Service) -> None:
    servers.redis_down(victim, 3)


def test_postgres_killed_is_recovered_from_without_restarts(victim: Service) -> None:
    servers.postgres_killed(victim, 2)


def test_batches_are_refused_with_503_while_postgres_is_down(victim: Service) -> None:
    servers.postgres_down(victim, 3)
