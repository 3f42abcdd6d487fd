"""Scrubbing: what could lead to a person leaves a batch before anything of it is written. Pure.

It comes before everything that persists: what is once in a ledger, a log or a backup can't be taken
back. One scan of a whole batch says whether there may be anything at all; only what hits is looked
at record by record, then text by text.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import chain, count
from typing import Any

import msgspec

from ingest.records import Point, Record
from privacy.checks import is_card, is_marker
from privacy.identifiers import IDS, RawIds, ids_of, is_id, named_ids
from privacy.markers import ROUNDS, Dropped, Marker, Mode, unescaped
from privacy.patterns import ESCAPED, NAMED, Effort, Exhausted, Key, Rule, about, hits, replaced
from privacy.subjects import Pseudonyms

__all__ = ["Mode", "is_clean", "scrub", "scrub_text"]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
# Smaller numbers may be there by chance.
_SMALL = 100_000


def scrub(records: Sequence[Record | Point], mode: Mode, pseudonyms: Pseudonyms) -> int:
    """Scrub a batch's records in place, before they are pseudonymised; how many were changed.

    Texts, properties and tags are looked at, keys and numbers in them too, and JSON or escapes in
    texts. Values of keys like `password` or `email` go whole; those of keys like `user_id`, and any
    text that is or holds the raw id of a user or session of the batch, become `subject:<hex>` or
    `session:<hex>` in every mode. What can't be dropped, a name, is redacted. The records' own
    `user_id` and `session_id` are left to whoever pseudonymises them.
    """
    whole = _text_of(records)
    rules = hits(whole)
    named = named_ids(map(_json_of, records)) if NAMED in rules else {}
    kinds = named | ids_of(records)
    recurring = RawIds(kinds).may_recur_in(whole)
    if not rules and not recurring:
        return 0
    # What is escaped doesn't show in the whole.
    sought = kinds if recurring or ESCAPED in rules else {}
    ids = RawIds({raw: kind for raw, kind in sought.items() if is_id(raw)})
    return _Scrubber(Marker(mode, pseudonyms), ids).scrub(records)


def scrub_text(text: str) -> str:
    """`text` with all that is recognised redacted, where there is no batch and no project."""
    return _Scrubber(Marker(Mode.REDACT, None), RawIds({})).text(text)


def is_clean(text: str) -> bool:
    """Whether the first scan already says that nothing is in `text`."""
    return not hits(_bytes(text))


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def _text(raw: bytes) -> str:
    return raw.decode(errors="surrogatepass")


# What is scrubbed of each: its texts, and its JSON.
_TEXTS = {Record: ("name", "level", "scope", "client_version", "message"), Point: ("name", "node")}
_JSON = {Record: "properties", Point: "tags"}


def _text_of(records: Iterable[Record | Point]) -> bytes:
    """All that is scrubbed of `records`, as JSON."""
    bodies = [
        record.properties if isinstance(record, Record) else record.tags for record in records
    ]
    return b"\n".join([_encode(_texts_of(records)), *bodies])


def _texts_of(records: Iterable[Record | Point]) -> set[tuple[str | None, ...]]:
    """Their texts, those that several have in common once."""
    return {
        (record.name, record.level, record.scope, record.client_version, record.message)
        if isinstance(record, Record)
        else (record.name, record.node)
        for record in records
    }


def _json_of(record: Record | Point) -> bytes:
    return record.properties if isinstance(record, Record) else record.tags


# --- One batch ------------------------------------------------------------------------------------

_UNKNOWN = Key()
_ONE_BY_ONE = IDS | {"escaped"}
_NOTHING = b"{}"
_JSON_STARTS = frozenset('{["')
# Between texts that are looked at together: none holds NUL, and each has one at either end.
_SEPARATOR = "\0\0"


class _Scrubber:
    """Scrubs the records of one batch."""

    def __init__(self, mark: Marker, ids: RawIds) -> None:
        self._mark = mark
        self._ids = ids
        self._effort = Effort()
        # Texts that were looked at, and what became of them; None of those that go.
        self._known: dict[str, str | None] = {}
        # The same of texts as what a field of a record may hold.
        self._of_field: dict[tuple[str, str], str | None] = {}
        self._by_type: dict[type, Callable[[Any, Key], Any]] = {
            str: self.text,
            int: self._number,
            list: self._list,
            dict: self._object,
        }

    def scrub(self, records: Sequence[Record | Point]) -> int:
        """How many of `records` had to be changed."""
        values = [self._value_of(record) for record in records]
        self._look_at(chain(*_texts_of(records), *(value.values() for value in values)))
        return sum(map(self._scrub, records, values))

    def _value_of(self, record: Record | Point) -> dict[str, Any]:
        """The record's JSON if anything may be in it."""
        text = _json_of(record)
        if text == _NOTHING:
            return {}
        found = hits(text) or self._ids.may_recur_in(text)
        value: dict[str, Any] = _decode(text) if found else {}
        return value

    def _look_at(self, values: Iterable[Any]) -> None:
        """See what becomes of texts all at once: that takes a fraction of one by one."""
        texts = {text for text in values if type(text) is str and not _may_be_json(text)}
        joined = _bytes(_SEPARATOR.join(texts))
        rules, mark = hits(joined), self._mark.undropped()
        if self._ids.kinds or not {rule.kind for rule in rules}.isdisjoint(_ONE_BY_ONE):
            return
        pieces = _text(self._replaced(joined, rules, _UNKNOWN, mark)).split(_SEPARATOR)
        if len(pieces) == len(texts):
            for text, scrubbed in zip(texts, pieces, strict=True):
                self._known[text] = scrubbed if scrubbed == text or mark is self._mark else None

    def _scrub(self, record: Record | Point, value: dict[str, Any]) -> bool:
        """Whether anything of a record had to be changed."""
        changed = [field for field in _TEXTS[type(record)] if self._scrub_text(record, field)]
        scrubbed = self._object(value)
        if scrubbed == value:
            return bool(changed)
        setattr(record, _JSON[type(record)], _encode(scrubbed))
        return True

    def _scrub_text(self, record: Record | Point, field: str) -> bool:
        text = getattr(record, field)
        if text is None or self._known.get(text) == text:
            return False
        if (field, text) not in self._of_field:
            self._of_field[field, text] = self._field(text, field)
        scrubbed = self._of_field[field, text]
        setattr(record, field, scrubbed)
        return bool(scrubbed != text)

    def _field(self, text: str, field: str) -> str | None:
        try:
            return self.text(text, about(field))
        except Dropped:
            if field != "name":
                return None
            return _Scrubber(self._mark.undropped(), self._ids).text(text)

    def _object(self, value: dict[str, Any], _: Key = _UNKNOWN) -> dict[str, Any]:
        scrubbed: dict[str, Any] = {}
        numbers = count(2)
        for name, item in value.items():
            key = about(name)
            try:
                told = name if key.plain and not self._ids.kinds else self.text(name)
                item = self._value(item, key)
            except Dropped:
                continue
            free = told
            while free in scrubbed:
                free = f"{told} {next(numbers)}"
            scrubbed[free] = item
        return scrubbed

    def _value(self, value: Any, key: Key) -> Any:
        if key.kind is not None:
            return self._named(value, key.kind)
        by_type = self._by_type.get(type(value))
        return by_type(value, key) if by_type else value

    def _list(self, items: list[Any], key: Key) -> list[Any]:
        kept = []
        for item in items:
            with suppress(Dropped):
                kept.append(self._value(item, key))
        return kept

    def _number(self, number: int, _: Key) -> int | str:
        if number < _SMALL:
            return number
        digits = str(number)
        if kind := self._ids.kinds.get(digits):
            return _text(self._mark(kind, digits.encode()))
        if len(digits) > 12 and is_card(digits):
            return _text(self._mark("card", digits.encode()))
        return number

    def _named(self, value: Any, kind: str) -> Any:
        """A value under a name that says what it is: the whole of it goes.

        What tells nothing stays: null, what is empty, and booleans (`email: true`).
        """
        if isinstance(value, bool) or value in (None, "", [], {}):
            return value
        if kind in IDS:
            return self._pseudonym(value, kind)
        text = value if isinstance(value, str) else _encode(value).decode()
        return text if is_marker(_bytes(text)) else _text(self._mark(kind, _bytes(text)))

    def _pseudonym(self, value: Any, kind: str) -> Any:
        if isinstance(value, list):
            return [self._pseudonym(item, kind) for item in value]
        if isinstance(value, dict):
            return self._object(value)
        return _text(self._mark(kind, _bytes(str(value)))) if is_id(value) else value

    def text(self, text: str, key: Key = _UNKNOWN) -> str:
        """`text` without what is found in it."""
        if text in self._known and (not key.exempt or self._known[text] == text):
            return _kept(self._known[text])
        raw = _bytes(text)
        found = hits(raw)
        if (found or self._ids.kinds) and (inner := self._inner(text, key)) is not None:
            return inner
        rules = _but(key, found)
        scrubbed = _text(self._replaced(raw, rules, key, self._mark))
        if not found:
            self._known[text] = scrubbed
        return self._bare(scrubbed, key) if ESCAPED in rules else scrubbed

    def _inner(self, text: str, key: Key) -> str | None:
        """A text that is JSON, scrubbed as such; None where it isn't, or says something twice."""
        if not _may_be_json(text):
            return None
        try:
            value = _decode(text)
            if _encode(value).count(b":") != text.count(":"):
                return None
            scrubbed = self._value(value, key)
        except (ValueError, RecursionError):
            return None
        return text if scrubbed == value else _encode(scrubbed).decode()

    def _replaced(self, text: bytes, rules: list[Rule], key: Key, mark: Marker) -> bytes:
        """`text` with what `mark` makes of each id, and of what the rules find.

        Then once more: what touched something may only show for what it is with that gone.
        """
        try:
            for _ in range(ROUNDS):
                before = text
                if self._ids.kinds:
                    text = self._ids.replaced(text, mark, self._effort)
                for rule in rules:
                    text = replaced(text, rule, mark, self._effort)
                if text == before:
                    break
                rules = _but(key, hits(text))
        except Exhausted:
            return mark("redacted", text)
        return text

    def _bare(self, text: str, key: Key) -> str:
        """A text with escapes; or what is left of it without them, where they hid something."""
        bare = text
        for _ in range(ROUNDS):
            bare = unescaped(bare)
            if ESCAPED not in hits(_bytes(bare)):
                scrubbed = self.text(bare, key)
                return text if scrubbed == bare else scrubbed
        return _text(self._mark("escaped", _bytes(text)))


def _kept(text: str | None) -> str:
    if text is None:
        raise Dropped
    return text


def _but(key: Key, rules: list[Rule]) -> list[Rule]:
    """The rules but for those that a key exempts its value from."""
    return [rule for rule in rules if rule.kind not in key.exempt] if key.exempt else rules


def _may_be_json(text: str) -> bool:
    return text.lstrip()[:1] in _JSON_STARTS
