"""Where a privacy rule goes in JSON: a path's places, changed or kept. Pure."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from privacy.changes import DROPPED

ANY = "*"


@dataclass(frozen=True, slots=True)
class Place:
    """What is left of a path, from an object or a list on.

    A name goes through lists: it is looked for in each element. `*` is any key, or any element. A
    key with dots in it is what as many names are: of `http.url` both `{"http": {"url": …}}` and
    `{"http.url": …}` are found. After what is found the path goes on, or ends (None).
    """

    wild: bool
    after_wild: "Place | None"
    exact: tuple[tuple[str, "Place | None"], ...]
    patterns: tuple[tuple[re.Pattern[str], "Place | None"], ...]

    @classmethod
    def of(cls, path: Sequence[str]) -> "Place":
        """The whole of a path, which has a name at least."""
        behind: list[Place | None] = [None]
        for start in reversed(range(len(path))):
            behind.insert(0, cls._starting(path[start:], behind))
        place = behind[0]
        assert place is not None
        return place

    @classmethod
    def _starting(cls, path: Sequence[str], behind: list["Place | None"]) -> "Place":
        """`behind` has what goes on after one of its names, after two, and so on."""
        exact, patterns = [], []
        for length, then in enumerate(behind, 1):
            names = path[:length]
            if ANY not in names:
                exact.append((".".join(names), then))
            elif length > 1:
                parts = ("[^.]+" if name == ANY else re.escape(name) for name in names)
                patterns.append((re.compile(r"\.".join(parts)), then))
        return cls(path[0] == ANY, behind[0], tuple(exact), tuple(patterns))

    def found(self, value: dict[str, Any]) -> Iterator[tuple[str, "Place | None"]]:
        """Keys of `value` at which the path goes on or ends."""
        for key, then in self.exact:
            if key in value:
                yield key, then
        if self.wild:
            for key in value:
                yield key, self.after_wild
        for pattern, then in self.patterns:
            for key in value:
                if pattern.fullmatch(key):
                    yield key, then


def change_at(value: Any, place: Place, change: Callable[[Any], Any]) -> None:
    """Change what stands at `place` in `value`, in place."""
    if isinstance(value, dict):
        for key, then in list(place.found(value)):
            if then is not None:
                change_at(value.get(key), then, change)
            elif (new := change(value[key])) is DROPPED:
                del value[key]
            else:
                value[key] = new
    elif isinstance(value, list):
        further = place.after_wild if place.wild else place
        if further is None:
            value[:] = [new for item in value if (new := change(item)) is not DROPPED]
            return
        for item in value:
            change_at(item, further, change)


def kept(value: Any, places: list[Place]) -> Any:
    """What of `value` is listed; DROPPED where nothing is."""
    left: Any = DROPPED
    if isinstance(value, dict):
        further: dict[str, list[Place | None]] = {}
        for place in places:
            for key, then in place.found(value):
                further.setdefault(key, []).append(then)
        found = ((key, _kept_below(item, further.get(key, []))) for key, item in value.items())
        left = {key: item for key, item in found if item is not DROPPED} or DROPPED
    elif isinstance(value, list):
        below = [place.after_wild if place.wild else place for place in places]
        items = (_kept_below(item, below) for item in value)
        left = [item for item in items if item is not DROPPED] or DROPPED
    return left


def _kept_below(value: Any, places: list[Place | None]) -> Any:
    if None in places:
        return value
    return kept(value, [place for place in places if place is not None])
