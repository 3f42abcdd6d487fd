"""Scrubbing holds for what nobody thought of: planted values, arbitrary JSON, hostile text."""

import json
import random
import time
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.records import Record
from privacy.patterns import RULES, hits
from privacy.scrubbing import Mode, is_clean, scrub, scrub_text
from privacy.subjects import Pseudonyms

PSEUDONYMS = Pseudonyms(b"p" * 32, 1)
MODES = pytest.mark.parametrize("mode", Mode)
encode, decode = msgspec.json.encode, msgspec.json.decode
often = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


def record(properties: Any, **fields: Any) -> Record:
    known = {
        "position": 0,
        "occurred_at": datetime(2026, 11, 20, tzinfo=UTC),
        "name": "opened",
        "user_id": None,
        "session_id": None,
        "category": "application",
        "level": None,
        "scope": None,
        "client_version": None,
        "message": None,
        "properties": properties if isinstance(properties, bytes) else encode(properties),
    }
    return Record(**(known | fields))


def everything(one: Record) -> str:
    """All that is written of a record, without escapes."""
    texts = [one.name, one.level, one.scope, one.client_version, one.message]
    return json.dumps([*texts, decode(one.properties)], ensure_ascii=False).replace("\\", "")


# --- What is planted ------------------------------------------------------------------------------

LOWER, DIGITS, HEX = "abcdefghijklmnopqrstuvwxyz", "0123456789", "0123456789abcdef"


def words(alphabet: str, least: int, most: int) -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=least, max_size=most)


def with_check_digit(digits: str) -> str:
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[::-2])
    return digits + str(-(sum(doubled) + sum(map(int, digits[-2::-2]))) % 10)


def is_somebodys(address: Any) -> bool:
    octets = address.packed
    return octets[0] not in (0, 127) and octets[0] < 224 and any(octets[1:])


secret = words(HEX, 12, 20).map(lambda text: f"7{text}")
# Of each kind: the text that is planted, and what of it mustn't be found again.
PLANTED: dict[str, st.SearchStrategy[tuple[str, str]]] = {
    "e-mail": words(LOWER, 4, 12).map(lambda name: (f"{name}.x@example.com", f"{name}.x@")),
    "IPv4": st.ip_addresses(v=4).filter(is_somebodys).map(lambda ip: (str(ip), str(ip))),
    "IPv6": st.ip_addresses(v=6, network="2000::/3").map(lambda ip: (str(ip), str(ip))),
    "card": words(DIGITS, 14, 14).map(lambda text: (with_check_digit(f"4{text}"),) * 2),
    "JWT": secret.map(lambda text: (f"eyJhbGciOiJIUzI1NiJ9.eyJ{text}.{text}", text)),
    "API key": secret.map(lambda text: (f"sk_live_{text}", text)),
    "private key": secret.map(
        lambda text: (f"-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----", text)
    ),
    "phone": words(DIGITS, 7, 7).map(lambda text: (f"+49 30 {text}", text)),
    "home": words(LOWER, 6, 12).map(lambda name: (f"/home/x{name}x/", f"x{name}x")),
    "credentials": secret.map(lambda text: (f"https://bob:{text}@example.com/", text)),
    "password": secret.map(lambda text: (f"password={text}", text)),
    "user id": secret.map(lambda text: (f"user-{text}", text)),
}
BEFORE = ["", " ", "by ", "\n", "(", '"', "é ", "x=", "\\n", "\x1f", "a, b: ", "%20", "<"]
BEHIND = ["", " ", ". Then", ",", '"', ")", "\n", " é", "\x01", "&x=1", ">"]


def percent(text: str, times: int) -> str:
    escaped = "".join(f"%{byte:02x}" for byte in text.encode())
    for _ in range(times):
        escaped = escaped.replace("%", "%25")
    return escaped


def some_percent(text: str) -> str:
    return "".join(percent(letter, 0) if letter in "@:/ +=." else letter for letter in text)


def codes(text: str) -> str:
    return "".join(f"\\u{ord(letter):04x}" for letter in text)


