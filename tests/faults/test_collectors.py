"""A collector is away: storing goes on, and what was stored is delivered once it is back."""

from collections.abc import Iterator

import pytest

from tests.faults import collectors


@pytest.fixture(scope="module")
def forwarding() -> Iterator[collectors.Forwarding]:
    with collectors.forwarding() as service:
        yield service


def test_what_was_stored_while_a_collector_was_away_is_delivered(
    forwarding: collectors.Forwarding,
) -> None:
    collectors.collector_away(forwarding, 4)
