"""Objects that rows name and the store has lost: clients are told before an answer begins, operators by the doctor."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.deps import Services
from api.doctor import objects
from api.jobs.models import Job
from api.settings import Settings
from api.subjects.models import ResultFile
from api.uploads.models import Upload, UploadPart

Problem = Callable[..., dict[str, Any]]


@pytest.fixture
def parts(client: TestClient, services: Services) -> list[str]:
    """Keys of a data set of two parts, the second of which is lost."""
    asked = {"purpose": "fine-tune", "filename": "a.zip", "bytes": 6, "mime_type": "application/zip"}
    upload = client.post("/v1/uploads", json=asked).json()["id"]
    ids = [client.post(f"/v1/uploads/{upload}/parts", files={"data": ("p", b"abc")}).json()["id"] for _ in range(2)]
    client.post(f"/v1/uploads/{upload}/complete", json={"part_ids": ids})
    keys = sorted(found.key for found in services.store.list("uploads/"))
    services.store.delete(keys[1])
    return keys


def test_a_download_is_refused_before_it_begins(client: TestClient, parts: list[str], assert_problem: Problem) -> None:
    """A status of 200 and a broken connection would look like a bad line."""
    [file] = client.get("/v1/files").json()["data"]
    answer = client.get(f"/v1/files/{file['id']}/content")
    detail = assert_problem(answer, 410, "object_missing")["detail"]
    assert detail == f"The object {parts[1]} of the data set {file['id']} is not in the store any more."


def test_no_link_is_given_to_a_result_that_is_lost(
    client: TestClient, services: Services, ready: str, assert_problem: Problem
) -> None:
    job_id = client.post("/v1/fine_tuning/jobs", json={"model": "tiny-dit", "training_file": ready}).json()["id"]
    with services.database.write() as session:
        job = session.get_one(Job, job_id)
        common = {"tenant_id": job.tenant_id, "bytes": 1, "sha256": "0" * 64, "content_type": "text/html"}
        row = ResultFile(
            id="file_1", subject_id=job_id, kind="report_html", step=1, filename="r.html", created_at=0, **common
        )
        row.key = f"jobs/{job_id}/1/r.html"
        session.add(row)
    said = assert_problem(client.get("/v1/files/file_1/content"), 410, "object_missing")["detail"]
    assert f"jobs/{job_id}/1/r.html of the file file_1 of job {job_id}" in said


def test_the_doctor_names_what_is_lost_and_whose_it_is(
    client: TestClient, settings: Settings, parts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    [file] = client.get("/v1/files").json()["data"]
    (found,) = objects.look(settings)
    assert (found.state, found.message) == (
        "bad",
        f"of 2 objects 1 are missing: {parts[1]} of data set {file['id']}",
    )
    monkeypatch.setattr(objects, "_SAMPLE", 1)
    (sampled,), (all_of_them,) = objects.look(settings), objects.look(settings, every=True)
    assert "1 of 2 objects, at random," in sampled.message
    assert all_of_them == found


def test_the_doctor_names_five_of_what_is_lost_and_counts_the_others(settings: Settings, services: Services) -> None:
    asked = {"tenant_id": "t", "filename": "a", "mime_type": "application/zip", "purpose": "fine-tune"}
    with services.database.write() as session:
        session.add(Upload(id="upl_1", bytes=7, created_at=0, expires_at=time.time() + 99, **asked))
        session.flush()
        for n in range(7):
            session.add(UploadPart(id=f"part_{n}", upload_id="upl_1", key=f"uploads/upl_1/{n}", bytes=1, created_at=0))
    (found,) = objects.look(settings)
    assert found.message.startswith("of 7 objects 7 are missing: uploads/upl_1/0 of ")
    assert [f"uploads/upl_1/{n} of" in found.message for n in range(7)] == [True] * 5 + [False] * 2
    assert found.message.endswith(" and 2 more")


def test_the_doctor_has_nothing_to_say_of_a_database_that_was_never_filled(tmp_path: Path) -> None:
    empty = Settings(data_dir=tmp_path)
    assert list(objects.look(empty)) == []
    (tmp_path / "difftune.sqlite3").touch()
    assert list(objects.look(empty)) == []
