"""What a `Prefer` header says (RFC 7240), and what is said of it in the answer."""

import time

import pytest

from privacy.preferences import MOST_SECONDS, WAIT_SECONDS, Preferences, parse

# Header -> seconds waited, what an answer at once says, what one says that comes later.
TABLE = [
    ("", WAIT_SECONDS, "", ""),
    ("respond-async", 0, "", "respond-async"),
    ("Respond-Async", 0, "", "respond-async"),
    ("wait=5", 5, "wait=5", "wait=5"),
    ("wait = 5", 5, "wait=5", "wait=5"),
    ('wait="5"', 5, "wait=5", "wait=5"),
    (r'wait="\5"', 5, "wait=5", "wait=5"),
    ("WAIT=5", 5, "wait=5", "wait=5"),
    ("wait=0", 0, "wait=0", "wait=0"),
    ("wait=86400", MOST_SECONDS, f"wait={MOST_SECONDS}", f"wait={MOST_SECONDS}"),
    ("respond-async, wait=5", 5, "wait=5", "respond-async, wait=5"),
    ("wait=5,respond-async", 5, "wait=5", "respond-async, wait=5"),
    (", ,wait=5,,", 5, "wait=5", "wait=5"),
    ("wait=5; foo=bar", 5, "wait=5", "wait=5"),
    ('respond-async; foo="a,b;c", wait=3', 3, "wait=3", "respond-async, wait=3"),
    ("return=minimal, handling=lenient", WAIT_SECONDS, "", ""),
    ('foo="respond-async, wait=9"', WAIT_SECONDS, "", ""),
    # Said twice: the first holds.
    ("wait=5, wait=7", 5, "wait=5", "wait=5"),
    # What is no number of seconds is no preference.
    ("wait", WAIT_SECONDS, "", ""),
    ("wait=", WAIT_SECONDS, "", ""),
    ("wait=soon", WAIT_SECONDS, "", ""),
    ("wait=-1", WAIT_SECONDS, "", ""),
    ("wait=1.5", WAIT_SECONDS, "", ""),
    ("wait=\u0665", WAIT_SECONDS, "", ""),
    ("wait=9999999999", WAIT_SECONDS, "", ""),
    ('wait="5', 5, "wait=5", "wait=5"),
    ("respond-async, wait=x", 0, "", "respond-async"),
]  # fmt: skip


@pytest.mark.parametrize(("header", "seconds", "at_once", "later"), TABLE)
def test_what_is_preferred(header: str, seconds: int, at_once: str, later: str) -> None:
    found = parse(header)
    assert found.seconds == seconds
    assert (found.applied(later=False), found.applied(later=True)) == (at_once, later)


def test_who_says_nothing_prefers_nothing() -> None:
    assert parse("") == Preferences()


@pytest.mark.parametrize("piece", [",", '"', ";", "=", '\\"', "wait;", " "])
def test_a_long_header_costs_little(piece: str) -> None:
    begun = time.process_time()
    parse("wait=1," + piece * 50_000)
    assert time.process_time() - begun < 0.5
