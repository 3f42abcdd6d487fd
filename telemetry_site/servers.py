"""Starts the embedded PostgreSQL and Redis under a supervisor, and makes the database's roles.

No TCP, only Unix sockets in a private folder; every role has a password. Survives being killed at
any point: what a killed start left behind is recognised and done again.
"""

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

import psycopg
import redis
from psycopg import sql

from telemetry_site.embedded import (
    DATABASE,
    POSTGRES_FOLDER,
    REDIS_SERVER,
    Embedded,
    EmbeddedError,
    database_url,
    make_private,
    redis_url,
)
from telemetry_site.instance import Secrets
from telemetry_site.supervisor import Program, Supervisor

SUPERUSER = "postgres"
OWNER = "telemetry_owner"
APPLICATION = "telemetry_app"
# Nothing of ours is passed on: our environment holds secrets.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
# Read by PostgreSQL before what ALTER SYSTEM says, so an operator's changes win.
POSTGRES_CONF = """\
# Written anew at every start. Use ALTER SYSTEM to change a setting for good.
shared_buffers = 128MB
max_connections = 100
jit = off
max_wal_size = 2GB
checkpoint_timeout = 15min
wal_compression = off
logging_collector = off
log_destination = stderr
log_line_prefix = ''
log_min_messages = warning
log_checkpoints = off
# A failing statement, and a message's details, can quote what was to be stored.
log_min_error_statement = panic
log_error_verbosity = terse
"""
# The broker's lists and the rate limiter's counters. Nothing rides on them, so nothing is saved;
# when memory runs out counters go (they expire anyway), lists never do.
REDIS_CONF = """\
port 0
unixsocket "{socket}"
unixsocketperm 700
requirepass {password}
save ""
appendonly no
maxmemory 256mb
maxmemory-policy volatile-ttl
daemonize no
logfile ""
loglevel warning
always-show-logo no
"""
RECOVERY_SECONDS = 600.0
START_SECONDS = 30.0
REPORT_SECONDS = 10.0
GONE_SECONDS = 60.0
TOLERATED_DEATHS = 3


def start_redis(embedded: Embedded, secrets: Secrets, supervisor: Supervisor) -> None:
    """Start Redis and wait until it answers. Raises EmbeddedError."""
    if not supervisor.wait(GONE_SECONDS, lambda: not _answers(embedded, secrets)):
        raise EmbeddedError(f"Another Redis still listens on {embedded.redis_socket}.")
    conf = embedded.redis_data / "redis.conf"
    text = REDIS_CONF.format(socket=embedded.redis_socket, password=secrets.redis_password)
    _write_private(conf, text, embedded)
    supervisor.start(
        Program(
            name="redis",
            argv=[embedded.program(REDIS_SERVER), conf.name],
            environment=ENVIRONMENT,
            folder=embedded.redis_data,
            user=embedded.user,
            quiet=True,
        )
    )
    deadline = time.monotonic() + START_SECONDS
    while not _answers(embedded, secrets):
        _give_up_on("redis", "Redis", supervisor, deadline)
        supervisor.turn()


def start_postgres(embedded: Embedded, secrets: Secrets, supervisor: Supervisor) -> None:
    """Start PostgreSQL, recovered from whatever happened to it, with its roles and database.

    Raises EmbeddedError.
    """
    data = embedded.postgres_data
    if not data.exists():
        _initdb(embedded, secrets, supervisor)
    make_private(data, embedded.user)
    _wait_for_predecessor(embedded, supervisor)
    _write_private(data / "telemetry.conf", POSTGRES_CONF, embedded)
    supervisor.start(
        Program(
            name="postgres",
            argv=[
                embedded.program(POSTGRES_FOLDER / "bin/postgres"),
                *("-D", str(data)),
                *("-c", "listen_addresses="),
                *("-c", f"unix_socket_directories={embedded.run}"),
                *("-c", "unix_socket_permissions=0700"),
            ],
            environment=ENVIRONMENT,
            folder=data,
            user=embedded.user,
            # A "fast" shutdown: open transactions are rolled back. SIGTERM would wait for them.
            stop_signal=signal.SIGINT,
            orphan_signal=signal.SIGINT,
            grace=60.0,
        )
    )
    with _connect_when_ready(embedded, secrets, supervisor) as connection:
        _make_roles(connection, secrets)
    with _connect(embedded, secrets, DATABASE) as connection:
        _grant_database(connection)


# --- Redis ---


def _answers(embedded: Embedded, secrets: Secrets) -> bool:
    url = redis_url(embedded, secrets.redis_password)
    client = redis.Redis.from_url(url, socket_timeout=1.0)
    with contextlib.closing(client):
        try:
            return bool(client.ping())
        except (redis.AuthenticationError, redis.BusyLoadingError):
            return True  # another's password, but somebody is there
        except redis.RedisError:
            return False


# --- PostgreSQL: a new cluster ---


def _initdb(embedded: Embedded, secrets: Secrets, supervisor: Supervisor) -> None:
    """A new cluster, made aside and moved in place when it is complete."""
    supervisor.say("creating the database.")
    draft = embedded.home / "postgres.draft"
    shutil.rmtree(draft, ignore_errors=True)
    make_private(draft, embedded.user)
    password = draft / "password"
    _write_private(password, secrets.postgres_password, embedded)
    code = supervisor.run(_initdb_program(embedded, draft / "data", password))
    if code:
        raise EmbeddedError("The database couldn't be created; initdb says why above.")
    conf = draft / "data/postgresql.conf"
    _write_private(conf, conf.read_text() + "\ninclude 'telemetry.conf'\n", embedded)
    (draft / "data").rename(embedded.postgres_data)
    shutil.rmtree(draft)


