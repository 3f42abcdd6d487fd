"""The rate limits' table, how a rate is written, and what operators are told of a wrong one."""

from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured, ValidationError

from ingest.models import Project as Row
from ingest.ratelimits import KEYS
from ingest.rules import RULES, InvalidRate, Window, check_overrides, windows
from ingest.validators import validate_origins, validate_rates
from telemetry_site.settings import rate_limits
from tests.harness import RAISED
from tests.telemetry_site.test_settings import check

# What is promised to clients (docs: rate limits).
DEFAULTS = {
    "events.user": "10/m",
    "events.ip": "600/m",
    "events.key": "0",
    "browser.ip": "100/m",
    "snapshot.node": "10/m",
    "metrics.key": "6000/m",
    "otlp.key": "6000/m",
    "submit.user": "30/m,1000/h",
    "privacy.subject": "10/h,100/d",
    "privacy.status": "60/m",
    "download.export": "10/m",
    "download.ip": "60/m",
    "query.key": "600/m",
    "auth.ip": "20/m",
    "login.ip": "20/m",
}
BROWSER_REQUESTS = "CLIENT_TELEMETRY_RATE_LIMIT_MAX_REQUESTS"
BROWSER_WINDOW = "CLIENT_TELEMETRY_RATE_LIMIT_WINDOW_MS"


