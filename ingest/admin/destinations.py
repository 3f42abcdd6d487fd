"""Destinations: where what is stored goes beside here, how that goes, and a try before its time."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from ingest.admin.lists import duration
from ingest.forwarding import backlog, destinations
from ingest.forwarding.backlog import MOST_COUNTED, Backlog
from ingest.models import Destination, Resolution
from ingest.models.resolutions import permission
from ingest.nudges import FORWARD, forward_nudger
from telemetry_site.models import Pause
from telemetry_site.pages import Action, Page, Refused

_REPLAY = permission(Resolution.Action.FORWARD)


@admin.register(Destination)
class DestinationsPage(Page):
    template = "admin/ingest/destination/page.html"
    title = "Destinations"

    def context(self, request: HttpRequest) -> dict[str, Any]:
        now, found = timezone.now(), backlog.look()
        rows = Destination.objects.select_related("project").order_by("project__slug")
        lines = [_line(row, found.get(row.pk, Backlog()), now) for row in rows]
        return {
            # One without an endpoint is of interest while something is left of when it had one.
            "lines": [line for line in lines if line["endpoint"] or line["left"]],
            "now": now,
            "pause": Pause.objects.filter(pk=FORWARD.queue).first(),
            "may_try": request.user.has_perm(_REPLAY),
        }

    def actions_by_path(self) -> dict[str, tuple[str, Action]]:
        return {"try": (_REPLAY, _try_now)}


def _try_now(request: HttpRequest) -> str:
    number = request.POST.get("destination", "")
    if not number.isdecimal() or len(number) > 18:
        raise Refused("There is no such destination.")
    if not destinations.try_now(int(number)):
        raise Refused("It doesn't back off: what waits for it is sent as it comes.")
    forward_nudger.request()
    return "It is tried now: reload this page to see what it answers."


@dataclass(frozen=True, slots=True)
class _State:
    """How a destination is: in a word, and what there is to say about it."""

    word: str
    label: str
    words: str = ""


def _line(row: Destination, found: Backlog, now: datetime) -> dict[str, Any]:
    endpoint = row.project.otlp_endpoint if row.project else settings.OTEL_COLLECTOR_ENDPOINT
    encoding = row.project.otlp_encoding if row.project else settings.OTEL_COLLECTOR_ENCODING
    return {
        "row": row,
        # What stands behind the ? may be a secret.
        "endpoint": endpoint.partition("?")[0],
        "encoding": encoding,
        "left": found.waiting or found.undelivered,
        "state": _state(row, endpoint, now),
        "backs_off": bool(row.retry_at and row.retry_at > now),
        "waiting": _counted(found.waiting),
        "lag": duration(now - found.oldest) if found.oldest else "",
        "undelivered": _counted(found.undelivered),
        "deliveries": _deliveries(row),
        "said": _said(row),
    }


def _said(row: Destination) -> str:
    """What was said when it last took something not, and the status if nothing was taken since."""
    if row.last_error_at is None:
        return ""
    is_latest = row.last_success_at is None or row.last_error_at > row.last_success_at
    status = f"{row.last_status} " if is_latest and row.last_status else ""
    return f"{status}{row.last_error}"


def _state(row: Destination, endpoint: str, now: datetime) -> _State:
    if not endpoint:
        return _State("unset", "default", "What is left waits until an endpoint is set again.")
    if row.endpoint != endpoint or not (row.last_success_at or row.last_error_at):
        return _State("unused", "default", "Nothing was sent there yet.")
    if row.failures:
        return _failing(row, now)
    if row.last_status is not None and row.last_status >= 300:
        return _State("refuses", "danger", "It answers, and refused what it was sent last.")
    return _State("delivering", "success")


def _failing(row: Destination, now: datetime) -> _State:
    since = f"{row.failing_since:%Y-%m-%d %H:%M:%S} UTC" if row.failing_since else "now"
    words = f"Failing since {since}, {row.failures:,} requests in a row."
    if row.retry_at and row.retry_at > now:
        until = f"{row.retry_at:%H:%M:%S} UTC, in {duration(row.retry_at - now)}"
        return _State("backs off", "danger", f"{words} Nothing is sent until {until}.")
    return _State("failing", "danger", f"{words} It is tried again now.")


def _deliveries(row: Destination) -> str:
    """The list of its project's deliveries, or of all; what else is asked follows."""
    of_project = f"project={row.project_id}&" if row.project_id else ""
    return f"{reverse('admin:ingest_delivery_changelist')}?{of_project}"


def _counted(number: int) -> str:
    return f"more than {MOST_COUNTED:,}" if number > MOST_COUNTED else f"{number:,}"
