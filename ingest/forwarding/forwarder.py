"""The loop that sends: claims deliveries, reads what they are of, sends it, and settles them.

No transaction is open while a collector is waited for. Requests are made by threads, one at a time
for each destination and signal: who is slow holds up nobody else. What waits for one is merged into
few requests; where one is refused as malformed or too large, the next hold half as much, until the
delivery that is at fault is alone.
"""

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import psycopg
from django.db import transaction
from google.protobuf.message import Message

from ingest.attempts import FORGIVEN
from ingest.forwarding import deliveries, destinations
from ingest.forwarding.answers import Answer, Outcome, unanswered
from ingest.forwarding.deliveries import EXPIRED_AT_ONCE, Claim, Signal
from ingest.forwarding.destinations import Queue
from ingest.forwarding.reading import Found, read
from ingest.forwarding.rendering.encoding import encode
from ingest.forwarding.rendering.logs import logs
from ingest.forwarding.rendering.metrics import metrics
from ingest.forwarding.sealing import Unreadable
from ingest.forwarding.sending import send
from ingest.forwarding.targets import Target
from ingest.models import Project
from telemetry_site.monitoring import instruments

logger = logging.getLogger(__name__)

# Of so many destinations and signals at once.
MOST_UNDER_WAY = 16
# For so long what waits is left to gather where it is less than a request may hold.
GATHER_SECONDS = 0.5
# What may be the fault of one of the deliveries that share a request. None: it can't be rendered.
_MAY_BE_ONE = frozenset({400, 413, None})
_NOTHING_LEFT = Answer(Outcome.DELIVERED, None, "Nothing of it is stored any more.", None)

_Key = tuple[int, str]


@dataclass(frozen=True, slots=True)
class _Request:
    """One that is under way."""

    queue: Queue
    claim: Claim


def forward(seconds: float, paused: Callable[[], bool]) -> bool:
    """Send what waits until nothing may be sent now or the time is over; whether some may be left.

    Once `paused()` says so no further request is made, and nothing is left to be done now.
    """
    deadline = time.monotonic() + seconds
    _count_from_zero()
    for queue in destinations.queues():
        _expire(queue, deadline)
    with ThreadPoolExecutor(MOST_UNDER_WAY, "forward") as threads:
        return _Run(threads, deadline).go(paused)


def _expire(queue: Queue, deadline: float) -> None:
    """Give up what has waited for too long: all of it, if there is time."""
    expired = EXPIRED_AT_ONCE
    while expired == EXPIRED_AT_ONCE and time.monotonic() < deadline:
        expired = deliveries.expire(*queue.key)
        instruments.deliveries(queue.signal, "expired").inc(expired)


class _Run:
    """One run of the loop."""

    def __init__(self, threads: ThreadPoolExecutor, deadline: float) -> None:
        self._threads = threads
        self._deadline = deadline
        self._under_way: dict[Future[Answer], _Request] = {}
        # When each was claimed for last, and until when it gathers.
        self._turns: dict[_Key, float] = {}
        self._gathers: dict[_Key, float] = {}

    def go(self, paused: Callable[[], bool]) -> bool:
        while (in_time := time.monotonic() < self._deadline) and not paused():
            self._begin()
            if not self._under_way:
                return False
            self._settle(GATHER_SECONDS)
        while self._under_way:
            self._settle(None)
        return not in_time

    def _begin(self) -> None:
        """Send to each destination for which something waits; in turns, where there are many."""
        now = time.monotonic()
        busy = {request.queue.key for request in self._under_way.values()}
        for queue in sorted(destinations.queues(), key=lambda one: self._turns.get(one.key, 0.0)):
            if len(self._under_way) == MOST_UNDER_WAY:
                return
            if queue.key in busy or self._gathers.get(queue.key, 0.0) > now:
                continue
            if queue.may_be_sent and destinations.reserve(queue):
                self._turns[queue.key] = now
                self._send(queue)

    def _send(self, queue: Queue) -> None:
        claim = deliveries.claim(*queue.key, queue.request_items)
        if claim is None or not claim.is_full:
            self._gathers[queue.key] = time.monotonic() + GATHER_SECONDS
        if claim is None:
            return
        self._under_way[self._ask(queue, claim)] = _Request(queue, claim)

    def _ask(self, queue: Queue, claim: Claim) -> Future[Answer]:
        """The answer to a request of what was claimed; known at once where none can be made."""
        try:
            content = rendered(queue, read(claim, queue.signal))
            if content is not None:
                return self._threads.submit(_sent, queue.signal, queue.target(), *content)
            answer = _NOTHING_LEFT
        except FORGIVEN:
            raise
        except Unreadable as error:
            answer = unanswered(str(error))
        except Exception as error:
            logger.exception("a request can't be rendered")
            words = f"can't be rendered: {type(error).__name__}"
            answer = Answer(Outcome.REFUSED, None, words, None)
        known: Future[Answer] = Future()
        known.set_result(answer)
        return known

    def _settle(self, seconds: float | None) -> None:
        """Settle the requests that are answered within so many seconds, one at least."""
        answered, _ = wait(self._under_way, seconds, FIRST_COMPLETED)
        for future in answered:
            request = self._under_way.pop(future)
            if _settled(request, future.result()):
                self._gathers.pop(request.queue.key, None)


