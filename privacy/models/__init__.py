"""What is kept about persons beside their events, and about what was done for them."""

from privacy.models.audit import AuditEntry
from privacy.models.consent import ConsentChange, PersonRestriction
from privacy.models.requests import DeletionRequest, DeletionToken, ExportRequest

__all__ = [
    "AuditEntry",
    "ConsentChange",
    "DeletionRequest",
    "DeletionToken",
    "ExportRequest",
    "PersonRestriction",
]
