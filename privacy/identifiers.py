"""The raw ids of a batch, found wherever they recur. Pure."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import chain, islice
from typing import Any

import msgspec

from ingest.records import Point, Record
from privacy.checks import is_marker
from privacy.patterns import NAMED, Effort, about, hits

Mark = Callable[[str, bytes], bytes]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

# So many ids that fields name are sought elsewhere too.
_MOST = 5_000
IDS = frozenset({"subject", "session"})
# So many ids are looked for one by one.
_FEW = 12
# Shorter ones may be there by chance: they are recognised as a whole text only.
_SHORT = 4
# Of ids that share all their words, so many are found within longer texts.
_ALIKE = 20
# An id of many is nobody's.
_ANYBODY = frozenset({"anonymous", "unknown", "undefined", "none", "null", "guest", "default"})

_WORD = re.compile(rb"[0-9A-Za-z_]+")
_BLANKED = bytes(byte if _WORD.match(bytes([byte])) else 32 for byte in range(256))
_ESCAPES = re.compile(rb"\\+(?:u00[01][0-9a-f]|[bfnrt])?")
_APART = re.compile(rb"(?:\A|[^0-9A-Za-z_]|\\[bfnrt])\Z")


def ids_of(records: Iterable[Record | Point]) -> dict[str, str]:
    """The raw ids of `records`, and of each its kind."""
    sessions = {record.session_id for record in records if isinstance(record, Record)}
    users = {record.user_id for record in records}
    kinds = dict.fromkeys(sessions, "session") | dict.fromkeys(users, "subject")
    return {raw: kind for raw, kind in kinds.items() if raw}


def named_ids(texts: Iterable[bytes]) -> dict[str, str]:
    """Those in fields, of JSON texts, that are named after what they hold."""
    named = (_ids_in(_decode(text)) for text in texts if NAMED in hits(text))
    return dict(islice(chain.from_iterable(named), _MOST))


def _ids_in(value: Any, kind: str | None = None) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _ids_in(item, about(name).kind)
    elif isinstance(value, list):
        for item in value:
            yield from _ids_in(item, kind)
    elif kind in IDS and is_id(value):
        yield str(value), kind


def is_id(value: Any) -> bool:
    """Whether `value` may be an id, and one person's alone."""
    if isinstance(value, str):
        told = re.search(r"\w", value) and value.lower() not in _ANYBODY
        return bool(told) and not is_marker(_bytes(value))
    return isinstance(value, int | float) and not isinstance(value, bool)


class RawIds:
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

    def replaced(self, text: bytes, mark: Mark, effort: Effort) -> bytes:
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

    def _marked(self, raw: bytes, mark: Mark) -> bytes:
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


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def _text(raw: bytes) -> str:
    return raw.decode(errors="surrogatepass")
