"""Scrubbing: what could lead to a person leaves a batch before anything of it is written. Pure.

It comes before everything that persists: what is once in a ledger, a log or a backup can't be taken
back. One scan of a whole batch says whether there may be anything at all; only what hits is looked
at record by record, then text by text.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from enum import StrEnum
from functools import cached_property
from itertools import chain, count, islice
from typing import Any
from urllib.parse import unquote

import msgspec

from ingest.records import Point, Record
from privacy.patterns import (
    ESCAPED,
    NAMED,
    Effort,
    Exhausted,
    Key,
    Rule,
    about,
    hits,
    is_card,
    is_marker,
    replaced,
)
from privacy.subjects import Pseudonyms

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Mode(StrEnum):
    """What becomes of what is found.

    A marker, [email]; a marker that is the same for the same value, [email:1f3a…]; or the field
    that holds it goes.
    """

    REDACT = "redact"
    HASH = "hash"
    DROP = "drop"


def scrub(records: Sequence[Record | Point], mode: Mode, pseudonyms: Pseudonyms) -> int:
    """Scrub a batch's records in place, before they are pseudonymised; how many were changed.

    Their `user_id` and `session_id` are left alone. A name can't be dropped: it is redacted.
    """
    whole = _text_of(records)
    rules = hits(whole)
    kinds = _ids(records) | _named_ids(records) if NAMED in rules else _ids(records)
    recurring = _RawIds(kinds).may_recur_in(whole)
    if not rules and not recurring:
        return 0
    # What is escaped doesn't show in the whole.
    sought = kinds if recurring or ESCAPED in rules else {}
    ids = _RawIds({raw: kind for raw, kind in sought.items() if _is_id(raw)})
    return _Scrubber(_Marker(mode, pseudonyms), ids).scrub(records)


def scrub_text(text: str) -> str:
    """`text` with all that is recognised redacted, where there is no batch and no project."""
    return _Scrubber(_Marker(Mode.REDACT, None), _RawIds({})).text(text)


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


# --- Raw ids --------------------------------------------------------------------------------------

_IDS = frozenset({"subject", "session"})
# So many ids are looked for one by one.
_FEW = 12
# Shorter ones may be there by chance: they are recognised as a whole text only.
_SHORT = 4
# So may smaller numbers be.
_SMALL = 100_000
# So many ids that fields name are sought elsewhere too.
_MOST = 5_000
# Of ids that share all their words, so many are found within longer texts.
_ALIKE = 20
# An id of many is nobody's.
_ANYBODY = frozenset({"anonymous", "unknown", "undefined", "none", "null", "guest", "default"})

_WORD = re.compile(rb"[0-9A-Za-z_]+")
_BLANKED = bytes(byte if _WORD.match(bytes([byte])) else 32 for byte in range(256))
_ESCAPES = re.compile(rb"\\+(?:u00[01][0-9a-f]|[bfnrt])?")
_APART = re.compile(rb"(?:\A|[^0-9A-Za-z_]|\\[bfnrt])\Z")


def _ids(records: Iterable[Record | Point]) -> dict[str, str]:
    """The raw ids of `records`, and of each its kind."""
    sessions = {record.session_id for record in records if isinstance(record, Record)}
    users = {record.user_id for record in records}
    kinds = dict.fromkeys(sessions, "session") | dict.fromkeys(users, "subject")
    return {raw: kind for raw, kind in kinds.items() if raw}


def _named_ids(records: Iterable[Record | Point]) -> dict[str, str]:
    """Those in fields that are named after what they hold."""
    named = (_ids_in(_decode(text)) for text in map(_json_of, records) if NAMED in hits(text))
    return dict(islice(chain.from_iterable(named), _MOST))


def _ids_in(value: Any, kind: str | None = None) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _ids_in(item, about(name).kind)
    elif isinstance(value, list):
        for item in value:
            yield from _ids_in(item, kind)
    elif kind in _IDS and _is_id(value):
        yield str(value), kind


def _is_id(value: Any) -> bool:
    """Whether `value` may be an id, and one person's alone."""
    if isinstance(value, str):
        told = re.search(r"\w", value) and value.lower() not in _ANYBODY
        return bool(told) and not is_marker(_bytes(value))
    return isinstance(value, int | float) and not isinstance(value, bool)


