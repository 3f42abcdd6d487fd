"""Privacy rules in the admin: who changes them, what is wrong with them, and the preview."""

import hashlib
import json
import re
from html import unescape
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from ingest.models import Event
from ingest.models import Project as Row
from privacy.models import AuditEntry
from tests.harness import Project, Service
from tests.ingest.sending import accepted, batch, event, moment, send, settled
from tests.ingest.traces import project_id, traces
from tests.people import ROLES, logged_in

LIST = "/admin/privacy/privacyrules/"
MAY = {"privacy officer", "admin"}
DROP = [{"property": "serial", "do": "drop"}]


@pytest.fixture
def officer(service: Service) -> Client:
    return logged_in("privacy officer")


def page_of(project: Project) -> str:
    return f"{LIST}{project_id(project)}/change/"


def shown(client: Client, project: Project) -> Any:
    return client.get(page_of(project))


def version(client: Client, project: Project) -> str:
    found = re.search(r'name="was" value="([0-9a-f]{64})"', shown(client, project).text)
    assert found
    return found[1]


def save(client: Client, project: Project, rules: Any, **given: str) -> Any:
    """What the page says after the rules were to be saved."""
    text = rules if isinstance(rules, str) else json.dumps(rules)
    was = given.pop("was", None) or version(client, project)
    fields = {"rules": text, "was": was, "save": "", **given}
    return client.post(page_of(project), fields, follow=True)


def preview(
    client: Client, project: Project, rules: Any, sample: Any, name: str = "events"
) -> tuple[str, str]:
    """The page's text, and of it what would be stored."""
    text = sample if isinstance(sample, str) else json.dumps(sample)
    fields = {"rules": json.dumps(rules), "sample": text, "format": name, "preview": ""}
    answer = client.post(page_of(project), fields)
    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    page = unescape(answer.text)
    stored = "\n".join(re.findall(r"<td>[^<]*</td><td>([^<]*)</td>", page))
    return page, stored


def own(project: Project) -> Any:
    return Row.objects.get(slug=project.project).privacy_rules


# --- Saving ---------------------------------------------------------------------------------------


def test_rules_are_saved_shown_one_a_line_and_on_record_without_what_they_say(
    project: Project, officer: Client
) -> None:
    rules = [{"do": "hash", "property": "licence"}, *DROP, {"keep": ["a", "b.c"]}]
    page = save(officer, project, rules)
    assert "there are 3, there were 0" in page.text
    assert own(project) == rules
    assert '  {"property": "licence", "do": "hash"},\n' in unescape(page.text)
    entry = AuditEntry.objects.filter(project_id=project_id(project)).latest("number")
    assert entry.action == "rules.changed"
    assert entry.actor.startswith("operator #")
    assert entry.details == {"before": 0, "after": 3, "kinds": ["1 drop", "1 hash", "1 keep"]}
    assert LogEntry.objects.filter(change_message__contains=f"rules of {project.project} ").exists()


def test_no_text_is_no_rules(project: Project, officer: Client) -> None:
    save(officer, project, DROP)
    save(officer, project, " \n")
    assert own(project) == []


@pytest.mark.parametrize("role", [*ROLES, None])
def test_roles_that_look_and_roles_that_change(
    service: Service, project: Project, role: str | None
) -> None:
    client = logged_in(role) if role else logged_in()
    page = shown(client, project)
    assert page.status_code == (200 if role else 403)
    assert ('name="save"' in page.text) == (role in MAY)
    none = hashlib.sha256(b"[]").hexdigest()
    for button in ("preview", "save"):
        fields = {"rules": json.dumps(DROP), "was": none, "sample": "{}", button: ""}
        answer = client.post(page_of(project), fields)
        allowed = {"save": 302, "preview": 200}[button]
        assert answer.status_code == (allowed if role in MAY else 403)
    assert own(project) == (DROP if role in MAY else [])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[{]", "Not valid JSON: Expecting property name enclosed in double quotes (line 1, col"),
        ("[" * 100_000, "Not valid JSON: nested too deeply"),
        ("[" * 100_001, "longer than 100,000 characters"),
        ('[{"property": "a", "property": "b", "do": "drop"}]', "A field stands twice"),
        ('[{"property": "a", "do": "bucketise", "edges": [1e999]}]', "Rule 1, edges: must be a"),
        ('[{"property": "\\u0000", "do": "drop"}]', "Rule 1, property: must be a text without"),
        ('{"property": "a", "do": "drop"}', "must be a list"),
        ('[{"property": "a", "do": "<b>"}]', "Rule 1, do: must be one of drop"),
    ],
)
@pytest.mark.parametrize("button", ["save", "preview"])
def test_what_is_wrong_is_said_beside_what_was_written(
    project: Project, officer: Client, text: str, why: str, button: str
) -> None:
    fields = {"rules": text, "was": version(officer, project), "sample": "x-sample", button: ""}
    answer = officer.post(page_of(project), fields)
    assert answer.status_code == 200
    page = unescape(answer.text)
    assert page.count('id="wrong"') == 1
    assert why in page
    assert text in page
    assert "x-sample" in page
    assert own(project) == []


def test_two_who_change_rules_at_once_dont_undo_each_other(
    project: Project, officer: Client
) -> None:
    was = version(officer, project)
    save(officer, project, DROP, was=was)
    mine = '[{"property": "mine", "do": "drop"}]'
    page = save(officer, project, mine, was=was)
    assert "Somebody changed the rules since you opened this" in page.text
    assert mine in unescape(page.text)
    assert own(project) == DROP
    told = re.search(r'name="was" value="([0-9a-f]{64})"', page.text)
    assert told
    save(officer, project, mine, was=told[1])
    assert own(project) == json.loads(mine)


