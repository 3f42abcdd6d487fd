"""Web pages: which may send, which may read the answer, and who needs no key at all."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.test import Client, override_settings

from ingest import memory
from ingest.memory import Memory
from ingest.models import Project as Row
from tests.harness import Answer, Project, Service
from tests.ingest.sending import UNKNOWN, batch, event, moment
from tests.ingest.traces import ledger

BROWSER = "/api/client-telemetry"
CORS = "access-control-"
JSON = "application/json"


@pytest.fixture
def origin(project: Project) -> str:
    """The origin of a page of the project's."""
    made = new_origin()
    change(project, origins=[made])
    return made


def new_origin() -> str:
    return f"https://{uuid4().hex}.example.com"


def change(project: Project, **fields: Any) -> None:
    row = Row.objects.get(slug=project.project)
    for name, value in fields.items():
        setattr(row, name, value)
    row.save()


def other_project(**fields: Any) -> Project:
    row, keys = Row.objects.create_with_keys(f"other {uuid4().hex}")
    made = Project(row.slug, keys["ingest"], keys["secret"], row.signing_secret)
    change(made, **fields)
    return made


def page_event() -> dict[str, Any]:
    return {
        "level": "info",
        "scope": "ui",
        "sessionId": f"s-{uuid4().hex}",
        "message": "loaded",
        "timestamp": moment(),
    }


def post(
    service: Service,
    origin: str | None,
    headers: dict[str, str] | None = None,
    path: str = BROWSER,
) -> Answer:
    """What a page sends: one event, by default as its log does and without a key."""
    content = {"events": [page_event()]} if path.startswith(BROWSER) else batch()
    whole = {"Content-Type": JSON, **(headers or {})}
    if origin is not None:
        whole["Origin"] = origin
    return service.request("POST", path, json.dumps(content).encode(), whole)


def keyed(project: Project) -> dict[str, str]:
    return {"X-API-Key": project.ingest_key}


def preflight(service: Service, origin: str, path: str = BROWSER) -> Answer:
    """What a browser asks before it sends a page's request with a key."""
    return service.request(
        "OPTIONS",
        path,
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type, x-api-key",
        },
    )


def cors(answer: Answer) -> dict[str, str]:
    """What an answer says to browsers, by the last words of the headers' names."""
    return {
        name.removeprefix(CORS): value
        for name, value in answer.headers.items()
        if name.startswith(CORS)
    }


def words(value: str) -> set[str]:
    return {word.strip().lower() for word in value.split(",")}


# --- preflights ---


def test_preflight_of_a_listed_origin_is_answered(service: Service, origin: str) -> None:
    answer = preflight(service, origin)
    found = cors(answer)
    assert answer.status == 200
    assert (answer.text, found["allow-origin"], found["allow-credentials"]) == ("", origin, "true")
    assert "POST" in found["allow-methods"]
    assert {"x-api-key", "content-type", "x-user-id"} <= words(found["allow-headers"])
    assert int(found["max-age"]) > 60
    assert "origin" in words(answer.headers["vary"])


@pytest.mark.parametrize("path", ["/v1/events", "/v1/submit", "/v1/metrics"])
def test_pages_may_use_the_other_ingest_endpoints(service: Service, origin: str, path: str) -> None:
    assert cors(preflight(service, origin, path))["allow-origin"] == origin


@pytest.mark.parametrize(
    "spoil",
    [
        lambda origin: new_origin(),
        lambda origin: "null",
        lambda origin: "*",
        lambda origin: origin.replace("https:", "http:"),
        lambda origin: origin + ":8443",
        lambda origin: origin + ".evil.example",
        lambda origin: origin.replace("https://", "https://www."),
        lambda origin: origin.removesuffix(".com"),
        lambda origin: origin + "/",
        lambda origin: "https://[",
        lambda origin: "https://" + "a" * 5000,
        lambda origin: "%00",
    ],
)
def test_other_origin_gets_no_cors_headers(service: Service, origin: str, spoil: Any) -> None:
    other = spoil(origin)
    answer = preflight(service, other)
    assert answer.status < 500
    assert cors(answer) == {}
    # A shared cache must not hand this answer to the origin that is listed.
    assert "origin" in words(answer.headers["vary"])


def test_origin_that_is_listed_from_now_on_is_answered(service: Service, project: Project) -> None:
    made = new_origin()
    assert cors(preflight(service, made)) == {}
    change(project, origins=[made])
    # A limited request hears of it; without one it would take seconds.
    post(service, None, keyed(project))
    assert cors(preflight(service, made))["allow-origin"] == made


@pytest.mark.parametrize(
    "path", ["/v1/query/accounting", "/admin/login/", f"/v1/batches/{UNKNOWN}", "/metrics", "/"]
)
def test_what_is_not_for_pages_is_not_opened_to_them(
    service: Service, origin: str, path: str
) -> None:
    """A page that may read the admin's answers with the operator's cookies could act as them."""
    assert cors(preflight(service, origin, path)) == {}
    answer = service.request("GET", path, headers={"Origin": origin, "Cookie": "sessionid=x"})
    assert cors(answer) == {}


