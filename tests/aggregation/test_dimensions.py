"""What a project's events may be counted by."""

from typing import Any

import pytest
from django.core.exceptions import ValidationError

from aggregation import dimensions
from aggregation.models import Dimension
from tests.harness import Project
from tests.ingest.traces import project_id

TAKEN = [
    "client_version", "level", "scope", "category", "properties.plugin", "properties.android",
    "properties.grid", "properties.keyboard", "properties.microphone", "properties.a.b.c.d.e",
    "properties.screen name", "properties.mac_os", "properties.größe", "properties.name",
]  # fmt: skip
# Path -> words of the sentence on it.
REFUSED = {
    "": "A path is one of client_version",
    "message": "A path is one of client_version",
    "name": "A path is one of client_version",
    "level.x": "A path is one of client_version",
    "properties": "A path is one of client_version",
    "Properties.plugin": "A path is one of client_version",
    "properties.": "must have a character",
    "properties..a": "must have a character",
    "properties. a": "no blank around it",
    "properties.a.b.c.d.e.f": "5 names below properties at most",
    **{
        f"properties.{name}": f"“{name.split('.')[-1]}” can't be counted by"
        for name in (
            "id", "userId", "user_id", "USER-ID", "deviceID", "plugin.uuid", "e-mail", "workEmail",
            "session", "ip", "IPAddress", "home address", "phone_number", "licenseKey", "pushToken",
            "firstName", "full_name", "surname", "login", "serial", "imei", "mac", "macAddress",
            "file_hash", "page_url", "path", "queryString", "iban", "id2", "authorization",
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("path", TAKEN)
def test_what_many_share_may_be_counted_by(path: str) -> None:
    dimensions.check(path)


@pytest.mark.parametrize(("path", "sentence"), REFUSED.items(), ids=REFUSED)
def test_what_tells_somebody_apart_may_not(path: str, sentence: str) -> None:
    with pytest.raises(dimensions.InvalidPath) as refused:
        dimensions.check(path)
    assert sentence in str(refused.value)


def dimension(project: Project, **fields: Any) -> Dimension:
    return Dimension(project_id=project_id(project), **{"name": "n", "path": "level", **fields})


def wrong(found: Dimension) -> str:
    with pytest.raises(ValidationError) as error:
        found.full_clean()
    return " ".join(error.value.messages)


def test_a_project_has_five_at_most_each_of_its_own_name(project: Project) -> None:
    for number in range(Dimension.MOST):
        one = dimension(project, name=f"n{number}")
        one.full_clean()
        one.save()
    assert "5 dimensions at most" in wrong(dimension(project))
    one.full_clean()
    one.delete()
    assert "of this name already" in wrong(dimension(project, name="n0"))


def test_a_name_is_free_and_fits_into_a_query(project: Project) -> None:
    assert "counts by name" in wrong(dimension(project, name="event"))
    assert "valid" in wrong(dimension(project, name="a b"))
    assert "can't be counted by" in wrong(dimension(project, path="properties.user"))
