"""What a question costs: as many statements however much there is to tell."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.http import QueryDict

from aggregation.models import DirtyMark, Kind, Level
from aggregation.queries import events, metrics, nodes, parameters
from tests.aggregation.planting import (
    DAY,
    HOUR,
    Happened,
    Measured,
    plant,
    plant_points,
    today,
)
from tests.harness import Project, Service
from tests.ingest.traces import project_id
from tests.ingest.waiting import storing


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The statements that are sent meanwhile, by Django or by ourselves."""
    sent: list[Any] = []
    with monkeypatch.context() as patch:
        for name in ("execute", "stream"):
            method = getattr(psycopg.Cursor, name)

            def counting(
                cursor: Any, query: Any, *given: Any, _method: Any = method, **more: Any
            ) -> Any:
                sent.append(query)
                return _method(cursor, query, *given, **more)

            patch.setattr(psycopg.Cursor, name, counting)
        yield sent


def ask_events(asked: str) -> Callable[[int], Any]:
    return lambda pk: events.over_time(parameters.events(QueryDict(asked), pk))


def ask_metrics(asked: str) -> Callable[[int], Any]:
    return lambda pk: metrics.over_time(parameters.metrics(QueryDict(asked), pk))


SPAN = f"from={today(3).date()}&to={today().date()}"
# Question -> its statements: the policy, the marks twice and the persons', then what is asked.
QUESTIONS: dict[str, tuple[Callable[[int], Any], int]] = {
    "all events by day": (ask_events(SPAN), 5),
    "by name and hour": (ask_events(f"{SPAN}&interval=hour&group_by=event"), 6),
    "by name in a zone": (ask_events(f"{SPAN}&group_by=event&tz=Etc/GMT-1"), 7),
    "a metric by hour": (ask_metrics(f"{SPAN}&name=m&interval=hour&agg=p95"), 6),
    "a metric by node": (ask_metrics(f"{SPAN}&name=m&group_by=node"), 6),
    "nodes": (nodes.latest, 4),
}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("size", [2, 20])
def test_the_number_of_statements_is_constant(
    service: Service,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    question: str,
    size: int,
) -> None:
    pk, start = project_id(project), today(2)
    hours = [start + HOUR * (n % 3) for n in range(size)]
    plant(project, *(Happened(at, range(9), f"e{n}") for n, at in enumerate(hours)))
    plant_points(
        project,
        *(
            Measured(at, [1, 2], f"n{n}", people=range(n % 2 * 9), name=name)
            for n, at in enumerate(hours)
            for name in ("m", "node.cpu")
        ),
    )
    ask, statements = QUESTIONS[question]
    ask(pk)
    with counted(monkeypatch) as sent:
        ask(pk)
    assert len(sent) == statements, sent


def test_an_answer_says_until_when_it_is_complete_and_clean(
    service: Service, project: Project
) -> None:
    pk = project_id(project)
    late, erased = today(5, hour=7), today(1, hour=3)
    with storing():
        for bucket, erasing in ((late, False), (today(2), True)):
            DirtyMark.objects.create(
                project_id=pk, kind=Kind.EVENTS, level=Level.DAY,
                bucket=bucket, erasing=erasing, marked_at=erased,
            )  # fmt: skip
        of_days = ask_events(SPAN)(pk).standing
        assert (of_days.complete_until, of_days.clean_until) == (late, erased)
        # Their hours are made, and are what days of a zone are made of.
        of_hours = ask_events(f"{SPAN}&tz=Etc/GMT-1")(pk).standing
        assert min(of_hours.complete_until, of_hours.clean_until) > today() - DAY
