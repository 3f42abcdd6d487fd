"""The privacy desk: looking a person up, acting for them, requests, and the audit log."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from ingest.models import Batch
from ingest.payloads import pack
from privacy import audit, restrictions
from privacy.models import AuditEntry, DeletionRequest
from privacy.subjects import Pseudonyms
from tests.harness import Project, Service
from tests.ingest.sending import accepted, batch, event, send, settled
from tests.ingest.traces import project_id, traces
from tests.ingest.waiting import record
from tests.people import logged_in
from tests.privacy.asking import ask, pseudonym, somebody, subject_token

pytestmark = pytest.mark.usefixtures("none_late")

PERSONS = "/admin/privacy/person/"
OFFICER, OTHERS = "privacy officer", ("viewer", "operator")


@pytest.fixture
def officer(service: Service) -> Client:
    return logged_in(OFFICER)


def look_up(client: Client, project: Project, user: str) -> Any:
    return client.post(PERSONS, {"project": project_id(project), "user_id": user})


def act(client: Client, project: Project, user: str, action: str) -> Any:
    given = {"project": project_id(project), "user_id": user, "action": action}
    return client.post(f"{PERSONS}act/", given)


def wish(project: Project) -> DeletionRequest:
    return DeletionRequest.objects.get(project_id=project_id(project))


def test_person_is_looked_up_and_that_is_on_record_without_their_id(
    service: Service, project: Project, officer: Client
) -> None:
    user = somebody()
    settled(service, project, accepted(send(service, project, batch(event(user_id=user)))))
    page = look_up(officer, project, user)
    assert page.status_code == 200
    assert pseudonym(project, user).hex() in page.text
    assert re.search(r"Events stored</dt><dd>1<", page.text)
    assert "no-store" in page["Cache-Control"]
    entry = AuditEntry.objects.filter(project_id=project_id(project)).latest("number")
    assert entry.action == "person.looked_up"
    assert entry.actor.startswith("operator #")
    assert not traces(service, user)


def test_nobody_else_looks_a_person_up_or_acts_for_them(service: Service, project: Project) -> None:
    for role in OTHERS:
        client = logged_in(role)
        assert look_up(client, project, "u").status_code == 403
        assert act(client, project, "u", "erase").status_code == 403
    assert not DeletionRequest.objects.filter(project_id=project_id(project)).exists()


@pytest.mark.parametrize(
    "given",
    [{}, {"project": "1"}, {"user_id": "u"}, {"project": "x", "user_id": "u"},
     {"project": "999999999", "user_id": "u"}, {"project": "9" * 40, "user_id": "u"}],
)  # fmt: skip
def test_nonsense_is_refused(officer: Client, given: dict[str, str]) -> None:
    assert officer.post(PERSONS, given).status_code == 400


def test_too_long_an_id_is_refused(project: Project, officer: Client) -> None:
    assert look_up(officer, project, "u" * 201).status_code == 400


def test_an_unknown_action_is_refused(project: Project, officer: Client) -> None:
    assert act(officer, project, "u", "praise").status_code == 400
    assert officer.get(f"{PERSONS}act/").status_code == 405


def test_officer_asks_for_a_persons_erasure_and_it_is_the_persons_request(
    service: Service, project: Project, officer: Client
) -> None:
    user = somebody()
    for _ in range(2):
        page = act(officer, project, user, "erase")
        assert "nothing more of theirs is stored" in page.text
    assert wish(project).state == "pending"
    again = ask(service, "delete", subject_token(project, user), {"user_id": user})
    assert again.status == 200
    assert wish(project).tokens.count() == 3


def test_officer_refuses_and_grants_for_a_person(
    service: Service, project: Project, officer: Client
) -> None:
    user = somebody()
    assert "Everything is refused." in act(officer, project, user, "refuse").text
    sent = batch(event(user_id=user))
    assert settled(service, project, accepted(send(service, project, sent)))["suppressed"] == 1
    assert "Everything is granted." in act(officer, project, user, "grant").text
    sent = batch(event(user_id=user))
    assert settled(service, project, accepted(send(service, project, sent)))["stored"] == 1


@pytest.mark.parametrize("state", ["running", "failed"])
@pytest.mark.parametrize("action", ["grant", "refuse"])
def test_nothing_is_answered_for_a_person_who_is_being_erased(
    project: Project, officer: Client, state: str, action: str
) -> None:
    user = somebody()
    act(officer, project, user, "erase")
    hour = timezone.now() + timedelta(hours=1)
    DeletionRequest.objects.filter(pk=wish(project).pk).update(state=state, retry_at=hour)
    assert "being erased right now" in act(officer, project, user, action).text
    held = restrictions.of(project_id(project), pseudonym(project, user))
    assert (held.suppressed, held.refused) == (True, [])
    assert not AuditEntry.objects.filter(
        project_id=project_id(project), action="consent.changed"
    ).exists()


def test_erasures_are_listed_with_what_is_promised(service: Service, project: Project) -> None:
    ask(service, "delete", project.secret_key, {"user_id": somebody()})
    page = logged_in("operator").get(
        f"/admin/privacy/deletionrequest/?project={project_id(project)}"
    )
    assert page.status_code == 200
    assert "29 days" in page.text
    DeletionRequest.objects.filter(pk=wish(project).pk).update(
        requested_at=timezone.now() - timedelta(days=32)
    )
    late = logged_in("operator").get("/admin/privacy/deletionrequest/?state=overdue")
    assert str(wish(project).pk) in late.text
    assert "days ago" in late.text


def test_request_is_cancelled_after_a_question(
    service: Service, project: Project, officer: Client
) -> None:
    ask(service, "delete", project.secret_key, {"user_id": somebody()})
    address = reverse("admin:privacy_deletionrequest_cancel", args=[wish(project).pk])
    assert "Nothing is erased" in officer.get(address).text
    assert wish(project).state == "pending"
    for told in ("The erasure is cancelled.", "The erasure is cancelled."):
        assert told in officer.post(address, follow=True).text
    assert wish(project).state == "cancelled"


def test_request_is_brought_forward_after_a_question(
    service: Service, project: Project, officer: Client
) -> None:
    ask(service, "delete", project.secret_key, {"user_id": somebody()})
    address = reverse("admin:privacy_deletionrequest_run", args=[wish(project).pk])
    assert "be brought back" in officer.get(address).text
    assert wish(project).due_at > timezone.now()
    assert "begins within a minute" in officer.post(address, follow=True).text
    assert wish(project).due_at <= timezone.now()
    entries = AuditEntry.objects.filter(object=str(wish(project).pk))
    assert entries.filter(action="deletion.brought_forward").count() == 1


@pytest.mark.parametrize("action", ["run", "cancel"])
def test_buttons_are_the_officers(service: Service, project: Project, action: str) -> None:
    ask(service, "delete", project.secret_key, {"user_id": somebody()})
    address = reverse(f"admin:privacy_deletionrequest_{action}", args=[wish(project).pk])
    for role in OTHERS:
        assert logged_in(role).post(address).status_code == 403
    page = logged_in("operator").get(
        reverse("admin:privacy_deletionrequest_change", args=[wish(project).pk])
    )
    assert page.status_code == 200
    assert address not in page.text
    assert wish(project).state == "pending"


@pytest.mark.parametrize("number", ["x", "00000000-0000-4000-8000-000000000000", "%00"])
def test_unknown_request_is_not_found(officer: Client, number: str) -> None:
    page = officer.get(f"/admin/privacy/deletionrequest/{number}/change/")
    assert page.status_code == 404


def test_audit_log_is_filtered_and_names_operators(project: Project, officer: Client) -> None:
    look_up(officer, project, somebody())
    page = officer.get(f"/admin/privacy/auditentry/?project_id={project_id(project)}")
    assert page.status_code == 200
    assert len(re.findall(r"<td[^>]*>\s*person looked up\s*<", page.text)) == 1
    assert "test-" in page.text, "the operator's name, not their number"
    assert str(audit.current_head().entries) in page.text
    none = officer.get(
        f"/admin/privacy/auditentry/?project_id={project_id(project)}&action=key.made"
    )
    assert "Nothing matches." in none.text


def test_what_is_shown_of_recent_events_leaves_out_who_asked_for_erasure(
    service: Service, project: Project, officer: Client
) -> None:
    user, other = somebody(), somebody()
    for name, who in (("of-the-erased", user), ("of-another", other)):
        sent = batch(event(name, user_id=who))
        settled(service, project, accepted(send(service, project, sent)))
    address = f"/admin/ingest/event/?project={project_id(project)}"
    assert "of-the-erased" in officer.get(address).text
    ask(service, "delete", project.secret_key, {"user_id": user})
    page = officer.get(address).text
    assert "of-the-erased" not in page
    assert "of-another" in page


def test_what_their_session_sent_without_a_name_is_left_out_too(
    service: Service, project: Project, officer: Client
) -> None:
    people = {"erased": somebody(), "another": somebody()}

    def sends(*events: dict[str, Any]) -> Batch:
        sent = batch(*events)
        assert send(service, project, sent, path="/v1/submit").status == 200
        settled(service, project, sent["batch_id"])
        return Batch.objects.get(project_id=project_id(project), batch_id=sent["batch_id"])

    for name, who in people.items():
        named = event(f"named-{name}", user_id=who, session_id=f"of {who}")
        unnamed = event(f"beside-{name}", user_id=None, session_id=f"of {who}")
        sends(named, unnamed)
        last = sends({**unnamed, "event": f"alone-{name}"})
    sessions = [Pseudonyms(settings.PEPPER, project_id(project)).session(f"of {who}")
                for who in people.values()]  # fmt: skip
    dead = [record(n, name=f"dead-{n}", session=session) for n, session in enumerate(sessions)]
    Batch.objects.filter(pk=last.pk).update(state="dead", dead=2, payload=pack(dead))

    def shown() -> set[str]:
        pages = (
            officer.get(f"/admin/ingest/event/?project={project_id(project)}").text
            + officer.get(reverse("admin:ingest_deadbatch_change", args=[last.key])).text
        )
        return set(re.findall(r"(?:named|beside|alone|dead)-(?:erased|another|0|1)", pages))

    before = shown()
    assert before >= {"named-erased", "beside-erased", "alone-erased", "dead-0"}
    ask(service, "delete", project.secret_key, {"user_id": people["erased"]})
    assert shown() == {name for name in before if not name.endswith(("-erased", "-0"))}
    Batch.objects.filter(pk=last.pk).update(state="discarded", payload=None)


def test_looks_at_events_and_payloads_are_in_the_audit_log(
    service: Service, project: Project, officer: Client
) -> None:
    officer.get(f"/admin/ingest/event/?project={project_id(project)}")
    entry = AuditEntry.objects.latest("number")
    assert (entry.action, entry.object) == ("events.looked_at", project.project)
    sent = accepted(send(service, project, batch()))
    settled(service, project, sent)
    Batch.objects.filter(batch_id=sent).update(state="dead", dead=1, stored=0, payload=b"")
    dead = Batch.objects.get(batch_id=sent)
    officer.get(reverse("admin:ingest_deadbatch_change", args=[dead.key]))
    entry = AuditEntry.objects.latest("number")
    assert (entry.action, entry.object) == ("payload.looked_at", dead.key)
    Batch.objects.filter(batch_id=sent).update(state="discarded", payload=None)
