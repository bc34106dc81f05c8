"""The whole stack on Swift: presigned parts, a data set, a job, its checkpoint by a link, backup and restore."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from safetensors.numpy import load

from api.db import Database
from api.jobs.models import Job
from api.settings import Settings
from api.storage import open_store
from api.storage.s3_client import s3_client
from cli.demo.stack import DemoStack
from migrations.backup.run import make_backup, restore_backup
from tests.e2e.conftest import Service, image_zip
from tests.s3_servers import BUCKET


@pytest.fixture
def given(swift: dict[str, Any], postgres: str) -> dict[str, Any]:
    """Settings of the stack: the one bucket may also be imported from, below `public/`."""
    theirs = {name.replace("s3_", "import_s3_"): value for name, value in swift.items() if name.startswith("s3_")}
    return {**swift, **theirs, "import_prefixes": json.dumps([f"s3://{BUCKET}/public/"]), "database_url": postgres}


@pytest.fixture
def service(given: dict[str, Any], tmp_path: Path) -> Iterator[Service]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given.items():
            patch.setenv(f"DIFFTUNE_{name.upper()}", value)
        with DemoStack(tmp_path / "data") as stack:
            running = Service(stack, tmp_path / "data")
            yield running
            running.http.close()
            running.client.close()


def send_by_links(service: Service, data: bytes, part_bytes: int) -> str:
    """Upload in presigned parts, the last first; a client that comes back asks what is missing."""
    announced = {"filename": "images.zip", "bytes": len(data), "mime_type": "application/zip", "purpose": "fine-tune"}
    upload = service.http.post("/v1/uploads", json=announced).json()["id"]
    url = f"/v1/uploads/{upload}/parts"
    pieces = [data[start : start + part_bytes] for start in range(0, len(data), part_bytes)]
    parts = [service.http.post(f"{url}/presign", json={"bytes": len(piece)}).json() for piece in pieces]
    for number in sorted(range(1, len(parts)), reverse=True):
        assert httpx2.put(parts[number]["url"], content=pieces[number]).status_code == 200
    listed = service.http.get(url).json()["data"]
    assert [part["status"] for part in listed] == ["awaited", *["received"] * (len(parts) - 1)]
    ids = [part["id"] for part in parts]
    early = service.http.post(f"/v1/uploads/{upload}/complete", json={"part_ids": ids})
    assert (early.status_code, early.json()["code"]) == (409, "part_not_received")
    again = service.http.post(f"{url}/{ids[0]}/presign").json()
    assert again["id"] == ids[0]
    assert httpx2.put(again["url"], content=pieces[0]).status_code == 200
    body = {"part_ids": ids, "sha256": hashlib.sha256(data).hexdigest()}
    answers = [service.http.post(f"/v1/uploads/{upload}/complete", json=body).json() for _ in range(2)]
    assert answers[0]["file"]["id"] == answers[1]["file"]["id"]
    file_id: str = answers[0]["file"]["id"]
    return file_id


def test_from_presigned_parts_to_a_downloaded_checkpoint(
    service: Service, given: dict[str, Any], postgres_server: Any, tmp_path: Path
) -> None:
    data = image_zip()
    file_id = send_by_links(service, data, part_bytes=len(data) // 4)
    assert service.wait_file(file_id) == "processed"
    assert service.client.files.retrieve(file_id).model_extra["sha256"] == hashlib.sha256(data).hexdigest()
    job = service.submit(file_id, hyperparameters={"max_steps": 10, "checkpoint_every_steps": 5})
    finished = service.finished(job.id)
    assert finished.status == "succeeded", finished.error

    link = service.http.get(f"/v1/checkpoints/{finished.fine_tuned_model}/download", follow_redirects=False)
    assert link.headers["location"].startswith(given["s3_endpoint_url"])
    weights = httpx2.get(link.headers["location"]).content
    listed = service.http.get(f"/v1/checkpoints/{finished.fine_tuned_model}").json()["files"]
    stated = next(file["sha256"] for file in listed if file["name"] == "model.safetensors")
    assert hashlib.sha256(weights).hexdigest() == stated
    assert load(weights)
    _check_backup(given, postgres_server, tmp_path, job.id)


def _check_backup(given: dict[str, Any], postgres_server: Any, tmp_path: Path, job_id: str) -> None:
    """PostgreSQL and Swift, into another PostgreSQL and another place on Swift: whole, and told when it is not."""
    settings = Settings(data_dir=tmp_path / "data", **{n: v for n, v in given.items() if not n.startswith("import_")})
    made = make_backup(settings, tmp_path / "backup", with_objects=True)
    assert made.missing == []
    assert {entry.key.partition("/")[0] for entry in made.objects} == {"datasets", "jobs", "uploads"}
    elsewhere = {"database_url": postgres_server.new_database(), "store_url": f"s3://{BUCKET}/restored"}
    fresh = settings.model_copy(update=elsewhere)
    restored = restore_backup(fresh, tmp_path / "backup")
    assert (restored.missing, restored.damaged) == ([], [])
    database = Database(fresh.database)
    with database.read() as session:
        assert session.get_one(Job, job_id).status == "succeeded"
    database.close()
    lost = made.objects[0].key
    (tmp_path / "backup" / "objects" / lost).unlink()
    open_store(fresh).delete(lost)
    again = fresh.model_copy(update={"database_url": postgres_server.new_database()})
    assert restore_backup(again, tmp_path / "backup").missing == [lost]


def test_a_data_set_is_imported_from_where_the_operator_allows(service: Service, given: dict[str, Any]) -> None:
    data = image_zip(first=20)
    settings = Settings(**{name: value for name, value in given.items() if name.startswith("s3_")})
    client = s3_client(settings, settings.s3_endpoint_url)
    for key in ("public/sets/images.zip", "private/images.zip"):
        client.put_object(Bucket=BUCKET, Key=key, Body=data)
    uri = f"s3://{BUCKET}/public/sets/images.zip"
    stated = {"uri": uri, "sha256": hashlib.sha256(data).hexdigest()}
    found = service.http.post("/v1/datasets/import", json=stated).json()
    assert (found["filename"], found["bytes"]) == ("images.zip", len(data))
    assert service.wait_file(found["id"]) == "processed"
    assert service.http.get(f"/v1/files/{found['id']}/content").content == data
    wrong = service.http.post("/v1/datasets/import", json={"uri": uri, "sha256": "0" * 64}).json()
    assert service.wait_file(wrong["id"]) == "error"
    assert service.http.get(f"/v1/datasets/{wrong['id']}").json()["error"]["code"] == "checksum_mismatch"
    for refused in (
        f"s3://{BUCKET}/private/images.zip",
        f"s3://{BUCKET}/public/../private/images.zip",
        f"s3://{BUCKET}/publicity/images.zip",
        "s3://other/public/images.zip",
    ):
        answer = service.http.post("/v1/datasets/import", json={"uri": refused})
        assert (answer.status_code, answer.json()["code"]) == (422, "import_not_allowed"), refused
    answer = service.http.post("/v1/datasets/import", json={"uri": f"s3://{BUCKET}/public/none.zip"})
    assert (answer.status_code, answer.json()["code"]) == (422, "source_not_found")
