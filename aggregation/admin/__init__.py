"""Counting in the admin, and what is counted: one module a page."""

from aggregation.admin import counting, dashboard

__all__ = ["counting", "dashboard"]
