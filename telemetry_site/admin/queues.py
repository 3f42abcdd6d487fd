"""The page of the queues: what waits, who works on it, and what may be done about it."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, URLPattern, path, reverse

from ingest import backlog
from ingest.nudges import NUDGERS
from telemetry_site import presence, queues
from telemetry_site.celery import BROKER_ERRORS, QUEUES
from telemetry_site.durations import in_words
from telemetry_site.models import Pause, Queue
from telemetry_site.pages import Action, Page, Refused
from telemetry_site.presence import OBEY_SECONDS
from telemetry_site.redis_client import REDIS_ERRORS, redis_client

OPERATE = "telemetry_site.operate_queue"
LONGEST_REASON = 200


@admin.register(Queue)
class QueueAdmin(Page):
    template = "admin/telemetry_site/queue/page.html"
    title = "Queues"

    def context(self, request: HttpRequest) -> dict[str, Any]:
        """The broker, the workers and the ledger, each for itself: one may be away."""
        now = time.time()
        found, workers = _or_none(queues.look, BROKER_ERRORS), _or_none(_workers, REDIS_ERRORS)
        pauses = {pause.queue: pause for pause in Pause.objects.all()}
        return {
            "now": datetime.now(UTC),
            "may_operate": request.user.has_perm(OPERATE),
            "queues": [_queue(name, found, pauses.get(name), now) for name in QUEUES],
            "broker_answers": found is not None,
            "workers": None if workers is None else [_worker(worker, now) for worker in workers],
            "ledger": _ledger(),
            "longest_reason": LONGEST_REASON,
        }

    def actions_by_path(self) -> dict[str, tuple[str, Action]]:
        """All for those who operate queues."""
        actions: dict[str, Action] = {
            "pause": _pause,
            "resume": _resume,
            "revoke": _revoke,
            "stop": _stop,
            "kill": _kill,
        }
        return {name: (OPERATE, action) for name, action in actions.items()}

    def get_urls(self) -> list[URLPattern]:
        live = self.admin_site.admin_view(self.live_view)
        return [path("live/", live, name="telemetry_site_queue_live"), *super().get_urls()]

    def live_view(self, request: HttpRequest) -> HttpResponse:
        """What of the page changes: the open page asks for it again and again."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return TemplateResponse(
            request, "admin/telemetry_site/queue/live.html", self.context(request)
        )


# --- what the page shows ---


def _or_none(look: Callable[[], Any], errors: tuple[type[Exception], ...]) -> Any:
    try:
        return look()
    except errors:
        return None


def _workers() -> list[presence.Worker]:
    client = redis_client()
    try:
        return presence.workers(client)
    finally:
        client.close()


def _queue(
    name: str, found: dict[str, queues.Queue] | None, pause: Pause | None, now: float
) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": name, "pause": pause, "waiting": "—", "age": "—"}
    if found is None:
        return shown
    queue = found[name]
    messages = [
        {"id": message.id, "task": message.task, "age": _age(message.sent_at, now)}
        for message in queue.oldest
    ]
    return {
        **shown,
        "waiting": f"{queue.waiting:,}",
        "age": messages[0]["age"] if messages else "—",
        "messages": messages,
        "more": f"{queue.waiting - len(messages):,}" if queue.waiting > len(messages) else "",
    }


def _age(since: float | None, now: float) -> str:
    return "—" if since is None else in_words(now - since)


