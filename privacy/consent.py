"""What one person lets be stored of them. Pure: no Django, no database."""

from dataclasses import dataclass

from ingest.records import CATEGORIES


@dataclass(frozen=True, slots=True)
class Restriction:
    """What isn't stored of a person: everything, once erasure was asked for, or some categories."""

    suppressed: bool
    refused: frozenset[str]

    def forbids(self, category: str | None) -> bool:
        """Whether an event of this category isn't stored.

        A measurement has none: it is stored unless every category is refused.
        """
        if self.suppressed:
            return True
        return self.refused >= CATEGORIES if category is None else category in self.refused
