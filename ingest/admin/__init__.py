"""The intake's pages in the admin: one module a page."""

from ingest.admin import (
    blocks,
    deadset,
    deliveries,
    destinations,
    keys,
    ledger,
    projects,
    recent,
    rejected,
    violations,
)

__all__ = [
    "blocks",
    "deadset",
    "deliveries",
    "destinations",
    "keys",
    "ledger",
    "projects",
    "recent",
    "rejected",
    "violations",
]
