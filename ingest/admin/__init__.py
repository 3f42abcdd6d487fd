"""The intake's pages in the admin: one module a page."""

from ingest.admin import blocks, deadset, keys, ledger, projects, recent, rejected, violations

__all__ = [
    "blocks",
    "deadset",
    "keys",
    "ledger",
    "projects",
    "recent",
    "rejected",
    "violations",
]
