"""Asking for an export: at once or later, and waited for; whose it is, and who gets the file."""

import gzip
import json
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import timedelta
from http.client import HTTPConnection
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.core.signing import TimestampSigner
from django.utils import timezone

from ingest.models import Project as Row
from privacy import exports, handing
from privacy.models import AuditEntry, ExportRequest
from telemetry_site import stalls
from tests.harness import Answer, Project, Service, wait_for
from tests.ingest.sending import accepted, batch, event, send
from tests.ingest.sending import settled as stored
from tests.ingest.traces import project_id
from tests.privacy.asking import ask, pseudonym, somebody, subject_token
from tests.privacy.exporting import (
    LATER,
    PATIENT,
    export,
    fetched,
    rows,
    settled,
    standing_still,
    status,
)


def done(service: Service, project: Project, user: str) -> dict[str, Any]:
    """An export that is done."""
    asked = export(service, project, user, LATER)
    assert asked.status == 202, asked
    report = settled(service, project, asked.json["export_id"])
    assert report["status"] == "done", report
    return report


def refused(url: str) -> int:
    """The status that this link is refused with."""
    with pytest.raises(urllib.error.HTTPError) as found:
        urllib.request.urlopen(url, timeout=10)
    with found.value as error:
        return error.code


def path_of(report: dict[str, Any]) -> str:
    return f"/v1/telemetry/exports/{report['export_id']}/download"


# --- at once, or later ---


def test_later_is_answered_at_once_and_says_where_to_look(
    service: Service, project: Project
) -> None:
    answer = export(service, project, somebody(), LATER)
    assert answer.status == 202
    assert answer.headers["preference-applied"] == "respond-async"
    assert answer.json["status_url"] == answer.headers["location"]
    assert answer.json["status_url"].endswith(f"/v1/telemetry/exports/{answer.json['export_id']}")
    report = settled(service, project, answer.json["export_id"])
    assert (report["status"], report["error"]) == ("done", "")
    assert report["bytes"] > 0


def test_several_prefer_headers_are_one(service: Service, project: Project) -> None:
    user = somebody()
    client = HTTPConnection("127.0.0.1", service.port, timeout=30)
    with closing(client):
        client.putrequest("POST", "/v1/telemetry/export")
        body = json.dumps({"user_id": user}).encode()
        for name, value in (
            ("Authorization", f"Bearer {subject_token(project, user)}"),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Prefer", "wait=10"),
            ("Prefer", "respond-async"),
        ):
            client.putheader(name, value)
        client.endheaders(body)
        answer = client.getresponse()
        assert (answer.status, answer.headers["Preference-Applied"]) == (200, "wait=10")


def test_who_waits_in_vain_is_told_to_come_again(service: Service, project: Project) -> None:
    user = somebody()
    with standing_still(service, "privacy"):
        begun = time.monotonic()
        answer = export(service, project, user, {"Prefer": "wait=1"})
        took = time.monotonic() - begun
        assert (answer.status, answer.json["status"]) == (202, "waiting")
        assert answer.headers["preference-applied"] == "wait=1"
        assert 1 <= took < 5
    assert settled(service, project, answer.json["export_id"])["status"] == "done"


def test_much_is_a_file_even_for_who_waits(service: Service, project: Project) -> None:
    user = somebody()
    sent = [
        accepted(send(service, project, batch(*[event(user_id=user)] * 1000))) for _ in range(11)
    ]
    for batch_id in sent:
        stored(service, project, batch_id)
    answer = export(service, project, user, PATIENT)
    assert answer.status == 202, answer
    report = settled(service, project, answer.json["export_id"])
    assert (report["status"], report["events"]) == ("done", 11_000)
    assert len(fetched(report["download_url"])["events"]) == 11_000


def test_asking_again_while_one_waits_asks_for_the_same(service: Service, project: Project) -> None:
    user, other = somebody(), somebody()
    with standing_still(service, "privacy"):
        answers = [export(service, project, user, LATER) for _ in range(3)]
        assert export(service, project, other, LATER).status == 202
        assert len({answer.json["export_id"] for answer in answers}) == 1
        assert len(rows(project)) == 2
    first = answers[0].json["export_id"]
    settled(service, project, first)
    assert export(service, project, user, LATER).json["export_id"] != first


