"""The service answers as its OpenAPI document says, whatever it is sent: schemathesis asks it.

Black box: the document comes from the service, over HTTP. Generated with a fixed seed, and nothing
is kept between runs; the cases that failed are printed with a curl command each.
"""

import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from tests.harness import ROOT, Project, Service

METHODS = {"get", "post", "put", "patch", "delete"}
MOST_SECONDS = 480  # five minutes on a machine with much else to do

# Valid data has a check of its own in `openapi_hooks`. The submission client's names are looked at
# only where the native ones are absent: the document says so in words, a schema of it that did
# nobody would read. The keys are worth nothing.
CONFIG = """
continue-on-failure = true
headers = {{ "X-API-Key" = "{ingest_key}" }}
generation.deterministic = true
generation.max-examples = 25
phases.stateful.generation.max-examples = 10
checks.positive_data_acceptance.enabled = false
checks.negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 413, 415]
output.sanitization.enabled = false
cache.enabled = false

[[operations]]
include-path = "/v1/submit"
checks.negative_data_rejection.enabled = false

# Exporters are told of bad items with a 200, and of fields that aren't known nothing.
[[operations]]
include-path = ["/otlp/v1/logs", "/otlp/v1/metrics"]
checks.negative_data_rejection.enabled = false

[[operations]]
include-path = "/otlp/v1/traces"
checks.negative_data_rejection.enabled = false
checks.not_a_server_error.expected-statuses = ["2xx", "4xx", 501]

[[operations]]
include-tag = "Queries"
headers = {{ "X-API-Key" = "{secret_key}" }}

[[operations]]
include-tag = "Privacy"
headers = {{ "X-API-Key" = "{secret_key}" }}
"""


@pytest.fixture
def keys(service: Service) -> Project:
    """A project that takes events of nobody: that a user must be named, a schema can't say."""
    keys = service.create_project(f"openapi {uuid4().hex}")
    with service.database() as database:
        database.execute(
            "UPDATE ingest_project SET users_optional = true WHERE slug = %s", [keys.project]
        )
    return keys


def test_every_answer_is_one_that_the_document_describes(
    service: Service, keys: Project, tmp_path: Path
) -> None:
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG.format(ingest_key=keys.ingest_key, secret_key=keys.secret_key))
    schemathesis = [sys.executable, "-m", "schemathesis.cli", "--no-color"]
    done = subprocess.run(
        [*schemathesis, "--config-file", str(config), "run", f"{service.url}/api/schema/"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "SCHEMATHESIS_HOOKS": "tests.system.openapi_hooks",
        },
        capture_output=True,
        text=True,
        timeout=MOST_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # Nothing was left out.
    paths = service.request("GET", "/api/schema/").json["paths"].values()
    assert f"Tested: {sum(len(METHODS & path.keys()) for path in paths)}\n" in done.stdout
    for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
        assert f"✅ {phase}" in done.stdout
