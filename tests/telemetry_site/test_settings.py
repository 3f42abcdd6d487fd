"""Settings come from the environment; a wrong one stops the start with a sentence that names it."""

import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from telemetry_site.environment import env_bool, env_float, env_int, env_list, env_str
from telemetry_site.instance import instance_secrets
from telemetry_site.settings import database
from tests.harness import ROOT

LONG = "x" * 64
INSTANCE = {"SECRET_KEY": LONG, "TELEMETRY_PEPPER": LONG}
OURS = ("TELEMETRY_", "DATABASE_", "REDIS_", "OTEL_", "SECRET_KEY", "DJANGO_")

# What is set -> words of the sentence on it.
WRONG = [
    ({"TELEMETRY_HTTPS": "maybe"}, ["TELEMETRY_HTTPS", "maybe"]),
    ({"TELEMETRY_WEB_THREADS": "65"}, ["TELEMETRY_WEB_THREADS", "64", "65"]),
    ({"TELEMETRY_LOG_LEVEL": "LOUD"}, ["TELEMETRY_LOG_LEVEL", "LOUD"]),
    ({"TELEMETRY_PEPPER": "short"}, ["TELEMETRY_PEPPER", "32"]),
    ({"TELEMETRY_DATA_DIR": "/dev/null/x"}, ["TELEMETRY_DATA_DIR"]),
    ({"TELEMETRY_EXPORT_STORAGE": "ftp://b"}, ["TELEMETRY_EXPORT_STORAGE", "s3://BUCKET"]),
    ({"TELEMETRY_EXPORT_DAYS": "31"}, ["TELEMETRY_EXPORT_DAYS", "30"]),
    ({"OTEL_COLLECTOR_ENDPOINT": "grpc://c:4317"}, ["OTEL_COLLECTOR_ENDPOINT", "https://"]),
    ({"OTEL_COLLECTOR_ENDPOINT": "https://me:secret@c"}, ["OTEL_COLLECTOR_ENDPOINT", "header"]),
    ({"OTEL_COLLECTOR_HEADERS": "secret"}, ["OTEL_COLLECTOR_HEADERS", "KEY=VALUE"]),
    ({"OTEL_COLLECTOR_HEADERS": "a=%0Asecret"}, ["OTEL_COLLECTOR_HEADERS", "header a"]),
    ({"OTEL_COLLECTOR_ENCODING": "xml"}, ["OTEL_COLLECTOR_ENCODING", "protobuf", "xml"]),
    ({"OTEL_COLLECTOR_TIMEOUT_MS": "60000"}, ["OTEL_COLLECTOR_TIMEOUT_MS", "30000"]),
    ({"TELEMETRY_FORWARD_HOURS": "0"}, ["TELEMETRY_FORWARD_HOURS", "1"]),
    ({"REDIS_URL": "http://r"}, ["REDIS_URL", "redis://"]),
    ({"DATABASE_URL": "postgresql://h/d"}, ["DATABASE_URL", "SECRET_KEY", "TELEMETRY_PEPPER"]),
    ({**INSTANCE, "DATABASE_URL": "mysql://h/d"}, ["DATABASE_URL"]),
    ({"DATABASE_REPLICA_URL": "postgresql://h"}, ["DATABASE_REPLICA_URL", "/NAME"]),
]


