"""The small JSON bodies of the privacy endpoints, checked by serializers."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from django.conf import settings
from rest_framework import exceptions, serializers
from rest_framework.request import Request

from ingest import bodies
from ingest.formats.fields import digits, moment
from ingest.records import CATEGORIES, InvalidRecord, MalformedBatch
from privacy.deletions import DEFAULT_GRACE
from privacy.tokens import LONGEST_LIFE
from telemetry_site.errors import STATUS_OF_CODE

MOST_BYTES = 64 * 1024
_BOUNDS = bodies.Bounds(MOST_BYTES, MOST_BYTES)
EVERYTHING = "*"


class UnreadableBody(exceptions.APIException):
    """A body that can't be taken at all; its code says why, and decides about the status."""

    def __init__(self, details: str, code: str) -> None:
        super().__init__(details, code)
        self.status_code = STATUS_OF_CODE.get(code, 400)


if TYPE_CHECKING:
    # It takes its argument in the stubs alone.
    _Form = serializers.Serializer[Any]
else:
    _Form = serializers.Serializer


class Text(serializers.CharField):
    """A string, exactly as it was sent."""

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, **options)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class UserId(Text):
    """A user id exactly as events name it; a whole number is taken for its digits, as there."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=settings.MAX_NAME_LENGTH, **options)

    def to_internal_value(self, data: Any) -> str:
        return super().to_internal_value(digits(data))


class Whole(serializers.IntegerField):
    """A whole number that is one in JSON."""

    def to_internal_value(self, data: Any) -> int:
        if type(data) is not int:
            self.fail("invalid")
        return super().to_internal_value(data)


class Flag(serializers.BooleanField):
    """True or false, and no word that means it."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=type(data).__name__)
        return data


class Moment(serializers.Field[datetime, Any, datetime, Any]):
    """An RFC 3339 time with its offset."""

    def to_internal_value(self, data: Any) -> datetime:
        try:
            return moment(data, self.field_name or "")
        except InvalidRecord as error:
            raise serializers.ValidationError(error.message, error.code) from None


class AboutPerson(_Form):
    """`{"user_id"}`"""

    user_id = UserId()


class TokenBody(AboutPerson):
    """`{"user_id", "expires_in"?}`: seconds."""

    expires_in = Whole(min_value=1, max_value=int(LONGEST_LIFE.total_seconds()), default=3600)


class DeletionBody(AboutPerson):
    """`{"user_id", "request_timestamp"?, "grace_days"?}`"""

    request_timestamp = Moment(default=None, allow_null=True)
    grace_days = Whole(min_value=0, max_value=DEFAULT_GRACE.days, default=DEFAULT_GRACE.days)


class DeletionTokenBody(_Form):
    """`{"deletion_token"}`"""

    deletion_token = Text(max_length=100)


class ConsentBody(AboutPerson):
    """`{"user_id", "categories": {name: bool}}`; `*` stands for every category."""

    categories = serializers.DictField(child=Flag(), allow_empty=False)

    def validate_categories(self, value: dict[str, bool]) -> dict[str, bool]:
        """One answer a category. What is named itself goes before `*`."""
        if unknown := sorted(value.keys() - CATEGORIES - {EVERYTHING}):
            raise serializers.ValidationError(
                f"There are the categories {', '.join(sorted(CATEGORIES))}, and * for all of them; "
                f"{len(unknown)} of those sent are none.",
                code="unknown_category",
            )
        every = dict.fromkeys(CATEGORIES, value[EVERYTHING]) if EVERYTHING in value else {}
        return every | {name: answer for name, answer in value.items() if name != EVERYTHING}


def read(request: Request, form: type[_Form]) -> dict[str, Any]:
    """The body's fields; raises UnreadableBody, or a ValidationError that names what is wrong."""
    try:
        content = bodies.read(request._request, _BOUNDS).content
    except MalformedBatch as error:
        raise UnreadableBody(error.details, error.code) from None
    try:
        decoded = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UnreadableBody("The body is not JSON.", "malformed_json") from None
    if not isinstance(decoded, dict):
        raise UnreadableBody("The body must be an object.", "invalid_type")
    filled = form(data=decoded)
    filled.is_valid(raise_exception=True)
    fields: dict[str, Any] = filled.validated_data
    return fields
