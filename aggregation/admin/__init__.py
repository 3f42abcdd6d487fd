"""Counting in the admin: one module a page."""

from aggregation.admin import counting

__all__ = ["counting"]