def check(data_dir: Path, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """`manage.py check` with nothing of ours in its environment but this."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return subprocess.run(
        [sys.executable, "manage.py", "check", *words],
        cwd=ROOT,
        env={**plain, "TELEMETRY_DATA_DIR": str(data_dir), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(("environment", "words"), WRONG, ids=[" ".join(w[0]) for w in WRONG])
def test_a_wrong_value_stops_the_start_with_a_sentence_that_names_it(
    tmp_path: Path, environment: dict[str, str], words: list[str]
) -> None:
    done = check(tmp_path, **environment)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.strip().endswith((".", ")", '"'))
    for word in words:
        assert word in done.stderr


def test_the_checks_for_deployment_have_no_complaint(tmp_path: Path) -> None:
    done = check(tmp_path, "--deploy", "--fail-level", "WARNING", TELEMETRY_HTTPS="1")
    assert (done.returncode, done.stdout.strip()) == (
        0,
        "System check identified no issues (0 silenced).",
    ), done.stderr


# --- readers of variables ---

REFUSED = [
    (env_bool, {}, ["2", "ja", "None"]),
    (env_int, {"default": 5, "least": 1, "most": 9}, ["0", "10", "x", "1.5", "-1", "1e1", "0x5"]),
    (env_int, {"default": 5}, ["-1", "nan"]),
    (env_float, {"default": 5, "least": 0.1, "most": 9}, ["0", "9.1", "x", "nan", "inf", "-inf"]),
    (env_float, {"default": 5}, ["nan", "-0.1"]),
]
TAKEN = [
    (env_bool, {}, " TRUE ", True),
    (env_bool, {"default": True}, "off", False),
    (env_bool, {"default": True}, "  ", True),
    (env_int, {"default": 5, "least": 1, "most": 9}, " 9 ", 9),
    (env_int, {"default": 5}, "", 5),
    (env_float, {"default": 5, "least": 0.1}, "0.1", 0.1),
    (env_list, {}, " a, ,b ,", ["a", "b"]),
    (env_list, {"default": ["c"]}, " ", ["c"]),
    (env_str, {"default": "d"}, "  ", "d"),
    (env_str, {}, " a b ", "a b"),
]


@pytest.mark.parametrize(
    ("read", "bounds", "text"), [(r, b, text) for r, b, texts in REFUSED for text in texts]
)
def test_a_reader_refuses_what_is_out_of_bounds_and_quotes_it(
    monkeypatch: pytest.MonkeyPatch, read: object, bounds: dict[str, object], text: str
) -> None:
    monkeypatch.setenv("TELEMETRY_X", text)
    with pytest.raises(ImproperlyConfigured) as refused:
        read("TELEMETRY_X", **bounds)  # type: ignore[operator]
    assert "TELEMETRY_X must be" in str(refused.value)
    assert text.lower() in str(refused.value)


@pytest.mark.parametrize(("read", "bounds", "text", "value"), TAKEN)
def test_a_reader_takes(
    monkeypatch: pytest.MonkeyPatch,
    read: object,
    bounds: dict[str, object],
    text: str,
    value: object,
) -> None:
    monkeypatch.setenv("TELEMETRY_X", text)
    assert read("TELEMETRY_X", **bounds) == value  # type: ignore[operator]


# --- the database's URL ---


def test_a_database_url_is_read_with_its_options() -> None:
    found = database("postgresql://u%40x:p%2F@h:6/d?sslmode=require", "DATABASE_URL")
    assert [found[name] for name in ("NAME", "USER", "PASSWORD", "HOST", "PORT")] == [
        "d", "u@x", "p/", "h", "6",
    ]  # fmt: skip
    assert found["OPTIONS"]["sslmode"] == "require"


@pytest.mark.parametrize("url", ["mysql://u:s3cret@h/d", "postgresql://u:s3cret@h", "s3cret"])
def test_a_wrong_database_url_names_its_variable_and_tells_no_password(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^DATABASE_X .+$") as refused:
        database(url, "DATABASE_X")
    assert "s3cret" not in str(refused.value)


# --- this instance's secrets ---


def test_secrets_are_made_once_for_their_owner_alone(tmp_path: Path) -> None:
    first = instance_secrets(tmp_path / "new" / "folder")
    file = tmp_path / "new" / "folder" / "secrets.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert instance_secrets(file.parent) == first
    assert [path.name for path in file.parent.iterdir()] == ["secrets.json"]


def test_each_secret_is_long_and_another(tmp_path: Path) -> None:
    made = json.loads((instance_secrets(tmp_path) and tmp_path / "secrets.json").read_text())
    assert len(set(made.values())) == len(made) == 6
    assert {len(value) for value in made.values()} == {64}


def test_two_instances_have_other_secrets(tmp_path: Path) -> None:
    assert instance_secrets(tmp_path / "a") != instance_secrets(tmp_path / "b")


def test_first_starts_at_once_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as threads:
        found = set(threads.map(instance_secrets, [tmp_path / "shared"] * 64))
    assert len(found) == 1
    assert found == {instance_secrets(tmp_path / "shared")}
    assert len(list((tmp_path / "shared").iterdir())) == 1


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"pepper": 1}', b"\xff"])
def test_secrets_that_cannot_be_read_are_never_made_anew(tmp_path: Path, content: bytes) -> None:
    """A new pepper would give every person another pseudonym."""
    (tmp_path / "secrets.json").write_bytes(content)
    with pytest.raises(ImproperlyConfigured, match="TELEMETRY_DATA_DIR"):
        instance_secrets(tmp_path)
    assert (tmp_path / "secrets.json").read_bytes() == content