class _RawIds:
    """The raw ids of a batch, to be found wherever they recur.

    In a text an id touches no letter, digit or `_` of ASCII: its words are words of the text. The
    rarest of them is what is looked for, in one pass over the text however many ids there are.
    """

    def __init__(self, kinds: dict[str, str]) -> None:
        """`kinds` says of each id whether it is a "subject" or a "session"."""
        self.kinds = kinds

    def may_recur_in(self, whole: bytes) -> bool:
        """Whether one of them may be in JSON text; False is certain."""
        if len(self.kinds) <= _FEW:
            return any(needle in whole for needle in self._needles)
        words = whole.translate(_BLANKED).split()
        if b"\\" in whole:
            words += _ESCAPES.sub(b" ", whole).translate(_BLANKED).split()
        # Which of those without a word is there, is seen text by text.
        return b"" in self._by_word or not self._by_word.keys().isdisjoint(words)

    def replaced(self, text: bytes, mark: "_Marker", effort: Effort) -> bytes:
        """`text` with what `mark` makes of each; raises Exhausted."""
        if (kind := self.kinds.get(_text(text))) is not None:
            return mark(kind, text)
        pieces, done = [], 0
        for start, length in sorted(self._found_in(text)):
            effort.spend()
            if start >= done:
                pieces += [text[done:start], self._marked(text[start : start - length], mark)]
                done = start - length
        text = b"".join([*pieces, text[done:]])
        for raw in self._by_word.get(b"", ())[:_ALIKE]:
            text = text.replace(raw, self._marked(raw, mark)) if raw in text else text
        return text

    def _marked(self, raw: bytes, mark: "_Marker") -> bytes:
        return mark(self.kinds[_text(raw)], raw)

    def _found_in(self, text: bytes) -> Iterator[tuple[int, int]]:
        """Where those that have a word stand, and their lengths, negative: longer ones first."""
        if b"\\" not in text and self._by_word.keys().isdisjoint(text.translate(_BLANKED).split()):
            return
        for word, place in _words(text):
            for raw in self._by_word.get(word, ())[:_ALIKE]:
                start = place - next(at for known, at in _words(raw) if known == word)
                if start >= 0 and text.startswith(raw, start) and _is_apart(text, start, len(raw)):
                    yield start, -len(raw)

    @cached_property
    def _needles(self) -> list[bytes]:
        """What is in JSON text where an id is. One that holds another is found with that one."""
        needles: list[bytes] = []
        for raw in sorted(self.kinds, key=len):
            quoted = _encode(raw)
            needle = quoted if len(raw) < _SHORT else quoted[1:-1]
            if not any(map(needle.__contains__, needles)):
                needles.append(needle)
        return needles

    @cached_property
    def _by_word(self) -> dict[bytes, list[bytes]]:
        """The ids by the rarest of their words, longer ones first; but short ones only the word."""
        ids = sorted(self.kinds, key=len, reverse=True)
        words = {raw: _bytes(raw).translate(_BLANKED).split() for raw in ids}
        counts = Counter(chain.from_iterable(words.values()))
        by_word: dict[bytes, list[bytes]] = defaultdict(list)
        for raw, found in words.items():
            rarest = min(found, key=counts.__getitem__, default=b"")
            by_word[rarest] += [_bytes(raw)] if len(raw) >= _SHORT else []
        return by_word


def _words(text: bytes) -> Iterator[tuple[bytes, int]]:
    """The words of a text and where they stand; also without what may be an escape's letter."""
    for match in _WORD.finditer(text):
        word, start = match[0], match.start()
        yield word, start
        if text[start - 1 : start] == b"\\" and word[:1] in b"bfnrt" and word[1:]:
            yield word[1:], start + 1


def _is_apart(text: bytes, start: int, length: int) -> bool:
    before, after = text[max(0, start - 2) : start], text[start + length : start + length + 1]
    return not after.isalnum() and after != b"_" and bool(_APART.search(before))


# --- Markers --------------------------------------------------------------------------------------


class _Dropped(Exception):
    """What holds this has to go."""


class _Marker:
    """Makes what stands in for what is found; without pseudonyms, one that tells but the kind."""

    def __init__(self, mode: Mode, pseudonyms: Pseudonyms | None) -> None:
        self._mode = mode
        self._pseudonyms = pseudonyms

    def __call__(self, kind: str, value: bytes) -> bytes:
        """`[email]`, `[email:1f3a…]` or _Dropped; in every mode, for an id its pseudonym."""
        if self._pseudonyms is None:
            return b"[%b]" % kind.encode()
        if kind in _IDS:
            hashed = self._pseudonyms.subject if kind == "subject" else self._pseudonyms.session
            return f"{kind}:{hashed(value.decode(errors='replace')).hex()}".encode()
        if self._mode is Mode.DROP:
            raise _Dropped
        if self._mode is Mode.REDACT:
            return b"[%b]" % kind.encode()
        digest = self._pseudonyms.digest(kind.encode() + b":" + _canonical(kind, value))
        return f"[{kind}:{digest[:8].hex()}]".encode()

    def undropped(self) -> "_Marker":
        """For what can't be dropped."""
        return self if self._mode is not Mode.DROP else _Marker(Mode.REDACT, self._pseudonyms)


