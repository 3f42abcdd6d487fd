"""What is logged: an object a line, which request and batch it is about, and nobody's data."""

import io
import json
import logging
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.db import DatabaseError
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.utils.log import log_response

from telemetry_site import logs
from telemetry_site.console import Console
from tests.harness import Project, Service, wait_for
from tests.ingest.sending import batch, event
from tests.ingest.waiting import plant, record, reread
from tests.logs import entries
from tests.people import logged_in

SECONDS = 30
ANNOUNCED = re.compile(r"ready http://\S+|up       \| .*")


def logged(formatter: logging.Formatter, say: Callable[[logging.Logger], None]) -> str:
    """What a handler like ours writes of what `say` logs."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    handler.addFilter(logs.Fields())
    logger = logging.Logger("tests")
    logger.addHandler(handler)
    say(logger)
    return stream.getvalue()


def test_every_line_but_the_announcements_is_an_object(service: Service) -> None:
    for line in list(service.lines):
        if not ANNOUNCED.fullmatch(line):
            entry = json.loads(line)
            assert datetime.fromisoformat(entry["time"]).tzinfo is not None
            assert entry["level"] in {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}
            assert entry["message"]
            assert entry["process"]


def test_an_accepted_requests_line_names_its_batch(project: Project) -> None:
    body, request_id = json.dumps(batch(event())), uuid4().hex
    access = logging.getLogger("telemetry.access")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.Json())
    handler.addFilter(logs.Fields())
    access.addHandler(handler)
    access.setLevel(logging.DEBUG)
    try:
        answer = Client().post(
            "/v1/events", body, "application/json",
            headers={"X-API-Key": project.ingest_key, "X-Request-ID": request_id},
        )  # fmt: skip
    finally:
        access.removeHandler(handler)
        access.setLevel(logging.NOTSET)
    entry = json.loads(stream.getvalue())
    assert entry["request_id"] == request_id
    assert entry["batch_id"] == answer.json()["batch_id"]


def test_a_request_is_followed_into_the_task(service: Service, project: Project) -> None:
    request_id = uuid4().hex
    dead = plant(project, [record(properties=b'{"a": nope}')], request_id=request_id)

    def line() -> Any:
        return next(entries(service, process="ingest", request_id=request_id), None)

    entry = wait_for(line, SECONDS, "the worker's line about the batch")
    assert entry["batch_id"] == str(dead.batch_id)
    assert entry["task"] == "ingest.tasks.store_batches"
    assert entry["task_id"]
    assert entry["level"] == "ERROR"


def test_what_a_batch_held_is_in_no_line_and_no_error(service: Service, project: Project) -> None:
    secret = f"s{uuid4().hex}"
    dead = plant(project, [record(properties=f'{{"a": {secret}}}'.encode())])
    wait_for(lambda: reread(dead) or dead.state == "dead", SECONDS, "the batch to be dead")
    assert dead.error.startswith("22P02")
    assert secret not in dead.error
    assert secret not in service.output


def test_fields_are_those_of_the_innermost_context() -> None:
    def say(logger: logging.Logger) -> None:
        logs.note(batch_id="of nothing")
        with logs.about(request_id="r"):
            logs.note(batch_id="b")
            with logs.about(task="t"):
                logger.warning("inside")
            logger.warning("between")
        logger.warning("outside")

    plain = logged(logs.Plain(), say).splitlines()
    assert plain[0].endswith("WARNING tests inside request_id=r batch_id=b task=t")
    assert plain[1].endswith("between request_id=r batch_id=b")
    assert plain[2].endswith("outside")
    found = [json.loads(line) for line in logged(logs.Json(), say).splitlines()]
    assert found[0] == {
        "time": found[0]["time"], "level": "WARNING", "logger": "tests", "message": "inside",
        "request_id": "r", "batch_id": "b", "task": "t",
    }  # fmt: skip
    assert "batch_id" not in found[2]


def _fail_to_store(logger: logging.Logger) -> None:
    try:
        try:
            raise psycopg.errors.UniqueViolation("Key (a)=(secret-1)\nDETAIL: secret-2")
        except psycopg.Error as error:
            raise DatabaseError(*error.args) from error
    except DatabaseError:
        logger.exception("storing failed")


@pytest.mark.parametrize("formatter", [logs.Plain(), logs.Json()])
def test_a_traceback_says_what_kind_of_complaint_it_was(formatter: logging.Formatter) -> None:
    text = logged(formatter, _fail_to_store)
    assert "secret" not in text.replace('"Key (a)=(secret-1)\\nDETAIL: secret-2"', "").replace(
        '\\"Key (a)=(secret-1)\\\\nDETAIL: secret-2\\"', ""
    )
    assert "UniqueViolation 23505" in text
    assert "_fail_to_store" in text


@pytest.mark.parametrize("formatter", [logs.Plain(), logs.Json()])
@pytest.mark.parametrize("status", [400, 403, 500])
def test_djangos_lines_leave_the_query_out(formatter: logging.Formatter, status: int) -> None:
    def say(logger: logging.Logger) -> None:
        request = RequestFactory().get("/admin/privacy/exportrequest/", {"subject": "secret"})
        response = HttpResponse(status=status)
        log_response(
            "%s: %s", "Odd", request.path, response=response, request=request, logger=logger
        )

    text = logged(formatter, say)
    assert "Odd: /admin/privacy/exportrequest/" in text
    assert "secret" not in text


def test_djangos_line_of_a_refused_filter_leaves_its_value_out(service: Service) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.Json())
    security = logging.getLogger("django.security")
    security.addHandler(handler)
    try:
        answer = logged_in("admin").get("/admin/privacy/exportrequest/", {"subject": "secret"})
    finally:
        security.removeHandler(handler)
    assert answer.status_code == 400
    assert json.loads(stream.getvalue())["message"] == "Filtering by subject not allowed"
    assert "secret" not in stream.getvalue()


def test_celerys_line_of_a_failed_task_repeats_no_text() -> None:
    def say(logger: logging.Logger) -> None:
        try:
            raise psycopg.errors.DataError("secret")
        except psycopg.Error as error:
            told = {"name": "store", "exc": repr(error), "traceback": "secret"}
            logger.error("Task %(name)s raised %(exc)s", told, exc_info=True)

    first, *_ = logged(logs.Plain(), say).splitlines()
    assert first.endswith("Task store raised DataError")


def test_personal_data_in_another_errors_text_is_scrubbed() -> None:
    def say(logger: logging.Logger) -> None:
        address = "alice" + "@example.com"
        try:
            raise ValueError(address)
        except ValueError:
            logger.exception("oops")

    text = logged(logs.Plain(), say)
    assert "alice" + "@example.com" not in text
    assert "[email]" in text


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        ('{"level": "ERROR", "message": "m"}', {"level": "ERROR", "message": "m"}),
        ("FATAL:  no", {"level": "ERROR", "message": "FATAL:  no"}),
        ("WARNING:  hm", {"level": "WARNING", "message": "WARNING:  hm"}),
        ("LOG:  yes", {"level": "INFO", "message": "LOG:  yes"}),
        ("{no JSON", {"level": "INFO", "message": "{no JSON"}),
        ("[1]", {"level": "INFO", "message": "[1]"}),
        ("", {"level": "INFO", "message": ""}),
    ],
)
def test_a_program_that_writes_no_json_is_quoted(line: str, entry: dict[str, str]) -> None:
    stream = io.StringIO()
    Console(stream, json=True).line("postgres", line)
    found = json.loads(stream.getvalue())
    found.pop("time", None)
    assert found == {**entry, "process": "postgres"}
