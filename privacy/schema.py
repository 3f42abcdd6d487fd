"""What the OpenAPI document says of persons' data: tokens, erasure, consent."""

from django.conf import settings

from ingest.records import CATEGORIES
from ingest.schema.operations import ENCODING, USER, request_body
from privacy.bodies import EVERYTHING, MOST_BYTES
from privacy.deletions import DEFAULT_GRACE
from privacy.models import DeletionRequest
from privacy.tokens import LONGEST_LIFE
from telemetry_site.openapi import (
    EXAMPLE_DAY,
    LIMITS,
    REFUSALS,
    UNSUPPORTED,
    WRONG_HOST,
    Object,
    answer,
    component,
    examples,
    operation,
    refusal,
    schema,
)

TAG = "Privacy"
MOMENT: Object = {"type": "string", "format": "date-time"}
PERHAPS = {"anyOf": [MOMENT, {"type": "null"}]}
USER_ID: Object = {
    "anyOf": [
        {"type": "string", "minLength": 1, "maxLength": settings.MAX_NAME_LENGTH},
        {"type": "integer"},
    ],
    "description": "As the events name the person.",
}
_USER = "a7f3c8e9d2b1"
_ASKED, _DUE = f"{EXAMPLE_DAY}T10:30:00Z", "2026-12-19T10:30:00Z"
_DEADLINE = "2026-12-20T10:30:00Z"
_TOKEN = "x5Jq0c2wJwq8c1tZg4nF6mB3vR7yK9pL2sD5hG8jN0A"  # noqa: S105 an example


def body(name: str, properties: Object, required: list[str], shown: Object) -> Object:
    """A small JSON body."""
    content = schema(name, {"type": "object", "required": required, "properties": properties})
    return request_body(content, shown)


MALFORMED = {
    **WRONG_HOST,
    "malformed_json": "The body is not JSON.",
    "missing_field": "user_id: This field is required.",
    "invalid_type": "user_id: Not a valid string.",
    "too_long": "user_id: Ensure this field has no more than 200 characters.",
    "invalid_character": "user_id: Null characters are not allowed.",
    "out_of_range": "grace_days: Ensure this value is less than or equal to 29.",
    "invalid_timestamp": "request_timestamp: Datetime has wrong format.",
    "unknown_category": "categories: There are the categories application, …; 1 is none.",
}
_WRONG_SCOPE = {"wrong_scope": "This needs a subject token or a key of scope secret."}
FORBIDDEN = component(
    "responses",
    "NotForThisPerson",
    refusal(
        403,
        "Not with this key, or a subject token for another user.",
        {**_WRONG_SCOPE, "wrong_subject": "The token is for another user."},
    ),
)
BODY_REFUSALS = {
    400: refusal(400, "The body can't be taken.", MALFORMED),
    413: refusal(
        413,
        "Larger than these bodies may be, as sent or decompressed.",
        {
            "too_large": f"The body is larger than {MOST_BYTES} bytes as sent.",
            "too_large_decompressed": f"The body is larger than {MOST_BYTES} bytes once "
            "decompressed.",
        },
    ),
    415: UNSUPPORTED,
}
PERSON_REFUSALS = {**REFUSALS, **BODY_REFUSALS, 403: FORBIDDEN}

TOKENS = operation(
    TAG,
    "Make a subject token",
    "A token with which one of the project's users may ask for their data, its erasure and their "
    "consent. A server that has the signing secret can make it itself: a JWT (HS256) with `sub` "
    "the user id, `aud` the project's slug, `scope` `privacy`, `exp` at most a day away.",
    {
        **REFUSALS,
        **BODY_REFUSALS,
        403: refusal(
            403, "Not with this key.", {"wrong_scope": "This needs a key of scope secret."}
        ),
        200: answer(
            "The token, kept nowhere.",
            schema(
                "SubjectToken",
                {
                    "type": "object",
                    "required": ["token", "expires_at"],
                    "properties": {"token": {"type": "string"}, "expires_at": MOMENT},
                },
            ),
            examples(token={"token": "eyJhbGciOiJIUzI1NiIsInR5cCI6…", "expires_at": _ASKED}),
            LIMITS,
        ),
    },
    [ENCODING],
    body(
        "TokenRequest",
        {
            "user_id": USER_ID,
            "expires_in": {
                "type": "integer",
                "minimum": 1,
                "maximum": int(LONGEST_LIFE.total_seconds()),
                "default": 3600,
                "description": "In seconds.",
            },
        },
        ["user_id"],
        examples(hour={"user_id": _USER}, minute={"user_id": _USER, "expires_in": 60}),
    ),
)

DELETE = operation(
    TAG,
    "Erase a person",
    "From the answer on nothing more of the person is stored, until they opt in again. What is "
    "stored is erased when the grace is over, and a receipt says what was. Asking again while a "
    "request is open gives another token for the same one; the earlier date holds.",
    {
        **PERSON_REFUSALS,
        200: answer(
            "It is written down. The token is kept nowhere: it asks how far it is, or cancels.",
            schema(
                "Deletion",
                {
                    "type": "object",
                    "required": [
                        "deletion_token",
                        "estimated_completion",
                        "message",
                        "erasure_from",
                    ],
                    "properties": {
                        "deletion_token": {"type": "string"},
                        "estimated_completion": MOMENT,
                        "message": {"type": "string"},
                        "erasure_from": MOMENT | {"description": "Until then it can be cancelled."},
                    },
                },
            ),
            examples(
                written_down={
                    "deletion_token": _TOKEN,
                    "estimated_completion": _DEADLINE,
                    "message": "Your data will be permanently deleted within 30 days",
                    "erasure_from": _DUE,
                }
            ),
            LIMITS,
        ),
    },
    [ENCODING],
    body(
        "DeletionRequest",
        {
            "user_id": USER_ID,
            "request_timestamp": PERHAPS
            | {"description": "What the client's clock says; recorded, nothing more."},
            "grace_days": {
                "type": "integer",
                "minimum": 0,
                "maximum": DEFAULT_GRACE.days,
                "default": DEFAULT_GRACE.days,
                "description": "Days until erasure begins; 0: at once.",
            },
        },
        ["user_id"],
        examples(
            usual={"user_id": _USER, "request_timestamp": _ASKED},
            at_once={"user_id": _USER, "grace_days": 0},
        ),
    ),
)

