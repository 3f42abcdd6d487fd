"""Redis beside Celery: a client that answers, or gives up, in bounded time."""

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

# What the client raises while Redis is away, frozen or out of memory.
REDIS_ERRORS = (redis.RedisError, OSError)


def redis_client(patience: float = settings.REDIS_TIMEOUT_SECONDS) -> redis.Redis:
    """A client with a pool of its own, to be kept; it tries once, for `patience` seconds."""
    client: redis.Redis = redis.Redis.from_url(
        settings.REDIS,
        socket_timeout=patience,
        socket_connect_timeout=settings.REDIS_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    return client
