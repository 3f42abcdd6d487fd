"""Many moments as one parameter of a statement."""

import struct
from itertools import repeat

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

# PostgreSQL counts from 2000.
POSTGRES_EPOCH = 946_684_800_000_000
_TYPE = psycopg.adapters.types["timestamptz"]
_ELEMENT = struct.Struct("!iq")


class Moments(tuple[int, ...]):
    """Microseconds since 1970, as a timestamptz[]."""


class _MomentsDumper(Dumper):
    """At once: psycopg asks a dumper for each element."""

    format = Format.BINARY
    oid = _TYPE.array_oid

    def dump(self, obj: Moments) -> bytes:
        head = struct.pack("!5i", 1, 0, _TYPE.oid, len(obj), 1)
        elements = map(_ELEMENT.pack, repeat(8), (moment - POSTGRES_EPOCH for moment in obj))
        return head + b"".join(elements)


psycopg.adapters.register_dumper(Moments, _MomentsDumper)