# --- the request itself ---


def test_page_may_read_the_answer_and_its_limits(
    service: Service, project: Project, origin: str
) -> None:
    answer = post(service, origin, keyed(project))
    found = cors(answer)
    assert answer.status == 204
    assert (found["allow-origin"], found["allow-credentials"]) == (origin, "true")
    assert {"ratelimit", "ratelimit-policy", "retry-after"} <= words(found["expose-headers"])
    assert {"ratelimit", "ratelimit-policy"} <= answer.headers.keys()


def test_page_may_read_refusals_too(service: Service, project: Project, origin: str) -> None:
    change(project, rate_limits={"browser.ip": "1/d"})
    address = {"X-Forwarded-For": "203.0.113.80"}
    answers = [
        post(service, origin, {"X-API-Key": "ingest_x_y"}),
        post(service, origin, keyed(project) | address),
        post(service, origin, keyed(project) | address),
    ]
    assert [answer.status for answer in answers] == [401, 204, 429]
    assert "retry-after" in answers[2].headers
    for answer in answers:
        assert cors(answer)["allow-origin"] == origin


def test_origin_is_compared_in_any_case(service: Service, project: Project, origin: str) -> None:
    assert post(service, origin.upper(), keyed(project)).status == 204


@pytest.mark.parametrize("other", ["https://elsewhere.example", "null", "", "x" * 3000])
def test_page_of_an_unlisted_origin_is_refused(
    service: Service, project: Project, origin: str, other: str
) -> None:
    answer = post(service, other, keyed(project))
    if other == "":
        assert answer.status == 204, "no origin, no page"
        return
    assert (answer.status, answer.json["code"]) == (403, "origin_not_allowed")
    assert cors(answer) == {}
    assert ledger(project) == []


def test_page_of_another_projects_origin_is_refused(service: Service, project: Project) -> None:
    """A preflight names no key, so it can't tell; the request can."""
    elsewhere = new_origin()
    other_project(origins=[elsewhere])
    answer = post(service, elsewhere, keyed(project))
    assert (answer.status, answer.json["code"]) == (403, "origin_not_allowed")


def test_page_of_our_own_origin_passes(service: Service, project: Project) -> None:
    assert post(service, service.url, keyed(project)).status == 204
    other_port = f"http://127.0.0.1:{service.port + 1}"
    assert post(service, other_port, keyed(project)).status == 403
    other_scheme = service.url.replace("http:", "https:")
    assert post(service, other_scheme, keyed(project)).status == 403


def test_program_without_an_origin_passes(service: Service, project: Project) -> None:
    assert post(service, None, keyed(project)).status == 204


def test_origin_that_is_no_longer_listed_is_refused(
    service: Service, project: Project, origin: str
) -> None:
    assert post(service, origin, keyed(project)).status == 204
    change(project, origins=[])
    # The first request may be the one that hears of it.
    post(service, origin, keyed(project))
    assert post(service, origin, keyed(project)).status == 403


