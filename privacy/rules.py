"""A project's privacy rules: data, read and checked once, applied to every record. Pure.

A rule names a property by its path and says what becomes of what stands there; a keep-list names
the properties that are stored at all. An event is looked at as one object: its message, scope and
client_version, and its properties; a measurement as its tags. docs/operations.md, *Privacy rules*,
says what each rule makes of what.

- Keep-lists come first: where any holds for an event, what none of those lists goes.
- Then the rules, in their order, each on what the one before left.
- What a rule can't be applied to, a text to be put in ranges say, is dropped: nothing that a rule
  names is stored as it came.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import msgspec

from ingest.records import Point, Record
from privacy import changes
from privacy.changes import DROPPED, Change
from privacy.paths import ANY, Place, change_at, kept
from privacy.subjects import Pseudonyms

MOST_RULES = 100
MOST_PATHS = 100
MOST_ENTRIES = 100
MOST_SEGMENTS = 16
# With more the ways to read keys that have dots in them would be many.
MOST_WILD = 4
LONGEST_TEXT = 200

# The texts that an event has beside its properties.
OWN = ("message", "scope", "client_version")

_NUMBERS = range(-(2**63), 2**63)
_EMPTY = b"{}"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class InvalidRules(ValueError):
    """Rules that can't be read; says which, and what in it."""


@dataclass(frozen=True, slots=True)
class _Rule:
    event: str | None
    place: Place
    change: Change
    # The event's own texts that the path names.
    own: tuple[str, ...]
    # JSON without this has nothing that the path names.
    needle: bytes


@dataclass(frozen=True, slots=True)
class _KeepList:
    event: str | None
    places: list[Place]
    own: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What holds for the events of one name."""

    lists: list[_KeepList]
    rules: list[_Rule]
    # Those of the rules that name a text of the event's own.
    of_texts: list[_Rule]

    def __bool__(self) -> bool:
        return bool(self.lists or self.rules or self.of_texts)

    def within(self, batch: bytes) -> "_Plan":
        """The same for a batch of which `batch` is all JSON: without rules that hit nothing."""
        hitting = [rule for rule in self.rules if rule.needle in batch]
        return _Plan(self.lists, hitting, self.of_texts)

    def apply(self, record: Record | Point, pseudonyms: Pseudonyms) -> None:
        if isinstance(record, Record):
            self._apply_to_texts(record, pseudonyms)
            record.properties = self._applied(record.properties, pseudonyms)
        else:
            record.tags = self._applied(record.tags, pseudonyms)

    def _apply_to_texts(self, record: Record, pseudonyms: Pseudonyms) -> None:
        if self.lists:
            for field in OWN:
                if not any(field in listed.own for listed in self.lists):
                    setattr(record, field, None)
        for rule in self.of_texts:
            for field in rule.own:
                text = getattr(record, field)
                if text is not None:
                    new = rule.change(pseudonyms, text)
                    setattr(record, field, None if new is DROPPED else new)

    def _applied(self, body: bytes, pseudonyms: Pseudonyms) -> bytes:
        """`body`, the JSON of an object, with the rules applied; decoded only where one may hit."""
        rules = [rule for rule in self.rules if rule.needle in body]
        if body == _EMPTY or not (rules or self.lists):
            return body
        value = _decode(body)
        if self.lists:
            value = kept(value, [place for listed in self.lists for place in listed.places])
            if value is DROPPED:
                return _EMPTY
        for rule in rules:
            change_at(value, rule.place, partial(rule.change, pseudonyms))
        return _encode(value)


class Rules:
    """The rules of one project. Without any it is false, and nobody need ask further."""

    def __init__(self, entries: Sequence[_Rule | _KeepList] = ()) -> None:
        self._entries = entries
        # By event; None is any that no rule names.
        self._plans = {
            event: self._plan(event) for event in {None, *(entry.event for entry in entries)}
        }

    @classmethod
    def parse(cls, content: Any) -> "Rules":
        """From a project's JSON. Raises InvalidRules."""
        if not isinstance(content, list):
            raise InvalidRules('The rules must be a list: [{"property": "email", "do": "drop"}]')
        if len(content) > MOST_RULES:
            raise InvalidRules(f"There are {len(content)} rules; at most {MOST_RULES} are taken.")
        return cls([_entry(number, entry) for number, entry in enumerate(content, 1)])

    def __bool__(self) -> bool:
        return bool(self._entries)

    def apply(self, records: Sequence[Record | Point], pseudonyms: Pseudonyms) -> None:
        """Change records in place; they are scrubbed already."""
        batch = b"\n".join(map(_json_of, records))
        plans: dict[str | None, _Plan] = {}
        for record in records:
            event = record.name if record.name in self._plans else None
            plan = plans.get(event)
            if plan is None:
                plan = plans[event] = self._plans[event].within(batch)
            if plan:
                plan.apply(record, pseudonyms)

    def _plan(self, event: str | None) -> _Plan:
        holding = [entry for entry in self._entries if entry.event in (None, event)]
        rules = [entry for entry in holding if isinstance(entry, _Rule)]
        return _Plan(
            [entry for entry in holding if isinstance(entry, _KeepList)],
            rules,
            [rule for rule in rules if rule.own],
        )