def _initdb_program(embedded: Embedded, data: Path, password: Path) -> Program:
    return Program(
        name="initdb",
        argv=[
            embedded.program(POSTGRES_FOLDER / "bin/initdb"),
            *("--pgdata", str(data)),
            *("--username", SUPERUSER),
            *("--pwfile", str(password)),
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-instructions",
            # Making a new segment holds up every commit while it is filled and synced: 16 MB (the
            # default) is 50 ms once a second under full load, until checkpoints recycle them.
            "--wal-segsize=1",
        ],
        environment=ENVIRONMENT,
        folder=data.parent,
        user=embedded.user,
        orphan_signal=signal.SIGKILL,
        quiet=True,
    )


# --- PostgreSQL: what an earlier run left behind ---


def _wait_for_predecessor(embedded: Embedded, supervisor: Supervisor) -> None:
    """Wait for the server of a killed run (it is on its way out), then clear its stale marks.

    PostgreSQL takes a lock file for stale when no process of its user has that number. After a
    reboot, or in a container, another process often has it.
    """
    data = embedded.postgres_data
    pid_file = data / "postmaster.pid"
    if not supervisor.wait(GONE_SECONDS, lambda: not _serves(_pid_in(pid_file), data)):
        raise EmbeddedError(
            f"Another PostgreSQL (process {_pid_in(pid_file)}) still runs on {data}."
        )
    (embedded.run / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
    if pid_file.exists():
        # Not deleted: its other lines tell PostgreSQL which shared memory orphans could still be
        # writing through. It ignores its own parent's number, which is ours.
        _, _, rest = pid_file.read_text().partition("\n")
        _write_private(pid_file, f"{os.getpid()}\n{rest}", embedded)


def _pid_in(pid_file: Path) -> int:
    try:
        return int(pid_file.read_text().partition("\n")[0])
    except (FileNotFoundError, ValueError):
        return 0


def _serves(pid: int, data: Path) -> bool:
    """Whether the process is a PostgreSQL server on `data`, as we start it; zombies are not."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return os.fsencode(data) in arguments


# --- PostgreSQL: ready, with roles ---


def _connect(
    embedded: Embedded, secrets: Secrets, database: str
) -> psycopg.Connection[tuple[object, ...]]:
    url = database_url(embedded, SUPERUSER, secrets.postgres_password, database)
    return psycopg.connect(url, autocommit=True, connect_timeout=3)


def _connect_when_ready(
    embedded: Embedded, secrets: Secrets, supervisor: Supervisor
) -> psycopg.Connection[tuple[object, ...]]:
    begun = reported = time.monotonic()
    while True:
        try:
            return _connect(embedded, secrets, "postgres")
        except psycopg.OperationalError as error:
            _check_password(error, embedded)
        _give_up_on("postgres", "PostgreSQL", supervisor, begun + RECOVERY_SECONDS)
        if time.monotonic() - reported >= REPORT_SECONDS:
            reported = time.monotonic()
            supervisor.say(
                f"PostgreSQL is still recovering after {reported - begun:.0f} s; waiting for it."
            )
        supervisor.turn()


def _check_password(error: psycopg.OperationalError, embedded: Embedded) -> None:
    # A failed connection attempt has no SQLSTATE in psycopg, only the server's sentence.
    if "password authentication failed" in str(error):
        raise EmbeddedError(
            f"The database in {embedded.postgres_data} doesn't know the password in "
            f"{embedded.data_dir / 'secrets.json'}: the two come from different instances."
        ) from None


def _give_up_on(name: str, title: str, supervisor: Supervisor, deadline: float) -> None:
    if supervisor.deaths(name) >= TOLERATED_DEATHS:
        raise EmbeddedError(f"{title} doesn't start; see above.")
    if time.monotonic() >= deadline:
        raise EmbeddedError(f"{title} runs, but doesn't accept connections.")


def _make_roles(connection: psycopg.Connection[tuple[object, ...]], secrets: Secrets) -> None:
    """The two roles, their passwords and the database; each step may have been done before."""
    for role, password in ((OWNER, secrets.owner_password), (APPLICATION, secrets.app_password)):
        if not connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).rowcount:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
        # Only its hash is sent.
        scram = connection.pgconn.encrypt_password(
            password.encode(), role.encode(), b"scram-sha-256"
        )
        connection.execute(
            sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), scram.decode())
        )
    # The owner hands tables over to the application.
    connection.execute(
        sql.SQL("GRANT {} TO {}").format(sql.Identifier(APPLICATION), sql.Identifier(OWNER))
    )
    connection.execute("REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC")
    found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE])
    if not found.rowcount:
        connection.execute(
            sql.SQL("CREATE DATABASE {} OWNER {}").format(
                sql.Identifier(DATABASE), sql.Identifier(OWNER)
            )
        )


def _grant_database(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    connection.execute(
        sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(DATABASE))
    )
    connection.execute(
        sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}").format(
            sql.Identifier(DATABASE), sql.Identifier(APPLICATION)
        )
    )
    connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")


def _write_private(path: Path, text: str, embedded: Embedded) -> None:
    """A file that only the servers' user can read, replaced as a whole.

    The folder is that user's, we may be root: nothing that stands there is written through.
    """
    draft = path.with_name(f"{path.name}.draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        if embedded.user:
            os.fchown(file.fileno(), embedded.user.uid, embedded.user.gid)
    draft.rename(path)
