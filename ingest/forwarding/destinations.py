"""Where batches are forwarded to, and how it goes there: back-off and breaker, one for all workers.

A project's own destination stands in place of the instance's. While one backs off nothing is
claimed for it; then one request probes.
"""

import logging
import random
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS
from django.db.models import Q
from django.utils import timezone

from ingest.forwarding.answers import Answer, Outcome
from ingest.forwarding.backoff import pause
from ingest.forwarding.networks import place_of
from ingest.forwarding.sealing import unseal
from ingest.forwarding.targets import Target
from ingest.models import Destination
from ingest.models.forwarding import MOST_ITEMS
from ingest.prepared import execute

logger = logging.getLogger(__name__)

_PATHS = ("/v1/logs", "/v1/metrics", "/v1/traces")
# Longer than a request takes: what a probe that died leaves behind.
_PROBE_SECONDS = 45
# What a request may hold more after one that was taken, where it had been halved.
_MORE_ITEMS = 100


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits for one destination, of one signal."""

    signal: str
    oldest: datetime  # since when the first of it waits
    destination: int
    found_at: str  # the endpoint that what follows was found of
    failures: int
    retry_at: datetime | None
    request_items: int
    endpoint: str  # where it is now; empty: nowhere
    encoding: str
    is_own: bool  # a project's
    headers: str  # a project's, sealed

    @property
    def key(self) -> tuple[int, str]:
        return self.destination, self.signal

    @property
    def may_be_sent(self) -> bool:
        """Whether it goes anywhere, and isn't backing off."""
        if not self.endpoint:
            return False
        return self.is_moved or self.retry_at is None or self.retry_at <= timezone.now()

    @property
    def is_moved(self) -> bool:
        """Whether it is where nothing was sent to yet."""
        return self.endpoint != self.found_at

    def target(self) -> Target:
        """Where to send. Raises Unreadable."""
        headers = unseal(self.headers) if self.is_own else settings.OTEL_COLLECTOR_HEADERS
        return Target(url_of(self.endpoint, self.signal), headers, is_trusted=not self.is_own)


def url_of(endpoint: str, signal: str) -> str:
    """Where a signal goes, of a base URL or of the full one of any signal."""
    base = endpoint.rstrip("/")
    for path in _PATHS:
        base = base.removesuffix(path)
    return f"{base}/v1/{signal}"


def of(projects: set[int]) -> dict[int, int]:
    """The destinations of those of these projects that have one."""
    found: dict[int | None, int | None] = dict(
        execute(
            """
            SELECT NULL, id FROM ingest_destination WHERE project_id IS NULL
            UNION ALL
            SELECT project.id, destination.id FROM ingest_project AS project
            LEFT JOIN ingest_destination AS destination ON destination.project_id = project.id
            WHERE project.id = ANY(%s) AND project.otlp_endpoint <> ''
            """,
            [[*projects]],
        ).fetchall()
    )
    instances = found.pop(None) if settings.OTEL_COLLECTOR_ENDPOINT else None
    going = {project: found.get(project, instances) for project in projects}
    return {project: destination for project, destination in going.items() if destination}


def recipients(project_id: int, using: str = DEFAULT_DB_ALIAS) -> list[str]:
    """Where something of a project's may be by now: scheme and host, since a path may be a secret.

    What goes to the instance's destination isn't told apart by project.
    """
    told = Destination.objects.using(using).filter(
        Q(project_id=project_id) | Q(project_id=None), last_success_at__isnull=False
    )
    places = [place_of(endpoint) for endpoint in told.values_list("endpoint", flat=True)]
    return sorted({f"{place.scheme}://{place.host}" for place in places})


