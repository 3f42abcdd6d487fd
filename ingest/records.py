"""What the wire formats decode to, and what a waiting batch holds. Pure: no Django, no database."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

CATEGORIES = frozenset({"system", "application", "business", "network", "security"})
DEFAULT_CATEGORY = "application"
KINDS = frozenset({"counter", "gauge", "histogram", "summary", "meter"})


class MalformedBatch(Exception):
    """A body that can't be taken as a whole.

    `code` is what the client gets and what the ledger counts; `details` a sentence for a person,
    without anything of what was sent; `field` the offending field of the batch where there is one.
    """

    def __init__(self, code: str, details: str, field: str | None = None) -> None:
        super().__init__(code, details)
        self.code = code
        self.details = details
        self.field = field


# Refused events that are written down, of one batch; the ledger counts all of them.
REFUSALS_KEPT = 20


class Rejection(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why one event of a batch is not taken. `index` is its place in the batch, from 0."""

    index: int
    code: str
    message: str
    field: str | None = None
    # Names and types of the event's fields, for the operator; never a value. Of those kept only.
    shape: dict[str, str] = msgspec.field(default_factory=dict)

    def sentence(self, items: str) -> str:
        """What a person is told; `items` is what the format's clients call them."""
        return f"{items}[{self.index}]: {self.message}"

    @property
    def report(self) -> dict[str, int | str]:
        """What the client is told."""
        told: dict[str, int | str] = {"index": self.index, "code": self.code}
        if self.field is not None:
            told["field"] = self.field
        return told | {"message": self.message}


class InvalidRecord(Exception):
    """Raised inside a decoder for one bad event; becomes a `Rejection`."""

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.field = field


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds every decoder keeps; bytes are decoded bytes, lengths are characters."""

    batch_events: int = 1000
    event_bytes: int = 32 * 1024
    depth: int = 16
    name_length: int = 200
    structure: int = 100_000


class Record(msgspec.Struct):
    """One event as its client sent it, in the words of every format.

    `occurred_at` is aware and as yet uncorrected, None where the client named no time; `user_id`
    and `session_id` are raw: they leave the process only as keyed hashes. `properties` is the JSON
    text of an object.
    """

    position: int
    occurred_at: datetime | None
    name: str
    user_id: str | None
    session_id: str | None
    category: str
    level: str | None
    scope: str | None
    client_version: str | None
    message: str | None
    properties: bytes

    @property
    def sender(self) -> str | None:
        """What tells the client that sent it from any other."""
        return self.user_id or self.session_id


class Point(msgspec.Struct):
    """One measurement as its client sent it.

    `occurred_at` is aware and as yet uncorrected, None where the client named no time; `user_id` is
    raw, as a record's. `part` tells the points of one item apart (a node's snapshot is one item of
    many points). Of a counter, gauge or meter there is a `value`; of a histogram there are
    `samples`; of a summary `count`, `sum`, `min` and `max`. A counter's value is a delta unless it
    is `cumulative`. `node` is a machine's id, not a person's; `tags` is the JSON text of an object.

    A histogram that came as buckets has `weights` beside its samples: each sample stands for so
    many measurements, and `count`, `sum`, `min` and `max` are said beside them. What is cumulative
    and says since when has `started_at`, where it was 0; so may histograms and summaries be.
    """

    position: int
    part: int
    occurred_at: datetime | None
    name: str
    kind: str
    user_id: str | None
    node: str | None
    tags: bytes
    cumulative: bool = False
    value: float | None = None
    samples: list[float] | None = None
    count: int | None = None
    sum: float | None = None
    min: float | None = None
    max: float | None = None
    weights: list[int] | None = None
    started_at: datetime | None = None

    @property
    def sender(self) -> str | None:
        """What tells the client that sent it from any other."""
        return self.user_id or self.node


@dataclass(slots=True)
class DecodedBatch:
    """What a decoder makes of a body: every item of it is a record, some points, or a rejection."""

    records: Sequence[Record | Point]
    rejections: list[Rejection]
    batch_id: UUID | None = None
    # The client's clock when it sent the batch.
    sent_at: datetime | None = None
    # Whom the batch as a whole is from, for the limits that count by user or node.
    user_id: str | None = None
    node: str | None = None
    # Whether a client that isn't answered sends just this again: then what has times is its own
    # name, and no `batch_id` is needed.
    named_by_content: bool = False
    # How large this is by itself, where the body holds several.
    body_bytes: int | None = None

    @property
    def received(self) -> int:
        return len({record.position for record in self.records}) + len(self.rejections)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the request's headers say in place of the body: fallbacks, the body's own words win."""

    user_id: str | None = None
    client_version: str | None = None
    batch_id: UUID | None = None
    users_optional: bool = False
    limits: Limits = field(default_factory=Limits)


class StoredRecord(msgspec.Struct, array_like=True, frozen=True, tag=0):
    """One event as it waits in the ledger: scrubbed, pseudonymised, its clock corrected.

    `occurred` is microseconds since 1970 UTC; `properties` is JSON text; `subject` and `session`
    are keyed hashes of 16 bytes.
    """

    position: int
    occurred: int
    name: str
    subject: bytes | None
    session: bytes | None
    category: str
    level: str | None
    scope: str | None
    client_version: str | None
    message: str | None
    properties: bytes

    @property
    def occurred_at(self) -> datetime:
        return EPOCH + timedelta(microseconds=self.occurred)


class StoredPoint(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """One measurement as it waits in the ledger; see `Point` and `StoredRecord`.

    The last fields may be missing: what an earlier version packed may still wait.
    """

    position: int
    part: int
    occurred: int
    name: str
    kind: str
    subject: bytes | None
    node: str | None
    tags: bytes
    cumulative: bool
    value: float | None
    samples: list[float] | None
    count: int | None
    sum: float | None
    min: float | None
    max: float | None
    weights: list[int] | None = None
    started: int | None = None

    @property
    def occurred_at(self) -> datetime:
        return EPOCH + timedelta(microseconds=self.occurred)

    @property
    def started_at(self) -> datetime | None:
        return None if self.started is None else EPOCH + timedelta(microseconds=self.started)


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970 UTC of an aware moment; exact, unlike `timestamp()`."""
    delta = moment - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
