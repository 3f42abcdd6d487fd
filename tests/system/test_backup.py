"""A copy made of a running service answers as the service did, as docs/operations.md promises.

Both ways of it: a base backup of the embedded PostgreSQL into a new data folder, and a dump into
another PostgreSQL.
"""

import json
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.external import PROGRAMS, PostgresOfOnesOwn
from tests.harness import Answer, Project, Service, data_folder, wait_for

WORK_SECONDS = 60
EVENTS = 3
STORED, WAITING = 4, 2  # batches at the time of the backup


@dataclass
class Backup:
    """What an operator has put away, and what the service said at that moment."""

    folder: Path
    secrets: dict[str, str]
    project: Project
    batches: list[dict[str, Any]]
    accounting: dict[str, int]


def batch() -> dict[str, Any]:
    now = datetime.now(UTC).isoformat()
    events = [{"event": f"kept {n}", "timestamp": now, "n": uuid4().hex} for n in range(EVENTS)]
    return {"batch_id": str(uuid4()), "user_id": "somebody", "events": events}


def send(service: Service, project: Project, content: dict[str, Any]) -> Answer:
    headers = {"X-API-Key": project.ingest_key, "Content-Type": "application/json"}
    answer = service.request("POST", "/v1/events", json.dumps(content).encode(), headers)
    assert answer.status == 200, answer.text
    return answer


def accounting(service: Service, project: Project) -> dict[str, int]:
    key = {"X-API-Key": project.secret_key}
    answer = service.request("GET", "/v1/query/accounting", headers=key)
    assert answer.status == 200, answer.text
    (found,) = [line for line in answer.json["formats"] if line.pop("format") == "events"]
    return dict(found)


def run(program: str, *words: str | Path, password: str) -> None:
    """One of PostgreSQL's own programs."""
    environment = {**os.environ, "PGPASSWORD": password}
    done = subprocess.run(
        [PROGRAMS / "bin" / program, *words], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def backup() -> Iterator[Backup]:
    """Of a service with stored and with waiting batches, whose data are gone by now."""
    original, folder = Service(), data_folder()
    try:
        original.start()
        project = original.create_project("kept")
        batches = [batch() for _ in range(STORED + WAITING)]
        for content in batches[:STORED]:
            send(original, project, content)
        wait_for(
            lambda: accounting(original, project)["waiting"] == 0, WORK_SECONDS, "all to be stored"
        )
        for process in original.processes("ingest"):
            process.suspend()
        for content in batches[STORED:]:
            send(original, project, content)
        told = accounting(original, project)
        assert told["waiting"] == EVENTS * WAITING
        yield Backup(folder, _back_up(original, folder), project, batches, told)
    finally:
        original.remove()
        shutil.rmtree(folder)


def _back_up(service: Service, folder: Path) -> dict[str, str]:
    """A base backup and a dump in `folder`; the secrets that belong to them."""
    secrets: dict[str, str] = json.loads((service.data_dir / "secrets.json").read_text())
    shutil.copy(service.data_dir / "secrets.json", folder)
    home = service.data_dir / "servers"
    socket = (home if home.exists() else service.data_dir).resolve() / "run"
    run(
        "pg_basebackup",
        *("--host", socket, "--username", "postgres", "--pgdata", folder / "postgres"),
        "--checkpoint=fast",
        password=secrets["postgres_password"],
    )
    run(
        "pg_dump",
        *("--host", socket, "--username", "telemetry_owner", "--dbname", "telemetry"),
        *("--format=custom", "--file", folder / "telemetry.dump"),
        password=secrets["owner_password"],
    )
    # Processes that are suspended don't end when they are told to.
    for process in service.processes("ingest"):
        process.kill()
    service.stop()
    return secrets


def check(restored: Service, backup: Backup) -> None:
    """Fail unless the restored service is the one that was backed up."""
    assert accounting(restored, backup.project)["received"] == backup.accounting["received"]
    for content in backup.batches:
        assert send(restored, backup.project, content).json["duplicate"] is True
    assert "duplicate" not in send(restored, backup.project, batch()).json
    wait_for(
        lambda: accounting(restored, backup.project)["waiting"] == 0,
        WORK_SECONDS,
        "what waited in the backup to be stored",
    )
    after = accounting(restored, backup.project)
    assert after["stored"] == EVENTS * (len(backup.batches) + 1)
    assert after["received"] == backup.accounting["received"] + EVENTS * (len(backup.batches) + 1)
    assert "password  " not in restored.output, "it takes itself for new"


def test_a_base_backup_in_a_new_data_folder_answers(backup: Backup) -> None:
    folder = data_folder()
    shutil.copy(backup.folder / "secrets.json", folder)
    shutil.copytree(backup.folder / "postgres", folder / "postgres")
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")  # who runs the servers then
        for path in (folder / "postgres", *(folder / "postgres").rglob("*")):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
    service = Service(folder)
    try:
        check(service.start(), backup)
    finally:
        service.remove()


def test_a_dump_restored_to_another_postgresql_answers(backup: Backup) -> None:
    folder = data_folder()
    postgres = PostgresOfOnesOwn(folder)
    service = Service(
        DATABASE_URL=postgres.url("telemetry_app"),
        DATABASE_OWNER_URL=postgres.url("telemetry_owner"),
        SECRET_KEY=backup.secrets["secret_key"],
        TELEMETRY_PEPPER=backup.secrets["pepper"],
    )
    try:
        _restore(postgres.url("telemetry_owner"), backup.folder / "telemetry.dump")
        check(service.start(), backup)
    finally:
        service.remove()
        postgres.stop()
        shutil.rmtree(folder)


def _restore(url: str, dump: Path) -> None:
    """As the owner, who may hand tables over to those only who could make them."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("GRANT CREATE ON SCHEMA public TO telemetry_app")
        run("pg_restore", "--exit-on-error", "--dbname", url, dump, password="")
        connection.execute("REVOKE CREATE ON SCHEMA public FROM telemetry_app")
