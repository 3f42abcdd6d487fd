"""What is read of stored events and points to be rendered. Pure.

Moments are microseconds since 1970; `properties` and `tags` are the JSON text of an object.
"""

import msgspec


class EventRow(msgspec.Struct, frozen=True):
    """An event; `observed_at` is when its batch was received."""

    occurred_at: int
    observed_at: int
    name: str
    subject: bytes | None
    session: bytes | None
    category: str
    level: str | None
    scope: str | None
    client_version: str | None
    message: str | None
    properties: str | bytes


class PointRow(msgspec.Struct, frozen=True):
    """A measurement; see `ingest.records.Point` for what each kind fills in."""

    occurred_at: int
    name: str
    kind: str
    subject: bytes | None
    node: str | None
    tags: str | bytes
    cumulative: bool
    value: float | None
    samples: list[float] | None
    weights: list[int] | None
    count: int | None
    sum: float | None
    min: float | None
    max: float | None
    started_at: int | None