def _worker(worker: presence.Worker, now: float) -> dict[str, Any]:
    tasks = sorted(worker.done.keys() | worker.failed.keys())
    return {
        "name": worker.name,
        "queues": ", ".join(worker.queues),
        "is_gone": worker.is_gone,
        "seen": _moment(worker.seen),
        "since": _moment(worker.since),
        "running": [
            {"id": task.id, "task": task.task, "age": _age(task.since, now), "asked": task.asked}
            for task in worker.running
        ],
        "done": f"{sum(worker.done.values()):,}",
        "failed": f"{sum(worker.failed.values()):,}",
        "any_failed": any(worker.failed.values()),
        "tasks": [
            (task, f"{worker.done.get(task, 0):,}", f"{worker.failed.get(task, 0):,}")
            for task in tasks
        ],
    }


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _ledger() -> dict[str, str]:
    found = backlog.look()
    oldest = found.oldest and in_words((datetime.now(UTC) - found.oldest).total_seconds())
    try:
        dead_set = reverse("admin:ingest_deadbatch_changelist")
    except NoReverseMatch:
        dead_set = ""
    return {
        "waiting": _counted(found.waiting),
        "oldest": oldest or "—",
        "arrived_batches": f"{found.arrived.batches:,.0f}",
        "arrived_events": f"{found.arrived.events:,.0f}",
        "stored_batches": f"{found.stored.batches:,.0f}",
        "stored_events": f"{found.stored.events:,.0f}",
        "dead": _counted(found.dead),
        "dead_set": dead_set,
    }


def _counted(number: int) -> str:
    most = backlog.MOST_COUNTED
    return f"more than {most:,}" if number > most else f"{number:,}"


# --- what its buttons do ---


def _pause(request: HttpRequest) -> str:
    queue = _named_queue(request)
    reason = request.POST.get("reason", "").strip()[:LONGEST_REASON]
    if not reason:
        raise Refused("Say why: whoever finds it paused will want to know.")
    assert request.user.is_authenticated
    pause, made = Pause.objects.get_or_create(
        queue=queue, defaults={"by": request.user.get_username(), "reason": reason}
    )
    if not made:
        raise Refused(f"{queue} was paused already, by {pause.by}: {pause.reason}")
    return f"{queue} is paused: {reason}. {_tell_of_pauses()}".strip()


def _resume(request: HttpRequest) -> str:
    queue = _named_queue(request)
    if not Pause.objects.filter(pk=queue).delete()[0]:
        raise Refused(f"{queue} is not paused.")
    told = _tell_of_pauses()
    if queue in NUDGERS:
        NUDGERS[queue].request()
    return f"{queue} is resumed. {told}".strip()


def _tell_of_pauses() -> str:
    """What there is to say about it: nothing where the workers know at once."""
    try:
        queues.tell_of_pauses()
    except BROKER_ERRORS:
        return f"Redis does not answer: workers see it {OBEY_SECONDS:.0f} s after its return."
    return ""


def _revoke(request: HttpRequest) -> str:
    queue, task_id = _named_queue(request), request.POST.get("task", "")
    try:
        removed = queues.remove(queue, task_id)
    except BROKER_ERRORS:
        raise Refused("Redis does not answer: the task was not revoked.") from None
    if not removed:
        raise Refused("The task no longer waits: a worker has it, or it was revoked already.")
    return f"Task {task_id} is revoked: it is no longer in {queue}."


def _stop(request: HttpRequest) -> str:
    worker, task = _named_task(request)
    _send(lambda: queues.ask_to_stop(worker, task.id))
    return f"Task {task.id} is asked to stop; what it has not finished stays as it was."


def _kill(request: HttpRequest) -> str:
    worker, task = _named_task(request)
    if not task.asked:
        raise Refused("Ask the task to stop first: most do within a second.")
    _send(lambda: queues.kill(worker, task.id))
    return f"The process of task {task.id} is killed."


def _send(send: Callable[[], None]) -> None:
    try:
        send()
    except BROKER_ERRORS:
        raise Refused("Redis does not answer: the worker was not told.") from None


def _named_queue(request: HttpRequest) -> str:
    name = request.POST.get("queue", "")
    if name not in QUEUES:
        raise Refused("There is no such queue.")
    return name


def _named_task(request: HttpRequest) -> tuple[str, presence.Running]:
    """The running task that a button names, and the worker that runs it."""
    try:
        workers = _workers()
    except REDIS_ERRORS:
        raise Refused("Redis does not answer: the worker was not told.") from None
    for worker in workers:
        for task in worker.running:
            if task.id == request.POST.get("task") and not worker.is_gone:
                return worker.name, task
    raise Refused("The task no longer runs.")