ENCODINGS = {
    "as it is": str,
    "percent": lambda text: percent(text, 0),
    "some percent": some_percent,
    "percent twice": lambda text: percent(text, 1),
    "percent five times": lambda text: percent(text, 4),
    "codes": codes,
    "codes of percents": lambda text: codes(percent(text, 0)),
    "percents of codes": lambda text: percent(codes(text), 0),
    "full width": lambda text: text.translate({n: n + 0xFEE0 for n in range(0x21, 0x7F)}),
    "no width": "\u200b".join,
    "JSON": lambda text: json.dumps({"a": [text]}),
    "JSON in JSON": lambda text: json.dumps([json.dumps({"a": text}, indent=1)], indent=1),
}
PLACES = {
    "message": lambda text: record({}, message=text),
    "name": lambda text: record({}, name=text),
    "level": lambda text: record({"x": "a@b.io"}, level=text, message="c@d.io"),
    "value": lambda text: record({"a": 1, "b": text}),
    "list": lambda text: record({"a": [1, [text]]}),
    "deep": lambda text: record({"a": {"b": {"c": [{"d": {"e": [text]}}]}}}),
    "key": lambda text: record({text: 1}),
    "deep key": lambda text: record({"a": [{"b": {text: [1]}}]}),
    "escaped": lambda text: record(encode(decode(json.dumps({"a": text}).encode()))),
    "all escaped": lambda text: record(encode(decode(f'{{"a":"{all_codes(text)}"}}'.encode()))),
}


def all_codes(text: str) -> str:
    units = text.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


@pytest.mark.parametrize("kind", PLANTED)
@given(data=st.data())
@often
def test_what_is_planted_is_found_anywhere(kind: str, data: st.DataObject):
    text, secret = data.draw(PLANTED[kind])
    encoding = data.draw(st.sampled_from(list(ENCODINGS)))
    if kind == "private key" and encoding == "no width":
        text = text.replace("\n", " ")
    planted = ENCODINGS[encoding](text)
    if "JSON" not in encoding:
        planted = data.draw(st.sampled_from(BEFORE)) + planted + data.draw(st.sampled_from(BEHIND))
    one = PLACES[data.draw(st.sampled_from(list(PLACES)))](planted)
    one.user_id = text if kind == "user id" else None
    scrub([one], data.draw(st.sampled_from(list(Mode))), PSEUDONYMS)
    one.user_id = None
    left = everything(one)
    assert secret not in left
    assert planted not in left


# --- The first scan -------------------------------------------------------------------------------

PIECES = [
    "alice@example.com", "@", "%40", "%2540", "\\u0040", "\\n", "\n", "\t", "\x01", "\x1a", '"',
    "\\", "10.0.0.1", ".", "v", "version ", "fe80::1", "2001:db8::", "::ffff:", ":", "::",
    "4111111111111111", "4111 1111 1111 1111", "-", " ", "+49 30 1234567", "415-555-2671", "(415) ",
    "/home/alice", "/Users/bob/", "C:\\Users\\John Doe\\", "c:/users/", "https://u:p@h/", "://",
    "password=", "passwd", "token: ", "token=abc12345", '"secret":"x"', "userId", "user_id=u-77",
    "session_id:", "Bearer abcdefgh1", "Basic YWxpY2U6cGFzcw==", "Cookie: a=b", "eyJabcdefgh.",
    "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "sk_live_1234567890ab", "?key=",
    "AKIAABCDEFGHIJKLMNOP", "aa:bb:cc:dd:ee:ff", "[email]", "]", "[", "{", "}", "a", "Z", "0", "9",
    "_", "é", "＠", "\u200b", "用户", "%61", "%", "&", "=", ",", "'", "<", "tel:12345", "home", "*",
]  # fmt: skip
glued = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)


@given(text=glued)
@settings(often, max_examples=600)
def test_the_first_scan_sees_whatever_a_rule_finds_in_the_text_and_in_its_json(text: str):
    seen, seen_in_json = hits(text.encode()), hits(encode([text]))
    for rule in RULES:
        if any(form.search(text.encode()) for form in rule.forms):
            assert rule in seen
            assert rule in seen_in_json


@given(text=glued)
@settings(often, max_examples=400)
def test_whatever_is_changed_in_a_text_is_seen_in_a_batch(text: str):
    if scrub_text(text) == text:
        return
    assert not is_clean(text)
    for one in (record({}, message=text), record({"a": [text]}), record({text: 1})):
        assert scrub([one], Mode.REDACT, PSEUDONYMS) == 1


