"""The intake's pages in the admin: one module a page."""

from ingest.admin import projects

__all__ = ["projects"]
