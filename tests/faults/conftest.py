"""One service for all small faults: each leaves it as it found it."""

from collections.abc import Iterator

import pytest

from tests.harness import Service


@pytest.fixture(scope="session")
def victim() -> Iterator[Service]:
    """A running service that nobody else uses."""
    service = Service()
    try:
        yield service.start()
    finally:
        service.remove()
        assert service.process.stdout is not None
        service.process.stdout.close()
