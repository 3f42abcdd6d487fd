"""`?key=`: for senders that can't set headers, with keys that anybody may see anyway."""

import json
from urllib.parse import quote
from uuid import uuid4

import pytest

from tests.harness import Answer, Project, Service, wait_for
from tests.ingest.sending import accepted, batch
from tests.ingest.traces import ledger

JSON = {"Content-Type": "application/json"}


def post(
    service: Service, query: str, headers: dict[str, str] | None = None, path: str = "/v1/events"
) -> Answer:
    return service.request(
        "POST", f"{path}?{query}", json.dumps(batch()).encode(), JSON | (headers or {})
    )


def test_ingest_key_is_taken_from_the_address(service: Service, project: Project) -> None:
    accepted(post(service, f"key={project.ingest_key}"))
    assert len(ledger(project)) == 1


def test_key_is_found_among_other_parameters(service: Service, project: Project) -> None:
    accepted(post(service, f"v=2&key={project.ingest_key}&ts=1"))
    accepted(post(service, f"key=%20{project.ingest_key}%20"))


def test_what_became_of_a_batch_may_be_asked_so_too(service: Service, project: Project) -> None:
    batch_id = accepted(post(service, f"key={project.ingest_key}"))
    answer = service.request("GET", f"/v1/batches/{batch_id}?key={project.ingest_key}")
    assert (answer.status, answer.json["batch_id"]) == (200, str(batch_id))


def test_secret_key_is_refused(service: Service, project: Project) -> None:
    """A URL is written down everywhere: who puts it there must notice."""
    answer = post(service, f"key={project.secret_key}")
    assert (answer.status, answer.json["code"]) == (401, "invalid_key")
    assert "publishable" in answer.json["details"]
    assert ledger(project) == []


@pytest.mark.parametrize("path", ["/v1/query/accounting", "/v1/query/accounting?from="])
def test_no_key_in_an_address_may_ask_questions(
    service: Service, project: Project, path: str
) -> None:
    for key in (project.ingest_key, project.secret_key):
        joint = "&" if "?" in path else "?"
        assert service.request("GET", f"{path}{joint}key={key}").status == 401


@pytest.mark.parametrize(
    "value",
    [
        "x", "ingest", "ingest_", "ingest__", "ingest_x_y", "%00", "ingest_%00", "a%00b",
        "ingest_%00%00%00%00%00%00%00%00%00%00%00%00_x", "ingest_000000000000_%00",
        "ingest_000000000000_x", "INGEST_000000000000_x", "%ff%fe", "%", "%u0041", "%F0%9F%98%80",
        "ingest_" + "%C3%A9" * 12 + "_x", "'%20OR%201=1--", "x" * 5000,
        "ingest_000000000000_" + "x" * 5000, "ingest_000000000000_%ED%A0%80",
    ],
    ids=lambda value: value[:40],
)  # fmt: skip
def test_garbage_is_no_key(service: Service, value: str) -> None:
    answer = post(service, f"key={value}")
    assert (answer.status, answer.json["code"]) == (401, "invalid_key"), answer


@pytest.mark.parametrize("query", ["", "key=", "key=%20", "key", "keys=x", "KEY=x", "k%00ey=x"])
def test_no_key_is_no_key(service: Service, query: str) -> None:
    answer = post(service, query)
    assert (answer.status, answer.json["code"]) == (401, "missing_key")


def test_spoilt_key_is_refused(service: Service, project: Project) -> None:
    key = project.ingest_key
    for spoilt in (key[:-1], key + "x", key.upper(), key + "%00", key.replace("ingest_", "", 1)):
        answer = post(service, f"key={spoilt}")
        assert (answer.status, answer.json["code"]) == (401, "invalid_key"), spoilt


def test_address_with_too_many_parameters_is_refused(service: Service, project: Project) -> None:
    answer = post(service, "&".join(f"a{number}=" for number in range(1500)))
    assert answer.status == 400
    assert answer.json["code"]


def test_header_wins_over_the_address(service: Service, project: Project) -> None:
    accepted(post(service, "key=nonsense", {"X-API-Key": project.ingest_key}))
    answer = post(service, f"key={project.ingest_key}", {"X-API-Key": "nonsense"})
    assert answer.status == 401


def test_empty_header_leaves_the_word_to_the_address(service: Service, project: Project) -> None:
    accepted(post(service, f"key={project.ingest_key}", {"X-API-Key": ""}))


def test_key_is_in_no_log_line_and_in_no_answer(service: Service, project: Project) -> None:
    """Right or wrong, publishable or not; the requests themselves are logged."""
    wrong = f"ingest_{uuid4().hex[:12]}_{uuid4().hex}"
    begun = len(service.lines)
    for key in (project.ingest_key, project.secret_key, wrong):
        request_id = uuid4().hex
        answer = post(service, f"key={quote(key)}", {"X-Request-ID": request_id})
        missing = post(
            service, f"key={key}", {"X-Request-ID": request_id}, path=f"/v1/events/{request_id}"
        )
        assert missing.status == 404
        wait_for(lambda it=request_id: it in service.output, 5, "the request's log line")
        for text in (answer.text, missing.text, service.output):
            assert key not in text
            assert key.split("_", 2)[2] not in text
    assert "key=" not in "\n".join(service.lines[begun:])