def _json_of(record: Record | Point) -> bytes:
    return record.properties if isinstance(record, Record) else record.tags


# --- Reading them ---------------------------------------------------------------------------------

# What is done -> the fields it takes beside `property`, `do` and `event`.
DOES = {
    "drop": (),
    "redact": (),
    "hash": (),
    "bucketise": ("edges",),
    "truncate_time": ("to",),
    "generalise": ("segments", "separator", "groups", "other"),
}
FIELDS = ("property", "keep", "event", "do", *(name for names in DOES.values() for name in names))
TIMES = ("hour", "day", "month")


class _Entry:
    """One entry of the list while it is read: what is wrong names its number and the field."""

    def __init__(self, number: int, content: dict[str, Any]) -> None:
        self._number = number
        self._content = content

    def wrong(self, field: str, why: str) -> InvalidRules:
        return InvalidRules(f"Rule {self._number}, {field}: {why}")

    def get(self, field: str) -> Any:
        return self._content.get(field)

    def has(self, field: str) -> bool:
        return field in self._content

    def only(self, *fields: str) -> None:
        """Raise InvalidRules for a field that isn't one of these."""
        for field in self._content:
            if field not in fields:
                known = ", ".join(fields)
                raise self.wrong(_cut(field), f"there is no such field here; there are {known}.")

    def text(self, field: str, value: Any) -> str:
        if value is None:
            raise self.wrong(field, "is missing.")
        if not isinstance(value, str) or not value.isprintable():
            raise self.wrong(field, "must be a text without control characters.")
        if not 0 < len(value) <= LONGEST_TEXT:
            raise self.wrong(field, f"must have 1 to {LONGEST_TEXT} characters.")
        return value

    def path(self, field: str, value: Any) -> list[str]:
        path = self.text(field, value).split(".")
        if not all(path):
            raise self.wrong(
                field, "must be names with dots between them, such as user.address or items.*.name."
            )
        if len(path) > MOST_SEGMENTS:
            raise self.wrong(field, f"has {len(path)} names; at most {MOST_SEGMENTS} are taken.")
        if path.count(ANY) > MOST_WILD:
            raise self.wrong(field, f"may have {MOST_WILD} * at most.")
        return path

    def event(self) -> str | None:
        return self.text("event", self.get("event")) if self.has("event") else None


def _entry(number: int, content: Any) -> _Rule | _KeepList:
    if not isinstance(content, dict):
        raise InvalidRules(f'Rule {number} must be an object: {{"property": "…", "do": "…"}}')
    entry = _Entry(number, content)
    return _keep_list(entry) if entry.has("keep") else _rule(entry)


def _keep_list(entry: _Entry) -> _KeepList:
    entry.only("keep", "event")
    listed = entry.get("keep")
    if not isinstance(listed, list):
        raise entry.wrong("keep", 'must be a list of properties, such as ["plugin", "os.name"].')
    if len(listed) > MOST_PATHS:
        raise entry.wrong("keep", f"lists {len(listed)}; at most {MOST_PATHS} are taken.")
    paths = [entry.path("keep", path) for path in listed]
    return _KeepList(
        entry.event(),
        list(map(Place.of, paths)),
        frozenset(own for path in paths for own in _own(path)),
    )


