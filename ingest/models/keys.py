"""What names a row of a table that is partitioned by day, in the admin's addresses."""

import re
from datetime import date
from typing import TypeVar

from django.db import models

_Row = TypeVar("_Row", bound=models.Model)

# The day leads to the partition, an id alone to none.
_KEY = re.compile(r"(?P<day>\d{4}-\d\d-\d\d)-(?P<id>\d{1,18})")


class KeyedQuerySet(models.QuerySet[_Row]):
    """Rows that have a day and an id."""

    def with_key(self, key: str) -> _Row | None:
        """The row with this `key`; None where there is none, or it is no key."""
        parts = _KEY.fullmatch(key)
        if parts is None:
            return None
        try:
            day = date.fromisoformat(parts["day"])
        except ValueError:
            return None
        return self.filter(day=day, pk=int(parts["id"])).first()
