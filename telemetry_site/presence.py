"""What each worker says of itself in Redis: written by the workers, read by the admin.

Asking them (Celery's `inspect`) would cost a broadcast, and the wait for one that is gone.
"""

import time

import msgspec
import redis

# A hash: worker -> what it said last.
_WORKERS = "telemetry:workers"
TELL_SECONDS = 1.0
# A pause is broadcast, and holds at once; where that is lost, after this time.
OBEY_SECONDS = 5.0
# A worker speaks every second. One silent for so long is gone, and after a day forgotten.
SILENT_SECONDS = 10.0
_KEEP_SECONDS = 86_400


class Running(msgspec.Struct, frozen=True):
    """A task under way. Times are seconds since 1970."""

    id: str
    task: str
    since: float
    # When somebody asked it to stop, 0 if nobody has.
    asked: float


class Worker(msgspec.Struct, frozen=True):
    """What a worker does, and what it has done since it was started, by task."""

    name: str
    queues: list[str]
    since: float
    seen: float
    running: list[Running]
    done: dict[str, int]
    failed: dict[str, int]

    @property
    def is_gone(self) -> bool:
        return time.time() - self.seen > SILENT_SECONDS


def tell(client: redis.Redis, worker: Worker) -> None:
    """Say what `worker` does. Raises REDIS_ERRORS."""
    client.hset(_WORKERS, worker.name, msgspec.json.encode(worker))


def leave(client: redis.Redis, name: str) -> None:
    """Say that the worker ends as it should. Raises REDIS_ERRORS."""
    client.hdel(_WORKERS, name)


def workers(client: redis.Redis) -> list[Worker]:
    """Those that speak, and those that fell silent today, by name. Raises REDIS_ERRORS."""
    found = []
    for name, said in client.hgetall(_WORKERS).items():
        try:
            worker = msgspec.json.decode(said, type=Worker)
        except msgspec.MsgspecError:
            worker = None  # of another version
        if worker is None or time.time() - worker.seen > _KEEP_SECONDS:
            client.hdel(_WORKERS, name)
        else:
            found.append(worker)
    return sorted(found, key=lambda worker: worker.name)
