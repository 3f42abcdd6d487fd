"""A wire format in the tests: its good items, what it makes of a body, and why it refuses one."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from ingest.formats import FORMATS
from ingest.records import DecodedBatch, Envelope, MalformedBatch, Rejection


@dataclass(frozen=True)
class WireFormat:
    """A format of batches; `good` is an item that it takes, and `items` what it calls many."""

    name: str
    good: dict[str, Any]
    items: str = "events"

    def item(self, **fields: Any) -> dict[str, Any]:
        """A good item, changed by `fields`; `...` leaves one out."""
        whole = self.good | fields
        return {name: value for name, value in whole.items() if value is not ...}

    def batch(self, *items: Any, **fields: Any) -> dict[str, Any]:
        """A batch of the items, or of one good one."""
        return {self.items: list(items) or [self.item()], **fields}

    def decoded(self, body: Any, **envelope: Any) -> DecodedBatch:
        """What the format makes of a body."""
        return FORMATS[self.name](json.dumps(body).encode(), Envelope(**envelope))

    def only(self, body: Any, **envelope: Any) -> Any:
        """The one record of a body without a bad item."""
        found = self.decoded(body, **envelope)
        assert found.rejections == []
        (record,) = found.records
        return record

    def refused(self, bad: Any, **envelope: Any) -> Rejection:
        """Why one item is not taken; those before and after it are."""
        found = self.decoded(self.batch(self.item(), bad, self.item()), **envelope)
        assert [record.position for record in found.records] == [0, 2]
        (rejection,) = found.rejections
        assert rejection.index == 1
        return rejection

    def malformed(self, body: Any, **envelope: Any) -> MalformedBatch:
        """Why a body is not taken as a whole."""
        with pytest.raises(MalformedBatch) as caught:
            self.decoded(body, **envelope)
        return caught.value


def properties(record: Any) -> Any:
    """The properties of a record, read."""
    return json.loads(record.properties)