def test_of_many_who_ask_at_once_one_request_comes(service: Service, project: Project) -> None:
    user = somebody()
    start = threading.Barrier(8)

    def one(_: int) -> Answer:
        start.wait()
        return export(service, project, user, LATER)

    with standing_still(service, "privacy"), ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, range(8)))
        assert [answer.status for answer in answers] == [202] * 8
        assert len(rows(project)) == 1


def test_many_who_wait_do_not_hold_up_who_sends(service: Service, project: Project) -> None:
    waiting = 3 * settings.WEB_THREADS
    with standing_still(service, "privacy"), ThreadPoolExecutor(waiting) as pool:
        asked = [
            pool.submit(export, service, project, somebody(), {"Prefer": "wait=4"})
            for _ in range(waiting)
        ]
        # All but a few are answered; those few wait.
        wait_for(lambda: sum(one.done() for one in asked) >= waiting - settings.WEB_THREADS // 4,
                 20, "those who may not wait to be answered")  # fmt: skip
        assert not all(one.done() for one in asked)
        begun = time.monotonic()
        accepted(send(service, project, batch()))
        assert time.monotonic() - begun < 2
        assert {one.result().status for one in asked} == {202}


def large(service: Service, project: Project, size: int = 64 * 1024**2) -> tuple[Any, str]:
    """An export of more than what lies between a reader and the server, and its link."""
    name = f"{uuid4().hex}.json.gz"
    folder = settings.DATA_DIR / "exports"
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / name).open("wb") as file:
        # An empty one and nothing behind it, for those who look into all files.
        file.write(gzip.compress(b""))
        file.truncate(size)
    row = ExportRequest.objects.create(
        project_id=project_id(project), subject=pseudonym(project, somebody()), state="done",
        expires_at=timezone.now() + timedelta(hours=1), file=name, bytes=size,
    )  # fmt: skip
    path = f"/v1/telemetry/exports/{row.pk}/download?signature={handing.signature(row)}"
    return row, service.url + path


def begin(url: str, held: list[Any]) -> int:
    """The status of a download of which nothing is read."""
    try:
        held.append(urllib.request.urlopen(url, timeout=10))
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    return 200


@pytest.mark.parametrize("hang_up", [True, False], ids=["who hang up", "who never do"])
def test_slow_readers_hold_up_nobody_for_long(
    service: Service, project: Project, hang_up: bool
) -> None:
    Row.objects.filter(slug=project.project).update(rate_limits={"download.export": "0"})
    urls = [large(service, project)[1] for _ in range(2 * settings.WEB_THREADS)]
    held: list[Any] = []
    with ExitStack() as stack:
        stack.callback(lambda: [response.close() for response in held])
        statuses = [begin(url, held) for url in urls]
        assert statuses.count(200) == settings.WEB_THREADS // 4
        assert set(statuses) == {200, 503}
        accepted(send(service, project, batch()))
        if hang_up:
            stack.close()
        more: list[Any] = []
        stack.callback(lambda: [response.close() for response in more])
        wait_for(
            lambda: begin(urls[-1], more) == 200,
            10 if hang_up else 3 * stalls.SECONDS,
            "those who read nothing to make room",
        )


def test_one_at_a_time_fetches_a_file(service: Service, project: Project) -> None:
    row, url = large(service, project)
    held: list[Any] = []
    try:
        assert begin(url, held) == 200
        answer = service.request("GET", url.removeprefix(service.url))
        assert (answer.status, answer.json["code"]) == (409, "being_fetched")
        assert int(answer.headers["retry-after"]) > 0
        assert begin(large(service, project)[1], held) == 200
    finally:
        for response in held:
            response.close()
    downloads = AuditEntry.objects.filter(action="export.downloaded", object=str(row.pk))
    assert downloads.count() == 1


def test_who_has_all_of_a_file_may_fetch_it_again_at_once(
    service: Service, project: Project
) -> None:
    report = done(service, project, somebody())
    for _ in range(8):
        assert fetched(report["download_url"])["events"] == []


