"""Who is kept out for a while by an operator: by key, or by network before anything is looked up.

The blocks are kept in the process (`memory.blocks`), and with none of them this costs nothing.
"""

import math
import time

from rest_framework.exceptions import APIException, Throttled

from ingest import memory
from ingest.addresses import whole_address
from ingest.counters import Counter, counters
from ingest.ratelimits import Caller, hashed_caller, key_of, violation_field
from telemetry_site.monitoring import instruments

# What violations are counted under, beside the rules of `rules`.
RULE = "block"
_COUNTED_SECONDS = 60


class Blocked(Throttled):
    """429: an operator has blocked the caller for `wait` seconds more."""

    policy = RULE

    def __init__(self, wait: int) -> None:
        APIException.__init__(
            self,
            f"The operator of this service has blocked this caller. Try again in {wait} s.",
            "rate_limited",
        )
        self.wait = wait


def check(caller: Caller) -> None:
    """Raise Blocked if an operator says so."""
    if _seconds_left(caller) <= 0:
        return
    _count(caller)
    # Counting has told whether anything changed: a block that was lifted ends here.
    if (left := _seconds_left(caller)) > 0:
        instruments.rate_limited(RULE).inc()
        raise Blocked(math.ceil(left))


def _seconds_left(caller: Caller) -> float:
    blocks = memory.blocks()
    if not blocks:
        return 0
    address = whole_address(caller.request)
    until = blocks.of_address(address) if address is not None else 0
    if caller.key_id is not None:
        until = max(until, blocks.of_key(caller.key_id))
    return until - time.time()


def _count(caller: Caller) -> None:
    """Note the violation; as one of its key where it has shown one, else of its address."""
    by = key_of(caller.key_id) if caller.key_id is not None else caller.address
    hashed = hashed_caller(RULE, caller.project_id, by)
    field = violation_field(caller, RULE, hashed)
    counters.count([Counter(f"{RULE}:{hashed}", _COUNTED_SECONDS, 0, field)])