def rendered(queue: Queue, found: Found) -> tuple[bytes, str] | None:
    """Body and content type of one request of all that was found; None of nothing."""
    slugs = dict(Project.objects.filter(pk__in=found).values_list("pk", "slug"))
    render = _RENDER[queue.signal]
    requests = [render(slugs[project], rows) for project, rows in found.items() if rows]
    if not requests:
        return None
    merged, *others = requests
    for other in others:
        merged.MergeFrom(other)
    return encode(merged, queue.encoding)


_RENDER: Mapping[str, Callable[[str, Any], Message]] = {
    Signal.LOGS: logs,
    Signal.METRICS: metrics,
}


def _sent(signal: str, target: Target, body: bytes, content_type: str) -> Answer:
    """In a thread: what became of a request, whatever happens."""
    begun = time.perf_counter()
    try:
        answer = send(target, body, content_type)
    except Exception as error:
        logger.exception("a request failed here")
        answer = unanswered(f"failed here: {type(error).__name__}")
    seconds = instruments.forward_seconds(signal, answer.outcome.value)
    seconds.observe(time.perf_counter() - begun)
    return answer


def _settled(request: _Request, answer: Answer) -> bool:
    """Settle one request. An answer that can't be written down is nobody else's trouble: it is as
    good as a refusal."""
    try:
        return settle(request.queue, request.claim, answer)
    except Exception as error:
        if isinstance(error, FORGIVEN) and not isinstance(error, psycopg.DataError):
            raise
        logger.exception("an answer can't be settled")
        words = f"The answer can't be written down: {type(error).__name__}"
        return settle(request.queue, request.claim, Answer(Outcome.REFUSED, None, words, None))


def settle(queue: Queue, claim: Claim, answer: Answer) -> bool:
    """Write down what became of a request: of its deliveries, and of its destination.

    Whether its deliveries may be sent again at once.
    """
    # No more than were sent: a collector may say any number, and a column doesn't hold each.
    answer = replace(answer, rejected=min(answer.rejected, claim.items))
    with transaction.atomic():
        outcome = _settle(queue, claim, answer)
        transaction.on_commit(partial(_count, queue.signal, claim, outcome, answer))
    return outcome == "split"


def _settle(queue: Queue, claim: Claim, answer: Answer) -> str:
    """What became of the deliveries, as the metrics call it."""
    if answer.outcome is Outcome.RETRY:
        deliveries.release(claim, answer)
        destinations.failed(queue, answer)
        return "retried"
    if answer.status is not None:
        destinations.answered(queue, answer)
    if answer.outcome is Outcome.DELIVERED:
        deliveries.delivered(claim, answer)
        return "delivered"
    if answer.status in _MAY_BE_ONE and len(claim) > 1:
        deliveries.release(claim, answer)
        destinations.refused_so_many(queue, claim.items)
        return "split"
    deliveries.dead(claim, answer)
    logger.error("%d deliveries are dead: %s", len(claim), answer.words)
    return "dead"


@cache
def _count_from_zero() -> None:
    """Have every count told before anything is counted: a rate would not see the first one."""
    for signal in Signal.values:
        for outcome in ("delivered", "dead", "expired", "retried", "split"):
            instruments.deliveries(signal, outcome)
        for outcome in ("taken", "rejected"):
            instruments.forwarded_items(signal, outcome)
        for known in Outcome:
            instruments.forward_seconds(signal, known.value)


def _count(signal: str, claim: Claim, outcome: str, answer: Answer) -> None:
    instruments.deliveries(signal, outcome).inc(len(claim))
    if outcome == "delivered" and answer.status is not None:
        instruments.forwarded_items(signal, "taken").inc(claim.items - answer.rejected)
        instruments.forwarded_items(signal, "rejected").inc(answer.rejected)
