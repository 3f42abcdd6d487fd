"""The privacy desk in the admin: one module a page."""

from privacy.admin import audit, deletions, exports, persons, rules

__all__ = ["audit", "deletions", "exports", "persons", "rules"]