@pytest.mark.parametrize(("pace", "gets_all"), [(0.9, False), (1.1, True)])
def test_a_pace_is_asked_of_who_reads(
    service: Service, project: Project, monkeypatch: pytest.MonkeyPatch, pace: float, gets_all: bool
) -> None:
    size = 20 * int(handing.GRACE_SECONDS * handing.SLOWEST)
    row, _ = large(service, project, size)
    clock = [0.0]
    monkeypatch.setattr(handing, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    given = 0
    with closing(handing.Handing(row)) as pieces:
        for piece in pieces:
            given += len(piece)
            clock[0] = given / (pace * handing.SLOWEST)
    assert (given == size) == gets_all


# --- whose it is ---


def test_a_token_for_one_person_gets_no_export_of_another(
    service: Service, project: Project
) -> None:
    user, other = somebody(), somebody()
    report = done(service, project, user)
    export_id = report["export_id"]
    mine, others = subject_token(project, user), subject_token(project, other)
    assert status(service, mine, export_id).json["download_url"]
    before = AuditEntry.objects.filter(action="access.refused").count()
    answer = status(service, others, export_id)
    assert (answer.status, answer.json["code"]) == (404, "unknown_export")
    assert AuditEntry.objects.filter(action="access.refused").count() == before + 1
    answer = ask(service, "export", others, {"user_id": user})
    assert (answer.status, answer.json["code"]) == (403, "wrong_subject")


def test_refusals_of_one_caller_for_one_thing_are_written_down_once_a_minute(
    service: Service, project: Project
) -> None:
    user, other = somebody(), somebody()
    exports_of_user = [done(service, project, user)["export_id"] for _ in range(2)]
    others = subject_token(project, other)

    def refusals() -> int:
        refused = AuditEntry.objects.filter(project_id=project_id(project))
        return refused.filter(action="access.refused").count()

    for count, export_id in enumerate(exports_of_user, 1):
        for _ in range(5):
            assert status(service, others, export_id).status == 404
        assert refusals() == count
    assert status(service, subject_token(project, somebody()), export_id).status == 404
    assert refusals() == 3
    for _ in range(2):
        assert ask(service, "export", others, {"user_id": user}).status == 403
    assert refusals() == 4


def test_another_projects_key_or_token_gets_nothing(service: Service, project: Project) -> None:
    user = somebody()
    export_id = done(service, project, user)["export_id"]
    stranger = service.create_project(f"stranger {uuid4().hex}")
    for bearer in (stranger.secret_key, subject_token(stranger, user)):
        assert status(service, bearer, export_id).status == 404
    for bearer, code in ((stranger.ingest_key, 403), (project.ingest_key, 403), ("x", 401)):
        assert status(service, bearer, export_id).status == code


# --- the link ---


def test_link_opens_the_file_without_a_key_and_nothing_else(
    service: Service, project: Project
) -> None:
    report = done(service, project, somebody())
    with urllib.request.urlopen(report["download_url"], timeout=10) as response:
        headers = response.headers
        assert headers["Content-Type"] == "application/gzip"
        assert headers["Content-Disposition"].startswith("attachment; ")
        assert headers["Cache-Control"] == "no-store"
        assert int(headers["Content-Length"]) == report["bytes"] == len(response.read())


def test_link_that_is_tampered_with_opens_nothing(service: Service, project: Project) -> None:
    report, other = (done(service, project, somebody()) for _ in range(2))
    _, _, signature = report["download_url"].partition("?signature=")
    moment, _, digest = signature.partition(":")
    forged = {
        "nothing": "",
        "no signature": "x",
        "another's": other["download_url"].partition("?signature=")[2],
        "cut": signature[:-1],
        "longer": f"{signature}0",
        "later": f"{moment[:-1]}{'0' if moment[-1] != '0' else '1'}:{digest}",
        "another key": TimestampSigner(key="k" * 50, salt="privacy.export")
        .sign(report["export_id"])
        .partition(":")[2],
        "another salt": TimestampSigner(salt="admin").sign(report["export_id"]).partition(":")[2],
    }
    for what, given in forged.items():
        answer = service.request("GET", f"{path_of(report)}?signature={given}")
        assert (answer.status, answer.json["code"]) == (404, "unknown_export"), what
    # It opens no export but its own.
    path = report["download_url"].replace(report["export_id"], other["export_id"])
    assert refused(path) == 404


def test_link_expires_and_the_next_answer_has_another(
    service: Service, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = done(service, project, somebody())
    old = time.time() - handing.LINK_LIFE.total_seconds() - 2
    monkeypatch.setattr("django.core.signing.time.time", lambda: old)
    row = ExportRequest.objects.get(pk=report["export_id"])
    path = f"{path_of(report)}?signature={handing.signature(row)}"
    monkeypatch.undo()
    answer = service.request("GET", path)
    assert (answer.status, answer.json["code"]) == (410, "link_expired")
    again = status(service, project.secret_key, report["export_id"]).json["download_url"]
    assert fetched(again)["events"] == []


def test_file_that_expired_is_gone_at_once_and_then_forgotten(
    service: Service, project: Project
) -> None:
    user = somebody()
    report = done(service, project, user)
    row = ExportRequest.objects.get(pk=report["export_id"])
    path = settings.DATA_DIR / "exports" / row.file
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    ExportRequest.objects.filter(pk=row.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert refused(report["download_url"]) == 410
    assert status(service, project.secret_key, report["export_id"]).json["download_url"] is None
    exports.expire()
    assert not path.exists()
    row.refresh_from_db()
    assert (row.state, row.subject, row.file) == ("expired", None, "")
    assert refused(report["download_url"]) == 410
    assert status(service, project.secret_key, report["export_id"]).json["status"] == "expired"
    assert status(service, subject_token(project, user), report["export_id"]).status == 404


def test_a_new_export_takes_the_place_of_the_person_s_earlier_one(
    service: Service, project: Project
) -> None:
    user, other = somebody(), somebody()
    others, first = done(service, project, other), done(service, project, user)
    path = settings.DATA_DIR / "exports" / ExportRequest.objects.get(pk=first["export_id"]).file
    assert path.exists()
    second = done(service, project, user)
    withdrawn = ExportRequest.objects.filter(pk=first["export_id"], state="expired")
    wait_for(withdrawn.exists, 10, "the earlier file to be withdrawn")
    assert not path.exists()
    assert refused(first["download_url"]) == 410
    told = status(service, subject_token(project, user), first["export_id"]).json
    assert (told["status"], told["download_url"]) == ("expired", None)
    for report in (second, others):
        assert fetched(report["download_url"])["events"] == []


def test_erased_export_is_gone(service: Service, project: Project) -> None:
    report = done(service, project, somebody())
    ExportRequest.objects.filter(pk=report["export_id"]).delete()
    assert refused(report["download_url"]) == 404
    assert status(service, project.secret_key, report["export_id"]).status == 404


def test_files_that_no_row_leads_to_are_swept_and_others_stay(
    service: Service, project: Project
) -> None:
    report = done(service, project, somebody())
    folder = settings.DATA_DIR / "exports"
    orphan, foreign = folder / f"{uuid4().hex}.json.gz", folder / "README"
    for path in (orphan, foreign):
        path.write_bytes(b"x")
    exports.expire()
    assert not orphan.exists()
    assert foreign.exists()
    assert fetched(report["download_url"])["events"] == []
    foreign.unlink()


# --- written down ---


def test_downloads_that_are_refused_are_not_on_record_as_downloads(
    service: Service, project: Project
) -> None:
    Row.objects.filter(slug=project.project).update(rate_limits={"download.export": "10/d"})
    report = done(service, project, somebody())
    for _ in range(10):
        assert fetched(report["download_url"])["events"] == []
    assert [refused(report["download_url"]) for _ in range(2)] == [429] * 2
    downloads = AuditEntry.objects.filter(action="export.downloaded", object=report["export_id"])
    assert downloads.count() == 10


def test_a_file_that_is_gone_is_not_on_record_as_downloaded(
    service: Service, project: Project
) -> None:
    report = done(service, project, somebody())
    row = ExportRequest.objects.get(pk=report["export_id"])
    (settings.DATA_DIR / "exports" / row.file).unlink()
    assert refused(report["download_url"]) == 404
    of_it = AuditEntry.objects.filter(object=report["export_id"])
    assert not of_it.filter(action="export.downloaded").exists()


def test_everything_is_in_the_audit_log_and_no_url_names_anybody(
    service: Service, project: Project
) -> None:
    user = somebody()
    report = done(service, project, user)
    fetched(report["download_url"])
    ask(service, "export", project.secret_key, {"user_id": user}, PATIENT)
    entries = AuditEntry.objects.filter(project_id=project_id(project)).order_by("number")
    assert [entry.action for entry in entries] == [
        "export.asked", "export.made", "export.downloaded", "export.asked", "export.made",
        "export.answered",
    ]  # fmt: skip
    assert {entry.object for entry in entries} == {str(row.pk) for row in rows(project)}
    assert not [url for url in (report["download_url"],) if user in url]
    assert pseudonym(project, user).hex() not in report["download_url"]