@pytest.mark.parametrize("number", ["0", "999999999", "9" * 40, "x", "1_0"])
def test_there_is_no_page_of_an_unknown_project(officer: Client, number: str) -> None:
    assert officer.get(f"{LIST}{number}/change/").status_code == 404


def test_projects_page_leads_to_its_rules(project: Project) -> None:
    page = logged_in("viewer").get(f"/admin/ingest/project/{project_id(project)}/change/")
    assert page_of(project) in page.text
    assert "privacy_rules" not in page.text


def test_list_counts_rules_in_a_constant_number_of_queries(
    project: Project, officer: Client
) -> None:
    save(officer, project, [*DROP, {"keep": ["a"]}])
    officer.get(LIST)
    with CaptureQueriesContext(
        connection,
    ) as few:
        assert project.project in officer.get(f"{LIST}?q={project.project}").text
    Row.objects.create_with_keys(f"{project.project} {uuid4().hex}")
    with CaptureQueriesContext(connection) as more:
        officer.get(f"{LIST}?q={project.project}")
    assert len(more) == len(few)


# --- The preview ----------------------------------------------------------------------------------

MOMENT = "2026-11-21T10:30:00Z"
SAMPLES: dict[str, dict[str, Any]] = {
    "events": {"event": "opened", "timestamp": MOMENT, "user_id": "u-1",
               "properties": {"serial": "s3cr-value", "plugin": "Reverb"}},
    "submit": {"eventType": "opened", "timestamp": 1_763_721_072_500, "sessionId": "s-1",
               "eventData": {"serial": "s3cr-value", "plugin": "Reverb"}},
    "client_telemetry": {"level": "info", "scope": "page", "sessionId": "s-1", "message": "told",
                         "timestamp": MOMENT, "context": {"serial": "s3cr-value",
                                                          "plugin": "Reverb"}},
    "metrics": {"name": "queue.depth", "type": "gauge", "value": 1, "timestamp": MOMENT,
                "tags": {"serial": "s3cr-value", "plugin": "Reverb"}},
    "snapshot": {"node_id": "n-1", "timestamp": MOMENT, "cpu_percent": 1},
}  # fmt: skip


@pytest.mark.parametrize("name", SAMPLES)
def test_preview_shows_what_would_be_stored_of_each_format(
    project: Project, officer: Client, name: str
) -> None:
    rules = [{"property": "serial", "do": "drop"}, {"property": "plugin", "do": "redact"}]
    page, stored = preview(officer, project, rules, SAMPLES[name], name)
    assert "s3cr-value" not in stored
    if name == "snapshot":
        assert "stored as it came" in page
    else:
        assert "changed by the rules" in page
        assert '"plugin": "[redacted]"' in stored
    assert own(project) == []


def test_preview_tells_what_scrubbing_did(project: Project, officer: Client) -> None:
    sample = {**SAMPLES["events"], "message": "mail of alice@example.com"}
    page, stored = preview(officer, project, [], sample)
    assert "changed by scrubbing<" in page
    assert "mail of [email]" in stored
    page, _ = preview(officer, project, [{"property": "plugin", "do": "drop"}], sample)
    assert "changed by scrubbing and the rules<" in page


def test_preview_says_what_is_refused_and_how_many_more_there_are(
    project: Project, officer: Client
) -> None:
    events = [event(f"e{number}") for number in range(12)]
    page, _ = preview(officer, project, [], {"events": [*events, {"event": "x"}]})
    assert "And 2 more." in page
    assert "Refused: item[12]: Missing required field: timestamp" in page


@pytest.mark.parametrize(
    ("sample", "name", "why"),
    [
        ("", "events", "Paste an event"),
        ("{}", "nonsense", "Choose the format"),
        ("{", "events", "A client would get this back: Not valid JSON"),
        ("[]", "events", "A client would get this back: events is empty"),
        ("[" * 50_000, "events", "A client would get this back: "),
        ("x" * 100_001, "events", "The sample is longer than 100,000"),
    ],
)
def test_what_is_wrong_with_a_sample_is_said(
    project: Project, officer: Client, sample: str, name: str, why: str
) -> None:
    page, _ = preview(officer, project, DROP, sample, name)
    assert why in page
    assert page.count('id="wrong_sample"') == 1


def test_nothing_of_a_sample_is_stored_or_logged(
    service: Service, project: Project, officer: Client
) -> None:
    planted = f"planted{uuid4().hex}"
    for sample in ({**SAMPLES["events"], "message": planted}, f"{{{planted}"):
        preview(officer, project, DROP, sample)
    assert not traces(service, planted)


def test_what_the_preview_showed_is_what_is_stored(
    service: Service, project: Project, officer: Client
) -> None:
    rules = [*DROP, {"property": "plugin", "do": "hash"}]
    sample = {**SAMPLES["events"], "timestamp": moment()}
    _, shown_as = preview(officer, project, rules, sample)
    save(officer, project, rules)
    # The process hears of a change when it next asks the counters.
    assert service.request("POST", "/v1/events", b"").status == 401
    settled(service, project, accepted(send(service, project, batch(sample))))
    (stored,) = Event.objects.filter(project_id=project_id(project))
    assert list(stored.properties) == ["plugin"]
    assert json.dumps(stored.properties, indent=2)[1:-1].strip() in shown_as
