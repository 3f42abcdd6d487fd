"""The intake's pages in the admin: one module a page."""

from ingest.admin import deadset, ledger, projects, recent, rejected

__all__ = ["deadset", "ledger", "projects", "recent", "rejected"]
