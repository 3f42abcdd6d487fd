"""Which properties a project's events, and which tags its measurements, may be counted by. Pure.

A property that tells persons, devices or sessions apart has as many values as there are of those:
counted by it, each is a group of its own, under a name that leads to somebody.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from privacy.names import SPELT

COLUMNS = ("client_version", "level", "scope", "category")
MOST_PARTS = 5

# A word of a property's name that says that its values tell somebody or something apart.
_WORDS = """
    id ids uuid guid user users person people owner author member customer visitor account login
    username nickname userid deviceid sessionid clientid customerid accountid machineid installid
    visitorid email emails mail session sessions ip ips address addresses host hostname phone mobile
    token tokens key keys secret password cookie signature hash digest checksum fingerprint serial
    imei imsi meid udid idfa gaid url uri href referrer referer query path filename latitude
    longitude lat lon lng birthday
"""
_TELLING = frozenset(_WORDS.split())
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+")
_NAMES = re.compile("|".join([r"\A(?i:mac)\Z", *(rf"(?:{name})\Z" for name in SPELT.values())]))


class InvalidPath(Exception):
    """A path that nothing may be counted by; the sentence says why, and what to do."""


def check(path: str) -> None:
    """Raise InvalidPath where a dimension can't have this path."""
    column, *parts = path.split(".")
    if column in COLUMNS and not parts:
        return
    if column != "properties" or not parts:
        raise InvalidPath(
            f"A path is one of {', '.join(COLUMNS)}, or a property's, such as properties.plugin."
        )
    if len(parts) > MOST_PARTS:
        raise InvalidPath(f"A path leads through {MOST_PARTS} names below properties at most.")
    if not all(part.strip() == part and part for part in parts):
        raise InvalidPath(
            "Each name between the dots of a path must have a character, and no blank around it."
        )
    for part in parts:
        if word := telling(part):
            raise InvalidPath(
                f"“{part}” can't be counted by: by its name ({word}) it tells persons, devices or "
                "sessions apart, and each would be a group of its own. Choose a property that many "
                "share, or have clients send a coarser one under a name that says so."
            )


def overlapping(dimensions: Iterable[tuple[str, str]]) -> str | None:
    """A path by which both all events and those of one name would be counted; None where there is
    none. `dimensions` are paths, each with its event, empty for all.

    The difference of the two is the others' count, which nobody protects.
    """
    given = set(dimensions)
    everywhere = {path for path, event in given if not event}
    return next((path for path, event in sorted(given) if event and path in everywhere), None)


# Clients choose names of tags: what is remembered of them is bounded.
@lru_cache(maxsize=4096)
def telling(name: str) -> str:
    """The word of a property's or tag's name that says that it tells persons, devices or sessions
    apart; empty where none does."""
    for word in _WORD.findall(name):
        if word.lower() in _TELLING:
            return str(word)
    return name if _NAMES.search(name) else ""