def test_made_up_origins_cannot_fill_the_memory(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many are remembered as there is room for; none of them is long."""
    own = Memory()
    monkeypatch.setattr(memory, "memory", own)
    client = Client(SERVER_NAME="localhost")
    for origin in (new_origin(), "https://" + "a" * 50_000):
        client.post(BROWSER, b"", content_type=JSON, headers={"Origin": origin})
    names = [name for _, name in own._things]
    assert names
    assert max(map(len, names)) < 500


# --- without a key ---


def as_beacon(**headers: str) -> dict[str, str]:
    """What `navigator.sendBeacon` sends: cookies, and text."""
    return {
        "Content-Type": "text/plain;charset=UTF-8",
        "Cookie": "session=1; theme=dark",
        **headers,
    }


def test_page_needs_a_key_unless_its_project_says_otherwise(
    service: Service, project: Project, origin: str
) -> None:
    answer = post(service, origin, as_beacon())
    assert (answer.status, answer.json["code"]) == (401, "missing_key")
    assert ledger(project) == []


def test_page_of_a_project_without_keys_sends(
    service: Service, project: Project, origin: str
) -> None:
    change(project, keyless_browsers=True)
    answer = post(service, origin, as_beacon())
    assert answer.status == 204
    assert cors(answer)["allow-credentials"] == "true"
    assert [row.format for row in ledger(project)] == ["client_telemetry"]


def test_beacon_with_its_key_in_the_address_sends(
    service: Service, project: Project, origin: str
) -> None:
    path = f"{BROWSER}?key={project.ingest_key}"
    assert post(service, origin, as_beacon(), path).status == 204
    assert len(ledger(project)) == 1


def test_keyless_page_sends_native_batches_too(
    service: Service, project: Project, origin: str
) -> None:
    change(project, keyless_browsers=True)
    assert post(service, origin, path="/v1/events").status == 200
    assert len(ledger(project)) == 1


@pytest.mark.parametrize("elsewhere", [None, "", "null", "https://elsewhere.example"])
def test_only_pages_of_the_listed_origins_need_no_key(
    service: Service, project: Project, origin: str, elsewhere: str | None
) -> None:
    change(project, keyless_browsers=True)
    assert post(service, elsewhere, as_beacon()).status == 401
    assert post(service, elsewhere, path="/v1/events").status == 401


def test_keyless_page_may_not_ask_questions(
    service: Service, project: Project, origin: str
) -> None:
    change(project, keyless_browsers=True)
    answer = service.request("GET", "/v1/query/accounting", headers={"Origin": origin})
    assert answer.status == 401


def test_wrong_key_is_refused_where_none_is_needed(
    service: Service, project: Project, origin: str
) -> None:
    """Whoever sends one means a project, and must learn that it isn't reached."""
    change(project, keyless_browsers=True)
    for headers in ({"X-API-Key": "ingest_x_y"}, {"Authorization": "Bearer eyJ.x.y"}):
        assert post(service, origin, headers).status == 401
    assert post(service, origin, path=f"{BROWSER}?key=x").status == 401


def test_origin_of_two_projects_without_keys_is_ambiguous(
    service: Service, project: Project, origin: str
) -> None:
    change(project, keyless_browsers=True)
    rival = other_project(origins=[new_origin(), origin], keyless_browsers=True)
    assert post(service, origin, as_beacon()).status == 401
    assert ledger(project) == ledger(rival) == []
    for each in (project, rival):
        assert post(service, origin, keyed(each)).status == 204, "with a key it is clear"


def test_origin_of_one_project_with_and_one_without_keys_is_clear(
    service: Service, project: Project, origin: str
) -> None:
    change(project, keyless_browsers=True)
    other_project(origins=[origin])
    assert post(service, origin, as_beacon()).status == 204
    assert len(ledger(project)) == 1


def test_keyless_sending_ends_when_it_is_turned_off(
    service: Service, project: Project, origin: str
) -> None:
    change(project, keyless_browsers=True)
    assert post(service, origin).status == 204
    change(project, keyless_browsers=False)
    post(service, origin)
    assert post(service, origin).status == 401


# --- the instance's own project ---


@pytest.fixture
def anonymous(project: Project) -> Iterator[Client]:
    """Someone without a key, where `project` takes what comes without one."""
    with override_settings(ANONYMOUS_PROJECT=project.project):
        yield Client(SERVER_NAME="localhost")


def send_here(client: Client, **headers: str) -> Any:
    return client.post("/v1/events", batch(), content_type=JSON, headers=headers)


def test_what_comes_without_a_key_is_the_anonymous_projects(
    anonymous: Client, project: Project
) -> None:
    answer = send_here(anonymous)
    assert answer.status_code == 200
    assert [row.batch_id for row in ledger(project)] == [UUID(answer.json()["batch_id"])]


def test_empty_key_is_no_key(anonymous: Client, project: Project) -> None:
    assert send_here(anonymous, X_API_Key="").status_code == 200
    assert len(ledger(project)) == 1


def test_anonymous_sender_may_ask_what_became_of_a_batch(anonymous: Client) -> None:
    batch_id = send_here(anonymous).json()["batch_id"]
    assert anonymous.get(f"/v1/batches/{batch_id}").json()["batch_id"] == batch_id


def test_key_wins_over_the_anonymous_project(anonymous: Client, project: Project) -> None:
    other = other_project()
    assert send_here(anonymous, X_API_Key=other.ingest_key).status_code == 200
    assert (len(ledger(project)), len(ledger(other))) == (0, 1)


@pytest.mark.parametrize("headers", [{"X_API_Key": "x"}, {"Authorization": "Bearer eyJ.x.y"}])
def test_wrong_key_is_refused_beside_an_anonymous_project(
    anonymous: Client, project: Project, headers: dict[str, str]
) -> None:
    assert send_here(anonymous, **headers).status_code == 401
    assert ledger(project) == []


def test_anonymous_caller_may_not_ask_questions(anonymous: Client) -> None:
    assert anonymous.get("/v1/query/accounting").status_code == 401


def test_anonymous_project_has_its_users_rules_and_limits(
    anonymous: Client, project: Project
) -> None:
    change(project, rate_limits={"events.user": "2/d"})
    found = [send_here(anonymous, X_User_ID="u").status_code for _ in range(3)]
    assert found == [200, 200, 429]
    nameless = anonymous.post("/v1/events", [event(user_id=None)], content_type=JSON)
    assert nameless.status_code == 400


def test_keyless_page_of_another_project_stays_that_projects(
    anonymous: Client, project: Project
) -> None:
    elsewhere = new_origin()
    other = other_project(origins=[elsewhere], keyless_browsers=True)
    assert send_here(anonymous, Origin=elsewhere).status_code == 200
    assert (len(ledger(project)), len(ledger(other))) == (0, 1)


@override_settings(ANONYMOUS_PROJECT="nowhere")
def test_anonymous_project_that_does_not_exist_takes_nothing(service: Service) -> None:
    assert send_here(Client(SERVER_NAME="localhost")).status_code == 401