def _canonical(kind: str, value: bytes) -> bytes:
    """The same for two spellings of one value."""
    if kind in ("card", "phone"):
        return re.sub(rb"\D", b"", value)
    return value.lower() if kind in ("email", "ip", "mac") else value


# --- Escapes --------------------------------------------------------------------------------------

# Rounds in which escapes within escapes are undone. What is escaped still is meant to be hidden.
_ROUNDS = 4
_PERCENTS = re.compile(r"%(?:25)+(?=[0-9A-Fa-f]{2})")
_CODES = re.compile(r"\\+(?:u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2}))")
# Full-width forms of ASCII, and characters without a width.
_LOOKALIKES = dict(zip(range(0xFF01, 0xFF5F), range(0x21, 0x7F), strict=True)) | dict.fromkeys(
    (0xAD, *range(0x200B, 0x2010), 0x2060, 0xFEFF)
)


def _unescaped(text: str) -> str:
    """`text` with percent and JSON escapes undone, and without characters that only look alike.

    Not undone: HTML entities, base64, and compatibility forms other than the full-width ones.
    """
    if "%" in text:
        text = unquote(_PERCENTS.sub("%", text), errors="replace")
    if "\\" in text:
        text = _CODES.sub(lambda code: chr(int(code[1] or code[2], 16)), text)
    if not text.isascii():
        text = text.translate(_LOOKALIKES)
        # Joins the halves of characters; half a character can't be stored.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\0", "\ufffd")  # nor can NUL


# --- One batch ------------------------------------------------------------------------------------

_UNKNOWN = Key()
_UNSEEN = "\0"
_ONE_BY_ONE = _IDS | {"escaped"}
_JSON_STARTS = frozenset('{["')
# Between texts that are looked at together: none holds NUL, and each has one at either end.
_SEPARATOR = "\0\0"


class _Scrubber:
    """Scrubs the records of one batch."""

    def __init__(self, mark: _Marker, ids: _RawIds) -> None:
        self._mark = mark
        self._ids = ids
        self._effort = Effort()
        # Texts that were looked at, and what became of them; None of those that go.
        self._known: dict[str, str | None] = {}
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
        pieces = _text(self._replaced(joined, rules, mark)).split(_SEPARATOR)
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
        scrubbed = self._field(text, field)
        setattr(record, field, scrubbed)
        return bool(scrubbed != text)

    def _field(self, text: str, field: str) -> str | None:
        try:
            return self.text(text, about(field))
        except _Dropped:
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
            except _Dropped:
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
            with suppress(_Dropped):
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
        if kind in _IDS:
            return self._pseudonym(value, kind)
        text = value if isinstance(value, str) else _encode(value).decode()
        return text if is_marker(_bytes(text)) else _text(self._mark(kind, _bytes(text)))

    def _pseudonym(self, value: Any, kind: str) -> Any:
        if isinstance(value, list):
            return [self._pseudonym(item, kind) for item in value]
        if isinstance(value, dict):
            return self._object(value)
        return _text(self._mark(kind, _bytes(str(value)))) if _is_id(value) else value

    def text(self, text: str, key: Key = _UNKNOWN) -> str:
        """`text` without what is found in it."""
        known = self._known.get(text, _UNSEEN)
        if known is None and not key.exempt:
            raise _Dropped
        if known is not None and (known == text or (known != _UNSEEN and not key.exempt)):
            return known
        raw = _bytes(text)
        found = hits(raw)
        if (found or self._ids.kinds) and (inner := self._inner(text, key)) is not None:
            return inner
        rules = [rule for rule in found if rule.kind not in key.exempt]
        scrubbed = _text(self._replaced(raw, rules, self._mark))
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

    def _replaced(self, text: bytes, rules: list[Rule], mark: _Marker) -> bytes:
        """`text` with what `mark` makes of each id, and of what the rules find.

        Once more where that was something: what touched it may only show with that gone.
        """
        try:
            for _ in range(_ROUNDS):
                before = text
                if self._ids.kinds:
                    text = self._ids.replaced(text, mark, self._effort)
                for rule in rules:
                    text = replaced(text, rule, mark, self._effort)
                if text == before:
                    break
        except Exhausted:
            return mark("redacted", text)
        return text

    def _bare(self, text: str, key: Key) -> str:
        """A text with escapes; or what is left of it without them, where they hid something."""
        bare = text
        for _ in range(_ROUNDS):
            bare = _unescaped(bare)
            if ESCAPED not in hits(_bytes(bare)):
                scrubbed = self.text(bare, key)
                return text if scrubbed == bare else scrubbed
        return _text(self._mark("escaped", _bytes(text)))


def _may_be_json(text: str) -> bool:
    return text.lstrip()[:1] in _JSON_STARTS