def variable(rule: str) -> str:
    return f"TELEMETRY_RATE_{rule.upper().replace('.', '_')}"


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that says nothing of limits."""
    for name in [*map(variable, RULES), *RAISED, BROWSER_REQUESTS, BROWSER_WINDOW]:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


# --- the table ---


@pytest.mark.parametrize("rule", DEFAULTS)
def test_rule_has_the_rate_that_is_promised(rule: str) -> None:
    assert windows(RULES[rule].rate) == windows(DEFAULTS[rule])


@pytest.mark.parametrize("rule", RULES)
def test_rule_is_complete(rule: str) -> None:
    assert RULES[rule].name == rule
    assert RULES[rule].by in KEYS
    assert RULES[rule].purpose
    windows(RULES[rule].rate)


# --- rates ---

GOOD = {
    "10/m": (Window(10, 60),),
    "1/s": (Window(1, 1),),
    "2/2s": (Window(2, 2),),
    "10/h": (Window(10, 3600),),
    "999999999/d": (Window(999_999_999, 86_400),),
    "1/99999d": (Window(1, 99_999 * 86_400),),
    "30/m,1000/h": (Window(30, 60), Window(1000, 3600)),
    " 30/m , 1000/2h ": (Window(30, 60), Window(1000, 7200)),
    "0": (),
    " 0 ": (),
}
BAD = [
    "", " ", "10", "/m", "10/", "m", "10/x", "10/M", "10 /m", "10/ m", "-1/m", "+1/m", "1.5/m",
    "0/m", "00", "0,10/m", "10/m,0", "10/m,", ",10/m", "10/m,,1/h", "10/m;1/h", "10/0s", "10/01s",
    "010/m", "10/-1s", "10/100000s", "1000000000/m", "1e3/m", "١٠/m", "10/m\n,x", "10/m/s", "off",
    "none", "10/min", "10 a minute", "\0", None, 0, 10, 1.5, True, [], ["10/m"], {}, b"10/m",
]  # fmt: skip


@pytest.mark.parametrize("rate", GOOD)
def test_rate_is_read(rate: str) -> None:
    assert windows(rate) == GOOD[rate]


@pytest.mark.parametrize("rate", BAD, ids=repr)
def test_wrong_rate_is_refused_with_a_sentence_that_quotes_it(rate: Any) -> None:
    with pytest.raises(InvalidRate) as refused:
        windows(rate)
    assert repr(rate) in str(refused.value)
    assert str(refused.value).endswith(".")


# --- a project's own ---


@pytest.mark.parametrize(
    "overrides",
    [{}, {"events.user": "20/m"}, {"events.user": "0", "submit.user": "1/s,2/m,3/h,4/d"}],
)
def test_projects_own_limits_are_taken(overrides: dict[str, str]) -> None:
    check_overrides(overrides)
    validate_rates(overrides)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"events.users": "1/m"}, ["events.users", *RULES]),
        ({"": "1/m"}, ["''"]),
        ({"EVENTS.USER": "1/m"}, ["EVENTS.USER"]),
        ({"events.user": "many"}, ["many", "10/m"]),
        ({"events.user": 5}, ["5"]),
        ({"events.user": None}, ["None"]),
        ({"events.user": {"quota": 5}}, ["quota"]),
        ({"events.ip": "1/m", "events.user": ""}, ["''"]),
        (["events.user"], ["an object"]),
        ("10/m", ["an object"]),
        (None, ["an object"]),
        (7, ["an object"]),
    ],
    ids=str,
)
def test_operator_is_told_what_is_wrong_with_a_projects_limits(
    overrides: Any, words: list[str]
) -> None:
    with pytest.raises(ValidationError) as refused:
        validate_rates(overrides)
    (sentence,) = refused.value.messages
    assert sentence.endswith(".")
    for word in words:
        assert word in sentence


def test_project_with_wrong_limits_or_origins_is_not_valid() -> None:
    row = Row(
        slug="s", name="n", rate_limits={"events.user": "x"}, origins=["https://a.example/page"]
    )
    with pytest.raises(ValidationError) as refused:
        row.clean_fields()
    assert set(refused.value.message_dict) == {"rate_limits", "origins"}


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.com",
        "http://localhost:3000",
        "https://xn--mller-kva.example",
        "http://127.0.0.1",
        "http://[::1]:8000",
    ],
)
def test_origin_as_a_browser_sends_it_is_taken(origin: str) -> None:
    validate_origins([origin])


@pytest.mark.parametrize(
    "origin",
    [
        "", "*", "null", "app.example.com", "//app.example.com", "ftp://app.example.com",
        "file://", "https://", "https://[", "https://[::1", "https://app.example.com/",
        "https://app.example.com/page", "https://app.example.com?x", "https://app.example.com#x",
        "https://App.example.com", "HTTPS://app.example.com", "https://user@app.example.com",
        "https://app example.com", " https://app.example.com", "https://app.example.com\n",
        "https://*.example.com", "https://müller.example", "https://app.example.com:x",
        "https://app.example.com:", "https://app.example.com:443", "http://app.example.com:80",
        "javascript:alert(1)",
    ],
)  # fmt: skip
def test_what_no_browser_sends_as_an_origin_is_refused_with_a_sentence(origin: str) -> None:
    with pytest.raises(ValidationError) as refused:
        validate_origins([origin])
    assert repr(origin) in refused.value.messages[0]


# --- the instance's ---


def test_instance_has_the_defaults_unless_told_otherwise(plain: pytest.MonkeyPatch) -> None:
    found = rate_limits()
    assert found.keys() == RULES.keys()
    for rule, rate in DEFAULTS.items():
        assert windows(found[rule]) == windows(rate)


@pytest.mark.parametrize("rule", RULES)
def test_instances_rate_is_set_by_a_variable_of_the_rules_name(
    plain: pytest.MonkeyPatch, rule: str
) -> None:
    before = rate_limits()
    plain.setenv(variable(rule), " 7/2h ")
    assert rate_limits() == before | {rule: "7/2h"}
    plain.setenv(variable(rule), "0")
    assert windows(rate_limits()[rule]) == ()


@pytest.mark.parametrize(
    ("requests", "window", "expected"),
    [
        ("", "", (Window(100, 60),)),
        ("7", "", (Window(7, 60),)),
        ("", "5000", (Window(100, 5),)),
        ("7", "120000", (Window(7, 120),)),
        ("7", "1500", (Window(7, 1),)),
        ("7", "10", (Window(7, 1),)),
        ("0", "60000", ()),
    ],
)
def test_browsers_rate_is_set_by_the_names_that_deployments_have(
    plain: pytest.MonkeyPatch, requests: str, window: str, expected: tuple[Window, ...]
) -> None:
    plain.setenv(BROWSER_REQUESTS, requests)
    plain.setenv(BROWSER_WINDOW, window)
    assert windows(rate_limits()["browser.ip"]) == expected


def test_our_own_name_wins_over_theirs(plain: pytest.MonkeyPatch) -> None:
    plain.setenv(BROWSER_REQUESTS, "7")
    plain.setenv(variable("browser.ip"), "3/s")
    assert windows(rate_limits()["browser.ip"]) == (Window(3, 1),)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (variable("events.user"), "ten"),
        (variable("auth.ip"), "10/0s"),
        (variable("submit.user"), "30/m,"),
        (BROWSER_REQUESTS, "many"),
        (BROWSER_REQUESTS, "-1"),
        (BROWSER_REQUESTS, "10000000000"),
        (BROWSER_WINDOW, "1m"),
        (BROWSER_WINDOW, "100000000000000"),
    ],
)
def test_wrong_setting_is_named_in_a_sentence(
    plain: pytest.MonkeyPatch, name: str, value: str
) -> None:
    plain.setenv(name, value)
    with pytest.raises(ImproperlyConfigured) as refused:
        rate_limits()
    assert str(refused.value).startswith(name)
    assert value in str(refused.value)


@pytest.mark.parametrize("name", [variable("events.user"), BROWSER_WINDOW])
def test_wrong_setting_stops_the_start(tmp_path: Path, name: str) -> None:
    done = check(tmp_path, **{name: "soon"})
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert sentence.endswith(".")
    for word in (name, "soon"):
        assert word in sentence
