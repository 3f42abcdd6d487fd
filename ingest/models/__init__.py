"""Tables of the data path.

What grows is partitioned by day (see `partitions`); those tables are made in SQL by the migrations
and declare to the ORM a key that Django's admin can work with, beside the composite one in SQL.
Foreign keys of the data path carry no constraint: checking one locks the project's row each time.
"""

from ingest.models.blocks import Block
from ingest.models.forwarding import Delivery, Destination
from ingest.models.ledger import (
    OUTCOMES,
    Attempt,
    Batch,
    BatchClaim,
    DeadBatch,
    LedgerSum,
    RateLimitViolation,
    RejectedEvent,
    ViolationSum,
)
from ingest.models.projects import ApiKey, Grant, Project
from ingest.models.resolutions import Resolution
from ingest.models.stored import Event, MetricPoint

__all__ = [
    "OUTCOMES",
    "ApiKey",
    "Attempt",
    "Batch",
    "BatchClaim",
    "Block",
    "DeadBatch",
    "Delivery",
    "Destination",
    "Event",
    "Grant",
    "LedgerSum",
    "MetricPoint",
    "Project",
    "RateLimitViolation",
    "RejectedEvent",
    "Resolution",
    "ViolationSum",
]
