"""What is kept about persons beside their events, and about what was done for them."""

from privacy.models.audit import AuditEntry
from privacy.models.consent import ConsentChange, PersonRestriction
from privacy.models.persons import Person
from privacy.models.requests import PROMISE, DeletionRequest, DeletionToken, ExportRequest
from privacy.models.rules import PrivacyRules

__all__ = [
    "PROMISE",
    "AuditEntry",
    "ConsentChange",
    "DeletionRequest",
    "DeletionToken",
    "ExportRequest",
    "Person",
    "PersonRestriction",
    "PrivacyRules",
]
