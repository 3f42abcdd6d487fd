"""Export files in a bucket: a service of its own, beside a server that speaks S3.

Runs where requirements-s3.txt and moto[server] are installed.
"""

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness import Project, Service, free_port, wait_for
from tests.ingest.sending import accepted, batch, event, send
from tests.ingest.sending import settled as stored
from tests.privacy.asking import somebody
from tests.privacy.exporting import LATER, PATIENT, export, fetched, settled

boto3 = pytest.importorskip("boto3")
pytest.importorskip("storages")
pytest.importorskip("moto")

BUCKET = "exports"
ACCESS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    """A bucket, and the address of what serves it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def answers() -> bool:
        try:
            return bool(urllib.request.urlopen(f"{url}/moto-api/", timeout=1).status)
        except (urllib.error.URLError, TimeoutError):
            return False

    try:
        wait_for(answers, 30, "the server to answer")
        found = boto3.resource(
            "s3", endpoint_url=url, region_name="us-east-1",
            aws_access_key_id="test", aws_secret_access_key="test",
        ).Bucket(BUCKET)  # fmt: skip
        found.create()
        yield found
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="module")
def elsewhere(bucket: Any) -> Iterator[Service]:
    """A service that keeps its exports in the bucket."""
    service = Service(
        TELEMETRY_EXPORT_STORAGE=f"s3://{BUCKET}/production",
        AWS_ENDPOINT_URL_S3=bucket.meta.client.meta.endpoint_url,
        **ACCESS,
    )
    try:
        yield service.start()
    finally:
        service.remove()


def names(bucket: Any) -> list[str]:
    return [found.key for found in bucket.objects.all()]


def test_files_lie_in_the_bucket_and_leave_it_in_time(elsewhere: Service, bucket: Any) -> None:
    project: Project = elsewhere.create_project("In a bucket")
    user = somebody()
    sent = batch(*[event(user_id=user) for _ in range(3)])
    stored(elsewhere, project, accepted(send(elsewhere, project, sent)))
    assert len(export(elsewhere, project, user, PATIENT).json["events"]) == 3
    export_id = export(elsewhere, project, user, LATER).json["export_id"]
    report = settled(elsewhere, project, export_id)
    assert report["status"] == "done", report
    assert len(fetched(report["download_url"])["events"]) == 3
    assert len(names(bucket)) == 1, "the person's new export takes the place of the first"
    assert all(name.startswith("production/") for name in names(bucket))
    assert not (elsewhere.data_dir / "exports").exists()
    with elsewhere.database() as database:
        database.execute("UPDATE privacy_exportrequest SET expires_at = now() WHERE file <> ''")
    bucket.put_object(Key=f"production/{'0' * 32}.json.gz", Body=b"nobody's")
    elsewhere.manage("shell", "-c", "from privacy import exports; exports.expire()")
    assert names(bucket) == []
    with pytest.raises(urllib.error.HTTPError) as refused:
        fetched(report["download_url"])
    with refused.value as error:
        assert error.code == 410
