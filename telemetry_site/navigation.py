"""The admin's sidebar as one table: what stands where, and who sees it."""

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.urls import reverse


@dataclass(frozen=True)
class Entry:
    """One page: its title, an icon of Material Symbols, its URL's name, and who may see it."""

    title: str
    icon: str
    url: str
    permission: str = ""


SIDEBAR: dict[str, tuple[Entry, ...]] = {
    "Now": (
        Entry("Health", "monitor_heart", "index"),
        Entry("Queues", "queue", "telemetry_site_queue_changelist", "telemetry_site.view_queue"),
        Entry("Recent events", "bolt", "ingest_event_changelist", "ingest.view_event"),
    ),
    "Numbers": (
        Entry("Dashboard", "bar_chart", "aggregation_dashboard", "aggregation.view_counting"),
    ),
    "Batches": (
        Entry("Ledger", "receipt_long", "ingest_batch_changelist", "ingest.view_batch"),
        Entry("Dead set", "skull", "ingest_deadbatch_changelist", "ingest.view_deadbatch"),
        Entry(
            "Rejected events",
            "block",
            "ingest_rejectedevent_changelist",
            "ingest.view_rejectedevent",
        ),
    ),
    "Forwarding": (
        Entry("Deliveries", "outbox", "ingest_delivery_changelist", "ingest.view_delivery"),
        Entry(
            "Destinations",
            "hub",
            "ingest_destination_changelist",
            "ingest.view_destination",
        ),
    ),
    "Limits": (
        Entry(
            "Violations",
            "speed",
            "ingest_ratelimitviolation_changelist",
            "ingest.view_ratelimitviolation",
        ),
        Entry("Blocks", "shield", "ingest_block_changelist", "ingest.view_block"),
    ),
    "Privacy": (
        Entry("Persons", "person_search", "privacy_person_changelist", "privacy.view_person"),
        Entry(
            "Erasures",
            "delete_forever",
            "privacy_deletionrequest_changelist",
            "privacy.view_deletionrequest",
        ),
        Entry(
            "Copies", "download", "privacy_exportrequest_changelist", "privacy.view_exportrequest"
        ),
        Entry("Rules", "rule", "privacy_privacyrules_changelist", "privacy.view_privacyrules"),
        Entry("Audit log", "history", "privacy_auditentry_changelist", "privacy.view_auditentry"),
    ),
    "Set-up": (
        Entry("Projects", "inventory_2", "ingest_project_changelist", "ingest.view_project"),
        Entry(
            "Counting",
            "calculate",
            "aggregation_counting_changelist",
            "aggregation.view_counting",
        ),
        Entry("API keys", "key", "ingest_apikey_changelist", "ingest.view_apikey"),
        Entry(
            "Schedules",
            "schedule",
            "django_celery_beat_periodictask_changelist",
            "django_celery_beat.view_periodictask",
        ),
    ),
    "Access": (
        Entry("Users", "person", "auth_user_changelist", "auth.view_user"),
        Entry("Roles", "groups", "auth_group_changelist", "auth.view_group"),
    ),
}


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """The groups that have something in them for this user, as the theme wants them."""
    here = _address_of(request.path)
    groups = (
        {
            "title": title,
            "items": [_item(entry, here) for entry in entries if _may_see(request, entry)],
        }
        for title, entries in SIDEBAR.items()
    )
    return [group for group in groups if group["items"]]


def _address_of(path: str) -> str:
    """The address in the sidebar that a page is below: the longest, and not just the index."""
    links = [_link(entry) for entries in SIDEBAR.values() for entry in entries]
    above = [link for link in links if path.startswith(link) and link != reverse("admin:index")]
    return max(above, key=len, default=path)


def _may_see(request: HttpRequest, entry: Entry) -> bool:
    return not entry.permission or request.user.has_perm(entry.permission)


def _item(entry: Entry, here: str) -> dict[str, Any]:
    link = _link(entry)
    return {"title": entry.title, "icon": entry.icon, "link": link, "active": link == here}


def _link(entry: Entry) -> str:
    return reverse(f"admin:{entry.url}")