def queues() -> list[Queue]:
    """All that waits, by destination and signal. Index: ingest_delivery_waiting, key by key."""
    found = execute(
        """
        WITH RECURSIVE waiting AS (
            (SELECT destination_id, signal, waiting_since FROM ingest_delivery
             WHERE state = 'waiting' ORDER BY destination_id, signal, waiting_since LIMIT 1)
            UNION ALL
            SELECT next.* FROM waiting, LATERAL (
                SELECT destination_id, signal, waiting_since FROM ingest_delivery
                WHERE state = 'waiting'
                    AND (destination_id, signal) > (waiting.destination_id, waiting.signal)
                ORDER BY destination_id, signal, waiting_since LIMIT 1
            ) AS next
        )
        SELECT waiting.signal, waiting.waiting_since, destination.id, destination.endpoint,
            destination.failures, destination.retry_at, destination.request_items,
            coalesce(project.otlp_endpoint, %s), coalesce(project.otlp_encoding, %s),
            project.id IS NOT NULL, coalesce(project.otlp_headers, '')
        FROM waiting JOIN ingest_destination AS destination ON destination.id = destination_id
        LEFT JOIN ingest_project AS project ON project.id = destination.project_id
        """,
        [settings.OTEL_COLLECTOR_ENDPOINT, settings.OTEL_COLLECTOR_ENCODING],
    )
    return [Queue(*row) for row in found]


def reserve(queue: Queue) -> bool:
    """Whether a request may be made now: of those to a destination that fails one at a time."""
    if queue.is_moved:
        execute(
            """
            UPDATE ingest_destination SET endpoint = %s, failures = 0, failing_since = NULL,
                retry_at = NULL, request_items = %s
            WHERE id = %s
            """,
            [queue.endpoint, MOST_ITEMS, queue.destination],
        )
        return True
    if not queue.failures:
        return True
    probing = execute(
        """
        UPDATE ingest_destination SET retry_at = now() + make_interval(secs => %s)
        WHERE id = %s AND (retry_at IS NULL OR retry_at <= now())
        """,
        [_PROBE_SECONDS, queue.destination],
    )
    return probing.rowcount == 1


def answered(queue: Queue, answer: Answer) -> None:
    """It took a request, or refused it for good: it is there."""
    if queue.failures:
        logger.warning("destination %d answers again", queue.destination)
    taken = answer.outcome is Outcome.DELIVERED
    execute(
        """
        UPDATE ingest_destination SET failures = 0, failing_since = NULL, retry_at = NULL,
            last_status = %(status)s,
            last_success_at = CASE WHEN %(taken)s THEN now() ELSE last_success_at END,
            last_error = CASE WHEN %(said)s THEN %(words)s ELSE last_error END,
            last_error_at = CASE WHEN %(said)s THEN now() ELSE last_error_at END,
            request_items = CASE WHEN %(taken)s THEN least(request_items + %(more)s, %(most)s)
                ELSE request_items END
        WHERE id = %(id)s
        """,
        {
            "status": answer.status,
            "taken": taken,
            "said": not taken or answer.words != "",
            "words": answer.words,
            "more": _MORE_ITEMS,
            "most": MOST_ITEMS,
            "id": queue.destination,
        },
    )


def refused_so_many(queue: Queue, items: int) -> None:
    """It refused a request of several deliveries: the next are of half as many items."""
    execute(
        """
        UPDATE ingest_destination SET request_items = greatest(1, least(request_items, %s) / 2)
        WHERE id = %s
        """,
        [items, queue.destination],
    )


def failed(queue: Queue, answer: Answer) -> None:
    """It wasn't there, or wants to be left alone: all that goes there waits."""
    row = execute(
        """
        UPDATE ingest_destination SET failures = failures + 1,
            failing_since = coalesce(failing_since, now()), last_status = %s, last_error = %s,
            last_error_at = now()
        WHERE id = %s RETURNING failures, extract(epoch FROM now() - failing_since)::float8
        """,
        [answer.status, answer.words, queue.destination],
    ).fetchone()
    assert row is not None
    failures, failing_for = row
    if failures == 1:
        logger.warning("destination %d backs off: %s", queue.destination, answer.words)
    jitter = random.random()  # noqa: S311 no secret
    execute(
        "UPDATE ingest_destination SET retry_at = now() + make_interval(secs => %s) WHERE id = %s",
        [pause(failures, failing_for, answer.retry_after, jitter), queue.destination],
    )


def try_now(destination: int) -> bool:
    """Let one request be made before the time it backs off until; whether it backs off at all."""
    tried = execute(
        "UPDATE ingest_destination SET retry_at = NULL WHERE id = %s AND retry_at > now()",
        [destination],
    )
    return tried.rowcount == 1
