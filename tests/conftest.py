"""What all tests share: one running service, on which each test uses a project of its own.

Django is set up on that service's data folder before a test module is read; the service itself is
started by the first test that needs it. Nothing is rolled back or emptied between tests: a project
is the boundary, as it is in production.

Of processes that share the tests each has a service of its own: pytest-xdist reads this in each.
"""

import os
from uuid import uuid4

import pytest

from tests.harness import RAISED, SERVERS, Project, Service, data_folder

# Measurements of more days than are kept by default, so that tests can add up some.
_KEPT = {
    "TELEMETRY_METRIC_RETENTION_DAYS": "30",
    "TELEMETRY_METRIC_HOUR_RETENTION_DAYS": "90",
}
# Behind a proxy, so that tests can come from addresses of their own.
_service = Service(data_folder(), TELEMETRY_TRUSTED_PROXIES="1", **_KEPT)
os.environ |= {**RAISED, **_KEPT, "TELEMETRY_DATA_DIR": str(_service.data_dir)}
os.environ["DJANGO_SETTINGS_MODULE"] = "telemetry_site.settings"
# The last is what Django's test client calls us.
os.environ["TELEMETRY_ALLOWED_HOSTS"] = "127.0.0.1,localhost,testserver"
for name in SERVERS:
    os.environ.pop(name, None)

import django  # noqa: E402 the settings read the environment above

django.setup()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    """After the fixtures' ends. No fixture itself: the process that hands out the tests has none,
    but a folder."""
    _service.remove()


@pytest.fixture(scope="session")
def service() -> Service:
    """The running service: web, workers, beat, PostgreSQL and Redis."""
    return _service.start()


@pytest.fixture
def project(service: Service) -> Project:
    """A project of this test's own, with its keys, made in this process."""
    from ingest.models import Project as Row

    row, keys = Row.objects.create_with_keys(f"test {uuid4().hex}")
    return Project(row.slug, keys["ingest"], keys["secret"], row.signing_secret)
