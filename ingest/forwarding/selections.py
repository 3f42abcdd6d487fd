"""Deliveries as a person asks for them, in bounded time as the ledger: see `ingest.selections`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from uuid import UUID

from django.db.models import Q, QuerySet

from ingest.models import BatchClaim, Delivery, Project
from ingest.selections import MOST_DIGITS, Looked, look

# What may be asked of the state, and which it means.
STATES = {
    **{state.value: (state,) for state in Delivery.State},
    "undelivered": Delivery.UNDELIVERED,
}


@dataclass(frozen=True)
class DeliverySelection:
    """What somebody asks of the outbox; what is empty isn't asked."""

    state: str = ""
    project: int | None = None
    signal: str = ""
    day: date | None = None

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> "DeliverySelection":
        """From an address or a form; raises ValueError where a value is none of its field's."""
        if given.get("state", "") not in ("", *STATES):
            raise ValueError("state")
        if given.get("signal", "") not in ("", *Delivery.Signal.values):
            raise ValueError("signal")
        return cls(
            state=given.get("state", ""),
            project=int(given["project"]) if given.get("project") else None,
            signal=given.get("signal", ""),
            day=date.fromisoformat(given["day"]) if given.get("day") else None,
        )

    @property
    def given(self) -> dict[str, str]:
        """What `parse` takes; without what isn't asked."""
        return {name: str(value) for name, value in asdict(self).items() if value}

    def look(self) -> Looked:
        """The deliveries that match, latest first."""
        rows = self._rows()
        if self.state in ("undelivered", *Delivery.UNDELIVERED):
            # Index ingest_delivery_dead.
            rows = rows.filter(state__in=Delivery.UNDELIVERED)
        return look(rows, ("day", "id"), self._asked)

    def undelivered(self) -> QuerySet[Delivery]:
        """Every one that matches and may be replayed, however long that takes."""
        return self._rows().filter(self._asked, state__in=Delivery.UNDELIVERED)

    def any_undelivered(self) -> bool:
        """Whether some may be replayed, of the latest."""
        rows = self._rows().filter(state__in=Delivery.UNDELIVERED)
        return bool(look(rows, ("day", "id"), self._asked).first(1, "id"))

    def find(self, term: str) -> Looked:
        """Those of the batch with this batch id or ledger id, if they match.

        A batch id that is claimed no more is looked for among the latest deliveries.
        """
        if term.isdecimal() and len(term) <= MOST_DIGITS:
            return self._of([int(term)])
        try:
            batch_id = UUID(term)
        except ValueError:
            return Looked(Delivery.objects.none())
        # Claims are found by project and id: one look into the index for each project.
        projects = Project.objects.values_list("pk", flat=True)
        claims = BatchClaim.objects.filter(project__in=[*projects], key=batch_id, batch_id=batch_id)
        if ledger_ids := [*claims.values_list("ledger_id", flat=True)]:
            return self._of(ledger_ids)
        return look(self._rows(), ("day", "id"), self._asked & Q(batch_id=batch_id))

    def _of(self, ledger_ids: list[int]) -> Looked:
        """Index: ingest_delivery_batch."""
        rows = self._rows().filter(self._asked, ledger_id__in=ledger_ids)
        return Looked(rows.order_by("-day", "-id"))

    def _rows(self) -> QuerySet[Delivery]:
        rows = Delivery.objects.defer("moments", "places").select_related("project")
        return rows.filter(day=self.day) if self.day else rows

    @property
    def _asked(self) -> Q:
        """Everything asked but the day."""
        states = STATES.get(self.state)
        asked = {"state__in": states, "project": self.project, "signal": self.signal}
        return Q(**{name: value for name, value in asked.items() if value})
