"""Bounded, strict JSON: what every JSON decoder here starts from. Pure.

The rules (api.md, *Common rules*): UTF-8; no key twice in an object; no NUL and no lone surrogate,
which can't be stored as text; integers of 64 bits, finite floats; nesting and names bounded.
"""

import json
import math
from typing import Any

import msgspec

from ingest.records import InvalidRecord, Limits, MalformedBatch

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode
_CONTAINERS = (dict, list)
# What msgspec raises on a body that it can't decode, or not into what was asked for.
UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, OverflowError, RecursionError)
INT64 = range(-(2**63), 2**64)


def load(body: bytes, limits: Limits) -> tuple[Any, bool]:
    """The value of a body, and whether all of it is known to keep the rules on text and numbers.

    Where it isn't, each event must go through `check_values`, so that one bad event doesn't fail
    its batch. Raises MalformedBatch for what isn't JSON, or would be too large once decoded.
    """
    check_size(body, limits)
    return load_checked(body)


def load_checked(body: bytes) -> tuple[Any, bool]:
    """The same of a body whose size was checked."""
    try:
        value = _decode(body)
        _pack(value)  # raises on an integer of more than 64 bits
        clean = has_all_keys_once(body, value)
    except UNDECODABLE:
        clean = False
    return (value, True) if clean else (_load_tolerantly(body), False)


def check_size(body: bytes, limits: Limits) -> None:
    """Raise MalformedBatch for a body of nothing, and of what would be too large once decoded."""
    if not body.strip():
        raise MalformedBatch("empty_body", "The body is empty.")
    if len(body) > limits.structure < sum(map(body.count, (b"{", b"[", b","))):
        # Counted in strings too: cheap, never too low, and before anything is decoded.
        raise MalformedBatch(
            "too_complex",
            f"The body holds more than {limits.structure} values (by its brackets and commas).",
        )


def has_all_keys_once(body: bytes, value: Any) -> bool:
    """Whether a body says nothing that isn't in its value, and no text of it holds a NUL.

    A key that came twice shows: what is encoded again has fewer colons than what came. Not where a
    colon came as an escape; bodies with those are not known to be fine.
    """
    if b"\\" in body and (b"\\u0000" in body or b"\\u003" in body):
        return False
    return _encode(value).count(b":") == body.count(b":")


class RepeatedKey(dict[str, Any]):
    """An object in which a key came twice."""


def _load_tolerantly(body: bytes) -> Any:
    """The value of a body whose oddities are left in place for `check_values` to name."""
    text = body.decode("utf-8-sig", errors="surrogateescape")
    try:
        return json.loads(text, object_pairs_hook=_object, parse_int=_integer)
    except RecursionError:
        raise MalformedBatch("too_deep", "The body is nested too deeply.") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise MalformedBatch("malformed_json", f"Not valid JSON: {error.msg} ({where}).") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    return value if len(value) == len(pairs) else RepeatedKey(value)


def _integer(digits: str) -> int | float:
    # Of a number too long to be one nothing is needed but that it is out of range.
    return int(digits) if len(digits) <= 20 else math.inf


def check_values(value: Any, limits: Limits) -> None:
    """Raise InvalidRecord for the first thing in `value` that breaks a rule on text or numbers."""
    check_nesting(value, limits)
    pending = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, RepeatedKey):
            raise InvalidRecord("duplicate_key", "A key occurs twice in one object")
        if isinstance(part, dict):
            pending += [*part.keys(), *part.values()]
        elif isinstance(part, list):
            pending += part
        elif isinstance(part, str):
            check_text(part)
        elif isinstance(part, int | float):
            _check_number(part)


def check_text(text: str) -> None:
    if "\0" in text:
        raise InvalidRecord("invalid_character", "Text contains the NUL character")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidRecord(
                "invalid_character", "Text contains a lone surrogate or is not valid UTF-8"
            ) from None


def _check_number(number: float) -> None:
    if isinstance(number, float):
        if not math.isfinite(number):
            raise InvalidRecord("number_out_of_range", "A number is not finite or too large")
    elif number not in INT64:
        raise InvalidRecord("number_out_of_range", "An integer does not fit in 64 bits")


def check_nesting(value: Any, limits: Limits) -> None:
    """Raise InvalidRecord where `value` (an event) is nested too deeply or a name is too long."""
    level: list[Any] = [value]
    for _ in range(limits.depth):
        deeper: list[Any] = []
        for part in level:
            if isinstance(part, dict):
                check_names(part, limits)
                deeper += [item for item in part.values() if isinstance(item, _CONTAINERS)]
            else:
                deeper += [item for item in part if isinstance(item, _CONTAINERS)]
        if not deeper:
            return
        level = deeper
    raise InvalidRecord("too_deep", f"Nested more than {limits.depth} levels deep")


def check_names(value: dict[str, Any], limits: Limits) -> None:
    """Raise InvalidRecord where a key of `value` is too long."""
    if value and max(map(len, value)) > limits.name_length:
        raise InvalidRecord(
            "name_too_long", f"A field's name is longer than {limits.name_length} characters"
        )
