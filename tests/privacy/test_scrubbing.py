"""Scrubbing a batch: where things are found, what becomes of them, and what is left alone."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from ingest.records import Point, Record
from privacy.scrubbing import Mode, is_clean, scrub, scrub_text
from privacy.subjects import Pseudonyms

PSEUDONYMS = Pseudonyms(b"p" * 32, 1)
MODES = pytest.mark.parametrize("mode", Mode)
encode, decode = msgspec.json.encode, msgspec.json.decode


def record(value: dict[str, Any] | None = None, **fields: Any) -> Record:
    """A record in which there is nothing but what the test puts there."""
    known = {
        "position": 0,
        "occurred_at": datetime(2026, 11, 20, 10, 30, tzinfo=UTC),
        "name": "opened",
        "user_id": "a7f3c8e9d2b1",
        "session_id": "s-a7f3c8e9d2b1",
        "category": "application",
        "level": "info",
        "scope": None,
        "client_version": "2.14.3",
        "message": None,
        "properties": encode(value or {}),
    }
    return Record(**(known | fields))


def point(tags: dict[str, Any] | None = None, **fields: Any) -> Point:
    known = {
        "position": 0,
        "part": 0,
        "occurred_at": None,
        "name": "queue.depth",
        "kind": "gauge",
        "user_id": None,
        "node": None,
        "tags": encode(tags or {}),
    }
    return Point(**(known | fields))


def scrubbed(value: Any, mode: Mode = Mode.REDACT, **fields: Any) -> Any:
    """What becomes of `value`, the one property of a record."""
    return properties({"it": value}, mode, **fields).get("it", "(gone)")


def properties(value: dict[str, Any], mode: Mode = Mode.REDACT, **fields: Any) -> dict[str, Any]:
    one = record(value, **fields)
    scrub([one], mode, PSEUDONYMS)
    found: dict[str, Any] = decode(one.properties)
    return found


def subject(raw: str) -> str:
    return f"subject:{PSEUDONYMS.mention('subject', raw).hex()}"


def session(raw: str) -> str:
    return f"session:{PSEUDONYMS.mention('session', raw).hex()}"


# --- Modes ----------------------------------------------------------------------------------------


def test_redacting_leaves_a_marker():
    assert scrubbed("to alice@example.com") == "to [email]"


def test_hashing_leaves_a_marker_that_is_the_same_for_the_same_value():
    one, same, other = (scrubbed(f"{name}@example.com", Mode.HASH) for name in ("a", "A", "b"))
    assert one == same != other
    assert one.startswith("[email:")
    assert len(one) == len("[email:]") + 16


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ("4111111111111111", "4111 1111 1111 1111"),
        ("+1 415 555 2671", "+1-415-555-2671"),
        ("FE80::1", "fe80::1"),
    ],
)
def test_two_spellings_of_a_value_have_one_hash(one: str, same: str):
    assert scrubbed(one, Mode.HASH) == scrubbed(same, Mode.HASH)


def test_two_kinds_or_projects_share_no_hash():
    mine, theirs = record({"it": "alice@example.com"}), record({"it": "alice@example.com"})
    scrub([mine], Mode.HASH, PSEUDONYMS)
    scrub([theirs], Mode.HASH, Pseudonyms(b"p" * 32, 2))
    assert mine.properties != theirs.properties
    assert scrubbed("10.0.0.1", Mode.HASH)[4:] != scrubbed("fe80::1", Mode.HASH)[4:]


def test_dropping_takes_what_holds_it():
    value = {"a": "alice@example.com", "b": 1, "c": ["x", "10.0.0.1", {"d": "/home/alice", "e": 2}]}
    assert properties(value, Mode.DROP) == {"b": 1, "c": ["x", {"e": 2}]}


def test_dropping_takes_texts_but_a_name_which_is_redacted():
    one = record(
        name="a@b.io", level="a@b.io", scope="a@b.io", client_version="a@b.io", message="a@b.io"
    )
    assert scrub([one], Mode.DROP, PSEUDONYMS) == 1
    assert one == record(name="[email]", level=None, client_version=None)
    node = point(name="a@b.io", node="a@b.io")
    assert scrub([node], Mode.DROP, PSEUDONYMS) == 1
    assert node == point(name="[email]")


# --- Places ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["name", "level", "scope", "client_version", "message"])
def test_every_text_of_a_record_is_looked_at(field: str):
    one = record(**{field: "by alice@example.com"})
    assert scrub([one], Mode.REDACT, PSEUDONYMS) == 1
    assert one == record(**{field: "by [email]"})


@pytest.mark.parametrize("field", ["name", "node"])
def test_every_text_of_a_point_is_looked_at(field: str):
    one = point(**{field: "by alice@example.com"})
    assert scrub([one], Mode.REDACT, PSEUDONYMS) == 1
    assert one == point(**{field: "by [email]"})


def test_tags_are_looked_at():
    one = point({"peer": "10.0.0.1"})
    assert scrub([one], Mode.REDACT, PSEUDONYMS) == 1
    assert decode(one.tags) == {"peer": "[ip]"}


def test_ids_of_records_are_left_to_be_pseudonymised():
    one = record({"it": "alice@example.com"}, user_id="bob@example.com", session_id="10.0.0.1")
    scrub([one], Mode.REDACT, PSEUDONYMS)
    assert (one.user_id, one.session_id) == ("bob@example.com", "10.0.0.1")


def test_keys_are_looked_at():
    assert properties({"alice@example.com": 1}) == {"[email]": 1}
    assert properties({"a": [{"alice@example.com": 1}]}) == {"a": [{"[email]": 1}]}
    assert properties({"alice@example.com": 1, "b": 2}, Mode.DROP) == {"b": 2}


def test_keys_that_become_one_are_told_apart():
    value = {"a@b.io": 1, "c@d.io": 2, "e@f.io": 3, "10.0.0.1": 4}
    assert properties(value) == {"[email]": 1, "[email] 2": 2, "[email] 3": 3, "[ip]": 4}


def test_cards_are_found_as_numbers_too():
    assert scrubbed(4111111111111111) == "[card]"
    assert scrubbed([4111111111111111, 4111111111111112]) == ["[card]", 4111111111111112]
    assert scrubbed(4111111111111111.0) == 4111111111111111.0


def test_json_within_a_text_is_scrubbed_as_json():
    inner = '{"first_name": "Bob", "n": 4111111111111111, "user_id": 7, "ok": "\\u00e9"}'
    assert decode(scrubbed(inner)) == {
        "first_name": "[name]",
        "n": "[card]",
        "user_id": subject("7"),
        "ok": "é",
    }
    assert decode(decode(scrubbed(encode(inner).decode()))) == decode(scrubbed(inner))


def test_json_that_says_a_thing_twice_is_scrubbed_as_text():
    assert scrubbed('{"a":"alice@example.com","a":"x"}') == '{"a":"[email]","a":"x"}'


def test_json_nested_deeper_than_the_stack_is_scrubbed_as_text():
    for depth in (400, 5000):
        deep = "[" * depth + '"alice@example.com"' + "]" * depth
        assert "alice" not in scrubbed(deep)


def test_records_and_points_may_come_together():
    batch = [record({"it": "a@b.io"}), point({"it": "a@b.io"}), point()]
    assert scrub(batch, Mode.REDACT, PSEUDONYMS) == 2


def test_records_in_which_nothing_is_found_keep_their_bytes():
    odd = b'{ "b" : 1.50, "url":"a%20b", "user_id":null, "n":1e3 }'
    untouched, other = record(properties=odd), record({"it": "a@b.io"})
    assert scrub([untouched, other], Mode.REDACT, PSEUDONYMS) == 1
    assert untouched.properties is odd


def test_an_empty_batch_is_clean():
    assert scrub([], Mode.REDACT, PSEUDONYMS) == 0


# --- Names of keys --------------------------------------------------------------------------------

NAMED = {
    "secret": [
        "password", "PASSWORD", "user_password", "dbPassword", "passwd", "pwd", "secret",
        "client_secret", "apiKey", "api_key", "API-Key", "X-Api-Key", "apikey", "access_token",
        "accesstoken", "refreshToken", "auth token", "idToken", "token", "Authorization", "cookie",
        "Set-Cookie", "private.key", "secret_access_key", "credentials", "password2", "OTP",
    ],
    "card": ["credit_card", "creditCard", "card_number", "cardNumber", "cvv", "CVC"],
    "account": ["iban", "account_number"],
    "identity": ["ssn", "social_security_number", "passport", "tax-id"],
    "email": ["email", "e-mail", "user_email", "contactEmail", "emailAddress", "email1"],
    "phone": ["phone", "homePhone", "phone_number", "telephone"],
    "ip": ["ip", "client_ip", "clientIp", "remoteAddr", "ip_address", "X-Forwarded-For", "userIP"],
    "mac": ["mac_address"],
    "name": ["first_name", "lastName", "fullname", "FULL NAME", "username", "surname"],
    "address": ["street", "street_address", "billingAddress"],
    "birth": ["date_of_birth", "birthdate", "dob"],
}  # fmt: skip
HARMLESS = [
    "tokens_used", "max_tokens", "password_length", "key", "keyboard", "ip_version", "tooltip",
    "zip", "clip", "microphone", "headphone", "iPhone", "card_count", "phone_type", "email_count",
    "secretary", "name", "host_name", "file_name", "plugin", "address", "user", "uid", "mac",
    "street_view", "pan", "pin", "emailed", "authorizations", "cookie_count", "dobro", "shipping",
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "key"), [(kind, key) for kind, keys in NAMED.items() for key in keys]
)
@pytest.mark.parametrize("value", ["x", 7, 1.5, ["x"], {"a": 1}])
def test_what_is_named_goes_whole(kind: str, key: str, value: Any):
    assert properties({key: value}) == {key: f"[{kind}]"}
    assert properties({key: value, "b": 1}, Mode.DROP) == {"b": 1}
    assert properties({"a": [{key: value}]}) == {"a": [{key: f"[{kind}]"}]}


@pytest.mark.parametrize("key", HARMLESS)
def test_harmless_names_are_let_be(key: str):
    assert properties({key: "x", "password": "y"}) == {key: "x", "password": "[secret]"}


@pytest.mark.parametrize("value", [True, False, None, "", [], {}])
def test_what_tells_nothing_stays_under_any_name(value: Any):
    assert properties({"password": value, "email": value, "user_id": value}) == {
        "password": value,
        "email": value,
        "user_id": value,
    }


@pytest.mark.parametrize(
    "key", ["version", "app_version", "osVersion", "build", "release", "node_id", "nodeId", "node"]
)
def test_addresses_are_let_be_in_versions_and_ids_of_machines(key: str):
    value = {key: "10.1.2.3", "list": [{key: ["10.1.2.3"]}]}
    assert properties(value | {"peer": "10.1.2.3"}) == value | {"peer": "[ip]"}
    assert properties({key: "alice@example.com"}) == {key: "[email]"}


def test_the_node_of_a_point_may_be_an_address_but_no_person():
    nodes = [point(node="10.1.2.3"), point(node="00:1a:2b:3c:4d:5e"), point(node="a@b.io")]
    assert scrub(nodes, Mode.REDACT, PSEUDONYMS) == 1
    assert [node.node for node in nodes] == ["10.1.2.3", "00:1a:2b:3c:4d:5e", "[email]"]


# --- Ids ------------------------------------------------------------------------------------------


@MODES
@pytest.mark.parametrize("key", ["user_id", "userId", "target_user_id", "endUserID", "user.id"])
def test_user_ids_are_pseudonymised_in_every_mode(key: str, mode: Mode):
    assert properties({key: "u-1"}, mode) == {key: subject("u-1")}
    assert properties({key: 17}, mode) == {key: subject("17")}
    assert properties({"a": [{key: "u-1"}]}, mode) == {"a": [{key: subject("u-1")}]}
    assert properties({f"{key}s": ["u-1", 2]}, mode) == {f"{key}s": [subject("u-1"), subject("2")]}


@MODES
@pytest.mark.parametrize("key", ["session_id", "sessionId", "parent_session_id", "PHPSESSID"])
def test_session_ids_are_pseudonymised_in_every_mode(key: str, mode: Mode):
    assert properties({key: "s-1"}, mode) == {key: session("s-1")}


def test_mentions_lead_to_nobody_and_from_no_batch_to_another():
    def mentioned(pseudonyms: Pseudonyms) -> str:
        one = record({"user_id": "u-12345", "again": "by u-12345"}, user_id="u-12345")
        scrub([one], Mode.REDACT, pseudonyms)
        found = decode(one.properties)
        assert found["again"] == f"by {found['user_id']}"
        return found["user_id"].removeprefix("subject:")

    batches = [Pseudonyms(b"p" * 32, 1) for _ in range(2)]
    found = {mentioned(pseudonyms) for pseudonyms in batches}
    assert len(found) == 2
    assert PSEUDONYMS.subject("u-12345").hex() not in found


@pytest.mark.parametrize("nobody", ["anonymous", "Unknown", "null"])
def test_nobodys_id_is_let_be(nobody: str):
    assert properties({"user_id": nobody, "os": nobody}, user_id=nobody) == {
        "user_id": nobody,
        "os": nobody,
    }


@MODES
def test_a_raw_id_is_replaced_wherever_it_recurs(mode: Mode):
    one = record(
        {
            "whole": "u-1234",
            "within": "by u-1234, u-12345 and xu-1234",
            "url": "/users/u%2D1234?x=%20",
            "list": [["u-1234"]],
            "u-1234": 1,
            "number": 1,
            "session": "in s-9876!",
            "inner": '{"x":"u-1234"}',
        },
        user_id="u-1234",
        session_id="s-9876",
        message="u-1234 left",
        scope="u-1234",
    )
    other = record({"whole": "u-1234"}, user_id="u-2")
    assert scrub([one, other], mode, PSEUDONYMS) == 2
    found = subject("u-1234")
    assert decode(one.properties) == {
        "whole": found,
        "within": f"by {found}, u-12345 and xu-1234",
        "url": f"/users/{found}?x= ",
        "list": [[found]],
        found: 1,
        "number": 1,
        "session": f"in {session('s-9876')}!",
        "inner": f'{{"x":"{found}"}}',
    }
    assert (one.message, one.scope) == (f"{found} left", found)
    assert decode(other.properties) == {"whole": found}


def test_an_id_of_digits_is_found_as_a_number_if_it_is_no_coincidence():
    value = {"a": 123456, "b": [123456], "c": 123457, "d": 12345, "e": 1.5}
    assert properties(value, user_id="123456") == value | {
        "a": subject("123456"),
        "b": [subject("123456")],
    }
    assert properties(value, user_id="12345") == value


def test_a_short_id_is_found_as_a_whole_text_alone():
    value = {"a": "u1", "b": "a u1 b", "c": "u12"}
    assert properties(value, user_id="u1") == value | {"a": subject("u1")}


def test_an_id_that_a_field_names_is_found_elsewhere():
    value = {"target_user_id": "u-777", "note": "u-777 joined"}
    assert properties(value) == {
        "target_user_id": subject("u-777"),
        "note": f"{subject('u-777')} joined",
    }


def test_a_users_id_in_the_field_of_a_session_stays_the_users():
    value = {"session_id": "u-777", "note": "u-777 joined"}
    assert properties(value, user_id="u-777")["note"] == f"{subject('u-777')} joined"


def test_an_id_that_is_an_address_counts_as_an_id():
    assert scrubbed("by alice@example.com", user_id="alice@example.com") == (
        f"by {subject('alice@example.com')}"
    )


@pytest.mark.parametrize(
    "raw",
    ["имена", "имя 7", 'a"b\\c', "{6F9619FF}", "auth0|5f7c8ec7", "a b c d", "用户-77", "x--y"],
)
@pytest.mark.parametrize("text", ["{}", "by {}!", "line\n{}\n", "“{}”", "\t{},"])
@pytest.mark.parametrize("others", [0, 20, 2000])
def test_ids_of_any_kind_and_number_are_found(raw: str, text: str, others: int):
    clean = [record(user_id=f"user {number}", session_id=f"{number}") for number in range(others)]
    one = record({"it": text.replace("{}", raw)}, user_id="nobody's", session_id=None)
    scrub([record(user_id=raw), *clean, one], Mode.REDACT, PSEUDONYMS)
    assert decode(one.properties)["it"] == text.replace("{}", subject(raw))


def test_of_ids_that_hold_each_other_the_longer_one_is_found():
    batch = [record(user_id="ab-12"), record({"it": "ab-12-34 ab-12"}, user_id="ab-12-34")]
    scrub(batch, Mode.REDACT, PSEUDONYMS)
    assert decode(batch[1].properties)["it"] == f"{subject('ab-12-34')} {subject('ab-12')}"


def test_an_id_is_found_behind_an_escape_within_a_text():
    value = {"it": r'{"log":"\nu-1234 left \\nbox"} x', "path": r"C:\box-1\x"}
    assert properties(value, user_id="u-1234", session_id="box-1") == {
        "it": rf'{{"log":"\n{subject("u-1234")} left \\nbox"}} x',
        "path": rf"C:\{session('box-1')}\x",
    }


# --- Beside batches -------------------------------------------------------------------------------


def test_a_path_for_a_log_line_is_redacted():
    assert (
        scrub_text("/v1/users/alice%40example.com?user_id=5")
        == "/v1/users/[email]?user_id=[subject]"
    )


@pytest.mark.parametrize("text", ["0b6f9c1e-6d0e-4e5e-9c53-0d5c8f8f1a11", "req-17", "a" * 64])
def test_a_request_id_is_clean(text: str):
    assert is_clean(text)


@pytest.mark.parametrize("text", ["4111111111111111", "415-555-2671", "alice@example.com"])
def test_what_may_be_someones_is_not_clean(text: str):
    assert not is_clean(text)
