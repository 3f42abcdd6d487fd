"""What tests of persons' requests share."""

from collections.abc import Iterator

import pytest

from privacy.models import DeletionRequest


@pytest.fixture
def none_late() -> Iterator[None]:
    """No test leaves a request that the whole instance would be reproached with."""
    yield
    DeletionRequest.objects.failed().delete()
    DeletionRequest.objects.overdue().delete()
