"""A waiting batch's payload: what is packed comes out again, and what isn't ours says so."""

import threading
from typing import Any

import msgspec
import pytest
import zstandard

from ingest.payloads import UNREADABLE, pack, unpack
from ingest.records import StoredPoint, StoredRecord


def stored(**fields: Any) -> StoredRecord:
    whole = StoredRecord(
        position=0,
        occurred=1_795_170_600_123_456,
        name="plugin_loaded",
        subject=bytes(range(16)),
        session=b"\xff" * 16,
        category="application",
        level="warn",
        scope="ui",
        client_version="1.2.3",
        message="ü 😀 \n",
        properties=b'{"a":[1,2.5,null,"\xc3\xbc"]}',
    )
    return msgspec.structs.replace(whole, **fields)


def compressed(content: Any) -> bytes:
    return zstandard.compress(msgspec.msgpack.encode(content))


@pytest.mark.parametrize(
    "records",
    [
        [],
        [stored()],
        [stored(subject=None, session=None, level=None, scope=None, message=None)],
        [stored(client_version=None, message="", properties=b"{}")],
        [stored(occurred=0), stored(occurred=-62_135_596_800_000_000)],
        [stored(occurred=253_402_300_799_999_999, position=32_767)],
        [stored(properties=b'{"a":"' + b"x" * 32_000 + b'"}')],
        [stored(position=position) for position in range(1000)],
    ],
)
def test_what_is_packed_comes_out_again(records: list[StoredRecord]):
    assert unpack(pack(records)) == records


def test_points_that_waited_through_an_upgrade_are_read() -> None:
    """As they were packed before there were weights and starts: two fields shorter."""
    whole = StoredPoint(
        position=0,
        part=0,
        occurred=1,
        name="latency",
        kind="histogram",
        subject=None,
        node="a",
        tags=b"{}",
        cumulative=False,
        value=None,
        samples=[1.0, 2.5],
        count=None,
        sum=None,
        min=None,
        max=None,
    )
    packed = [1, *msgspec.structs.astuple(whole)]
    assert unpack(compressed([packed[:-2]])) == [whole]
    assert unpack(compressed([packed])) == [whole]


def test_the_same_records_make_the_same_payload():
    assert pack([stored()] * 10) == pack([stored()] * 10)


def test_a_payload_is_smaller_than_its_records():
    records = [stored(position=position) for position in range(100)]
    assert len(pack(records)) < len(msgspec.msgpack.encode(records)) / 5


def test_threads_pack_side_by_side():
    batches = [[stored(message=str(number))] * 200 for number in range(8)]
    found: dict[int, list[StoredRecord]] = {}

    def work(number: int) -> None:
        for _ in range(20):
            found[number] = unpack(pack(batches[number]))

    threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(8)] == batches


GOOD = pack([stored()] * 3)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"garbage",
        b"\0" * 100,
        GOOD[:4],
        GOOD[: len(GOOD) // 2],
        GOOD[:-1],
        msgspec.msgpack.encode([stored()]),
        zstandard.compress(b""),
        zstandard.compress(b"garbage"),
        zstandard.compress(b'[{"name": "x"}]'),
        compressed({"name": "x"}),
        compressed([1]),
        compressed([[]]),
        compressed([["0"] * 11]),
        compressed([[0, 0, "x"]]),
        compressed(None),
    ],
)
def test_bytes_that_are_not_ours_are_unreadable(payload: bytes):
    with pytest.raises(UNREADABLE):
        unpack(payload)


def test_a_records_moment_is_exact_to_the_microsecond():
    assert stored().occurred_at.isoformat() == "2026-11-20T10:30:00.123456+00:00"