_REPORT = schema(
    "DeletionStatus",
    {
        "type": "object",
        "required": [
            "status", "requested_at", "erasure_from", "estimated_completion", "started_at",
            "finished_at", "receipt",
        ],
        "properties": {
            "status": {
                "type": "string",
                "enum": DeletionRequest.State.values,
                "description": "; ".join(f"`{s.value}`: {s.label}" for s in DeletionRequest.State)
                + ".",
            },
            "requested_at": MOMENT,
            "erasure_from": MOMENT,
            "estimated_completion": MOMENT,
            "started_at": PERHAPS,
            "finished_at": PERHAPS,
            "receipt": {
                "description": "Once completed: rows erased by table, and what the verification "
                "found left, which is nothing.",
                "anyOf": [{"type": "object"}, {"type": "null"}],
            },
        },
    },
)  # fmt: skip
_PENDING = {
    "status": "pending",
    "requested_at": _ASKED,
    "erasure_from": _DUE,
    "estimated_completion": _DEADLINE,
    "started_at": None,
    "finished_at": None,
    "receipt": None,
}
_TOKEN_BODY = body(
    "DeletionTokenHolder",
    {"deletion_token": {"type": "string", "minLength": 1, "maxLength": 100}},
    ["deletion_token"],
    examples(token={"deletion_token": _TOKEN}),
)
_TOKEN_REFUSALS = {
    **BODY_REFUSALS,
    404: refusal(
        404,
        "No request has this token, or it was settled more than 30 days ago.",
        {"unknown_token": "This token is unknown, or has ended."},
    ),
    **{status: REFUSALS[status] for status in (429, 503)},
}
DELETION_STATUS = operation(
    TAG,
    "How far is an erasure?",
    "The token is all that is needed; it lives until 30 days after the erasure.",
    {**_TOKEN_REFUSALS, 200: answer("How far it is.", _REPORT, examples(pending=_PENDING))},
    [ENCODING],
    _TOKEN_BODY,
)
DELETION_CANCEL = operation(
    TAG,
    "Cancel an erasure",
    "Until it begins. What the person sends is stored again from then on; what came meanwhile is "
    "gone. Cancelling twice is as good as once.",
    {
        **_TOKEN_REFUSALS,
        200: answer(
            "It is cancelled.", _REPORT, examples(cancelled={**_PENDING, "status": "cancelled"})
        ),
        409: refusal(
            409,
            "The erasure has begun.",
            {"too_late": "It can't be cancelled any more: it is completed."},
        ),
    },
    [ENCODING],
    _TOKEN_BODY,
)

_ANSWERS: Object = {
    "type": "object",
    "minProperties": 1,
    "propertyNames": {"enum": sorted(CATEGORIES | {EVERYTHING})},
    "additionalProperties": {"type": "boolean"},
}
_HELD = answer(
    "What may be stored.",
    schema(
        "Consent",
        {
            "type": "object",
            "required": ["user_id", "categories", "suppressed"],
            "properties": {
                "user_id": {"type": "string"},
                "categories": {
                    "type": "object",
                    "required": sorted(CATEGORIES),
                    "additionalProperties": {"type": "boolean"},
                },
                "suppressed": {
                    "type": "boolean",
                    "description": "Nothing is stored, since an erasure was asked for; granting "
                    "something ends it.",
                },
            },
        },
    ),
    examples(
        held={
            "user_id": _USER,
            "categories": {name: name != "business" for name in sorted(CATEGORIES)},
            "suppressed": False,
        }
    ),
    LIMITS,
)
CONSENT = {
    "get": operation(
        TAG,
        "What may be stored of a person?",
        "By category. A subject token asks about its own person; a server that asks with the "
        "secret key names the person in `X-User-ID`. Whose id can't stand there (not ASCII, or "
        "with blanks at its ends) is asked about with a subject token.",
        {
            **REFUSALS,
            400: refusal(
                400,
                "No person is named.",
                {**WRONG_HOST, "missing_field": "X-User-ID: Name the user in this header."},
            ),
            403: FORBIDDEN,
            200: _HELD,
        },
        [USER],
    ),
    "put": operation(
        TAG,
        "Say what may be stored of a person",
        f"By category; `{EVERYTHING}` stands for all that aren't named. What is refused is dropped "
        "when it is to be stored, and counted as suppressed. Measurements have no category: they "
        "are dropped once every category is refused. The answer comes when what was just being "
        "stored is through, after three seconds at the latest; the refusal holds in any case for "
        "all that is stored from then on.",
        {
            **PERSON_REFUSALS,
            200: _HELD,
            409: refusal(
                409,
                "Their erasure is under way.",
                {"erasing": "The person is being erased right now. Ask again when it is done."},
            ),
        },
        [ENCODING],
        body(
            "ConsentAnswers",
            {"user_id": USER_ID, "categories": _ANSWERS},
            ["user_id", "categories"],
            examples(
                some={"user_id": _USER, "categories": {"application": True, "business": False}},
                nothing={"user_id": _USER, "categories": {EVERYTHING: False}},
            ),
        ),
    ),
}