@MODES
@given(texts=st.lists(glued, min_size=1, max_size=4))
@often
def test_texts_fare_the_same_alone_and_among_others(mode: Mode, texts: list[str]):
    together = [record({"a": text}) for text in texts]
    scrub(together, mode, PSEUDONYMS)
    for one, text in zip(together, texts, strict=True):
        alone = record({"a": text})
        scrub([alone], mode, PSEUDONYMS)
        assert one == alone


# --- Batches --------------------------------------------------------------------------------------

found = st.one_of(*PLANTED.values()).map(lambda planted: planted[0])
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | glued | found
keys = glued | found | st.sampled_from(["password", "userId", "session_ids", "node", "email", "x"])
values = st.recursive(
    scalars, lambda deeper: st.lists(deeper, max_size=4) | st.dictionaries(keys, deeper, max_size=4)
)
objects = st.dictionaries(keys, values, max_size=5)
ids = st.none() | st.sampled_from(["u-77", "123456", "é7", 'a"b', "用户", "[email]", "--", "1"])


@MODES
@given(batch=st.lists(st.tuples(objects, ids, ids, glued), min_size=1, max_size=15))
@settings(often, max_examples=25)
def test_nothing_makes_it_fail_and_the_count_is_of_those_changed(mode: Mode, batch: list):
    records = [record(it, user_id=u, session_id=s, message=text) for it, u, s, text in batch]
    before = [msgspec.structs.replace(one) for one in records]
    changed = scrub(records, mode, PSEUDONYMS)
    assert changed == sum(one != old for one, old in zip(records, before, strict=True))
    for one, old in zip(records, before, strict=True):
        assert (one.user_id, one.session_id) == (old.user_id, old.session_id)
        if decode(one.properties) == decode(old.properties):
            assert one.properties is old.properties


@MODES
@given(
    texts=st.lists(found | st.sampled_from(BEFORE), max_size=8), named=st.lists(found, max_size=3)
)
@often
def test_what_was_scrubbed_stays_as_it_is(mode: Mode, texts: list[str], named: list[str]):
    known = dict(zip(["password", "user_id", "sessionId"], named, strict=False))
    properties = {" ".join(texts): " ".join(texts), "a": texts, "b": known, "c": json.dumps(texts)}
    one = record(properties, user_id="user-1234", message="; ".join(texts))
    scrub([one], mode, PSEUDONYMS)
    again = msgspec.structs.replace(one)
    assert scrub([again], mode, PSEUDONYMS) == 0
    assert again == one


# --- Hostile text ---------------------------------------------------------------------------------

NEAR_MISSES = [
    "a@", "a@a.", "a@b.js ", "1.", "0.0.0.0 ", "4", "4111 ", "4111 1111 1111 1112 ", "%25", "%41",
    "\\u0041", "\\u005cu005c", "fe80:", "aa:", "://a", "-----BEGIN PRIVATE KEY", "password=",
    "token:", "/home/", "C:\\Users\\a b ", "+49 ", "+", "(415) ", "eyJaaaaaa.", "Bearer ",
    "sk-aaaa", "{", '["', '"', "\\", "＠", "user_id=1 ", "é@é.éé ", "[email]",
]  # fmt: skip


def seconds(text: str) -> float:
    spent = []
    for _ in range(3):
        one = record({}, message=text)
        begun = time.thread_time()
        scrub([one], Mode.HASH, PSEUDONYMS)
        spent.append(time.thread_time() - begun)
    return min(spent)


@pytest.mark.parametrize("text", NEAR_MISSES)
def test_the_work_grows_with_the_text_and_no_faster(text: str):
    """Eight times the text would be 64 times the work, were it quadratic."""
    short, long = 500, 4_000
    assert seconds(text * long) < 24 * max(seconds(text * short), 0.000_1)


def test_a_batch_full_of_findings_is_not_looked_at_without_end():
    text = " ".join(f"a{number}@b.cc" for number in range(100_000))
    one = record({"a": text, "b": "c@d.cc", "c": "plain"})
    scrub([one], Mode.REDACT, PSEUDONYMS)
    assert decode(one.properties) == {"a": "[redacted]", "b": "[redacted]", "c": "plain"}


def test_no_text_wears_the_first_scan_out():
    """Text made to need ever new states of the automaton: it still sees what comes after."""
    dice = random.Random(1)
    for alphabet in ("0123456789abcdef:-. +()", "".join(PIECES), "".join(map(chr, range(32, 127)))):
        noise = "".join(dice.choices(alphabet, k=300_000))
        assert "someone@example.org" not in scrub_text(f"{noise} someone@example.org")
