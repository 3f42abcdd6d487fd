"""How long to leave a collector alone that doesn't take what it is sent. Pure.

The OTLP specification asks for exponential backoff with jitter. Who fails for long is asked seldom.
"""

_FIRST_SECONDS = 5.0
_FACTOR = 1.5
_MOST_SECONDS = 30.0
_STEPS = 5  # after so many the most is reached
_LONG_SECONDS = 600.0
_SELDOM_SECONDS = 300.0
LONGEST_SECONDS = 3600.0  # that a collector may ask for


def pause(failures: int, failing_for: float, retry_after: float | None, chance: float) -> float:
    """Seconds until the next attempt after so many failures in a row, over so many seconds.

    From half of what is due to the whole of it, by `chance` in [0, 1), so that not everybody comes
    back at the same moment; what the collector asked for if that is more, up to an hour.
    """
    due = min(_FIRST_SECONDS * _FACTOR ** min(failures - 1, _STEPS), _MOST_SECONDS)
    if failing_for >= _LONG_SECONDS:
        due = _SELDOM_SECONDS
    return max(due * (1 + chance) / 2, min(retry_after or 0.0, LONGEST_SECONDS))