def _rule(entry: _Entry) -> _Rule:
    does = entry.get("do")
    if not isinstance(does, str) or does not in DOES:
        raise entry.wrong("do", f"must be one of {', '.join(DOES)}.")
    entry.only("property", "do", "event", *DOES[does])
    path = entry.path("property", entry.get("property"))
    return _Rule(entry.event(), Place.of(path), _CHANGES[does](entry), _own(path), _needle(path))


def _own(path: list[str]) -> tuple[str, ...]:
    return tuple(field for field in OWN if path in ([field], [ANY]))


def _needle(path: list[str]) -> bytes:
    """What JSON must have in it: the longest name, as a key or, of several, as a part of one."""
    name = max((name for name in path if name != ANY), key=len, default="")
    written = _encode(name)
    return written + b":" if path == [name] else written[1:-1]


def _bucketise(entry: _Entry) -> Change:
    edges = entry.get("edges")
    if not isinstance(edges, list) or not all(map(_is_number, edges)):
        raise entry.wrong("edges", "must be a list of numbers, such as [0, 10, 100].")
    if not 0 < len(edges) <= MOST_ENTRIES:
        raise entry.wrong("edges", f"must have 1 to {MOST_ENTRIES} numbers.")
    if any(low >= high for low, high in pairwise(edges)):
        raise entry.wrong("edges", "must ascend: each number above the one before.")
    words = [_encode(int(edge) if edge == int(edge) else edge).decode() for edge in edges]
    between = [f"{low}-{high}" for low, high in pairwise(words)]
    names = [f"<{words[0]}", *between, f"≥{words[-1]}"]
    return partial(changes.bucket, edges=edges, names=names)


def _is_number(value: Any) -> bool:
    # NaN and infinity are in no range.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and _NUMBERS.start <= value < _NUMBERS.stop


def _truncate_time(entry: _Entry) -> Change:
    if (to := entry.get("to")) not in TIMES:
        raise entry.wrong("to", f"must be one of {', '.join(TIMES)}.")
    return partial(changes.moment, to=to)


def _generalise(entry: _Entry) -> Change:
    if entry.has("segments") == entry.has("groups"):
        raise entry.wrong("segments", "generalise takes either segments or groups.")
    if entry.has("groups"):
        if entry.has("separator"):
            raise entry.wrong("separator", "goes with segments, not with groups.")
        return _grouping(entry)
    if entry.has("other"):
        raise entry.wrong("other", "goes with groups, not with segments.")
    segments = entry.get("segments")
    if type(segments) is not int or not 0 < segments <= MOST_SEGMENTS:
        raise entry.wrong("segments", f"must be a whole number from 1 to {MOST_SEGMENTS}.")
    separator = entry.text("separator", entry.get("separator")) if entry.has("separator") else "."
    return partial(changes.leading, segments=segments, separator=separator)


def _grouping(entry: _Entry) -> Change:
    groups = entry.get("groups")
    if not isinstance(groups, dict) or not 0 < len(groups) <= MOST_ENTRIES:
        raise entry.wrong(
            "groups",
            f'must be an object of 1 to {MOST_ENTRIES} values and their groups: {{"DE": "EU"}}.',
        )
    table = {
        entry.text("groups", value): entry.text("groups", group) for value, group in groups.items()
    }
    other = entry.text("other", entry.get("other")) if entry.has("other") else DROPPED
    return partial(changes.group, groups=table, other=other)


def _cut(text: str) -> str:
    return repr(text if len(text) <= 50 else f"{text[:50]}…")


_CHANGES: dict[str, Callable[[_Entry], Change]] = {
    "drop": lambda _: changes.dropped,
    "redact": lambda _: changes.redacted,
    "hash": lambda _: changes.hashed,
    "bucketise": _bucketise,
    "truncate_time": _truncate_time,
    "generalise": _generalise,
}
