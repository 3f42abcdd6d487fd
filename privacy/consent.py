"""What one person lets be stored of them. Pure: no Django, no database."""

from dataclasses import dataclass
from datetime import datetime

from ingest.records import CATEGORIES


@dataclass(frozen=True, slots=True)
class Restriction:
    """What isn't stored of a person: everything, once erasure was asked for, or some categories.

    Who opted in again after that did so for what came from `opted_in_at` on.
    """

    suppressed: bool
    refused: frozenset[str]
    opted_in_at: datetime | None = None

    def forbids(self, category: str | None) -> bool:
        """Whether an event of this category isn't stored.

        A measurement has none: it is stored unless every category is refused.
        """
        if self.suppressed:
            return True
        return self.refused >= CATEGORIES if category is None else category in self.refused

    def is_meant_for(self, received_at: datetime) -> bool:
        """Whether what came then came while the person wanted something stored."""
        return self.opted_in_at is None or received_at >= self.opted_in_at
