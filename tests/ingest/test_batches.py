"""`GET /v1/batches/{id}`: did it arrive, and what became of its events?"""

from urllib.parse import quote
from uuid import uuid4

import pytest

from ingest.models import Batch, BatchClaim
from ingest.models import Project as Row
from tests.harness import Project, Service
from tests.ingest.sending import UNKNOWN, accepted, batch, event, send, settled, status
from tests.ingest.traces import project_id


def test_stored_batch_reports_its_counts(service: Service, project: Project) -> None:
    batch_id = accepted(send(service, project, batch(event(), event(), 7)))
    report = settled(service, project, batch_id)
    for moment in ("received_at", "stored_at"):
        assert report.pop(moment).endswith("Z")
    assert report == {
        "batch_id": str(batch_id),
        "state": "stored",
        "format": "events",
        "received": 3,
        "stored": 2,
        "duplicate": 0,
        "rejected": 1,
        "suppressed": 0,
        "dead": 0,
        "waiting": 0,
    }


def test_batch_can_be_asked_for_at_once(service: Service, project: Project) -> None:
    batch_id = accepted(send(service, project, batch()))
    report = status(service, project, batch_id).json
    assert report["state"] in {"received", "stored"}
    assert report["waiting"] + report["stored"] == report["received"] == 1


def test_either_key_may_ask(service: Service, project: Project) -> None:
    batch_id = accepted(send(service, project, batch()))
    for key in (project.ingest_key, project.secret_key):
        answer = service.request("GET", f"/v1/batches/{batch_id}", headers={"X-API-Key": key})
        assert answer.status == 200


def test_batch_of_another_project_is_unknown(service: Service, project: Project) -> None:
    batch_id = accepted(send(service, project, batch()))
    row, keys = Row.objects.create_with_keys(f"other {uuid4().hex}")
    other = Project(row.slug, keys["ingest"], keys["secret"], row.signing_secret)
    assert status(service, other, batch_id).status == 404


def test_refused_batch_did_not_arrive(service: Service, project: Project) -> None:
    content = batch(7)
    assert send(service, project, content).status == 400
    answer = status(service, project, content["batch_id"])
    assert (answer.status, answer.json["code"]) == (404, "unknown_batch")


def test_digest_of_a_content_is_no_batch(service: Service, project: Project) -> None:
    """Claims of contents stand beside those of ids; they lead nobody to a batch."""
    batch_id = accepted(send(service, project, batch()))
    (digest,) = [
        claim.key
        for claim in BatchClaim.objects.filter(project_id=project_id(project))
        if claim.key != batch_id
    ]
    assert status(service, project, digest).status == 404


@pytest.mark.parametrize("spelling", ["nonsense", "0", "'; DROP TABLE ingest_batch", UNKNOWN])
def test_unknown_batch_is_404(service: Service, project: Project, spelling: str) -> None:
    answer = status(service, project, quote(spelling))
    assert answer.status == 404
    assert answer.json["error"] == "Not found"


def test_rebuilt_batch_reports_of_which_it_is_a_duplicate(
    service: Service, project: Project
) -> None:
    content = batch(event(), event())
    first = accepted(send(service, project, content))
    again = accepted(send(service, project, {**content, "batch_id": str(uuid4())}))
    report = status(service, project, again).json
    assert (report["state"], report["duplicate_of"]) == ("duplicate", str(first))
    assert (report["received"], report["duplicate"], report["stored"]) == (2, 2, 0)
    assert "duplicate_of" not in status(service, project, first).json


def test_dead_batch_reports_what_was_stored_of_it(service: Service, project: Project) -> None:
    batch_id = accepted(send(service, project, batch(event(), event())))
    settled(service, project, batch_id)
    Batch.objects.filter(batch_id=batch_id).update(state="dead", stored=1, dead=1, error="why")
    answer = status(service, project, batch_id)
    assert (answer.json["state"], answer.json["stored"], answer.json["dead"]) == ("dead", 1, 1)
    assert "why" not in answer.text


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_batch_is_only_read(service: Service, project: Project, method: str) -> None:
    answer = service.request(
        method, f"/v1/batches/{uuid4()}", headers={"X-API-Key": project.ingest_key}
    )
    assert (answer.status, answer.json["code"]) == (405, "method_not_allowed")
    assert answer.json["error"] == "Method not allowed"


@pytest.mark.parametrize(
    ("state", "told", "waiting", "stored"),
    [("received", "received", 6, 4), ("dead", "stored", 1, 9), ("discarded", "stored", 1, 9)],
)
def test_who_may_only_send_is_told_no_more_than_that_it_arrived(
    state: str, told: str, waiting: int, stored: int
) -> None:
    counts = {"received": 11, "duplicate": 0, "rejected": 1, "stored": 4, "suppressed": 2}
    report = Batch(state=state, dead=3, **counts).report_to_client
    assert (report["state"], report["waiting"], report["stored"]) == (told, waiting, stored)
    assert (report["suppressed"], report["dead"]) == (0, 0)
    assert sum(report[name] for name in ("duplicate", "rejected", "stored", "waiting")) == 11
