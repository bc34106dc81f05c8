"""Objects that no row names are collected, and no other: what is uploaded at this moment has no row yet either."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import update

from api.jobs import lifecycle
from api.jobs.models import Job
from api.retention_sets.models import RetentionArtifact
from api.room import Reserve
from api.storage import StoredFile
from api.subjects import files as result_files
from api.subjects.files import Result
from api.subjects.kinds import owner
from api.subjects.references import named_in, named_keys
from api.subjects.states import Status
from api.uploads.models import Upload, UploadPart
from api.work.models import WorkItem
from api.work.states import WorkState
from worker.collect import _fence_in_work, collect, collect_ended
from worker.sweep import Sweep

Bench = Any  # the class of conftest.py
HOUR = 3600.0


@pytest.fixture
def put(bench: Bench) -> Callable[..., str]:
    """Store an object as if a day ago."""

    def store(key: str, age_s: float = 86_400.0) -> str:
        bench.store.put_stream(key, [key.encode()])
        path = bench.store.root / key
        os.utime(path, (0, time.time() - age_s))
        return key

    return store


@pytest.fixture
def stored_job(bench: Bench, put: Callable[..., str]) -> str:
    """A job that has ended, with a checkpoint and a report."""
    job_id: str = bench.job(dataset=bench.dataset({}))
    entry = StoredFile(put(f"jobs/{job_id}/1/model"), "model.safetensors", 1, "0" * 64)
    report = Result(put(f"jobs/{job_id}/1/r.html"), "r.html", 1, "0" * 64, "text/html", kind="report_html", step=1)
    with bench.database.write() as session:
        job = lifecycle.lock(session, job_id)
        lifecycle.checkpoint_saved(session, job, fence=1, step=1, name="step-1", files=[entry])
        result_files.add(session, job, [report])
        job.status = "cancelled"
        session.execute(update(WorkItem).values(state=WorkState.DONE))
    return job_id


def assert_whole(bench: Bench) -> None:
    """Every object that a row names is in the store."""
    with bench.database.read() as session:
        named = named_keys(session)
    there = {info.key for info in bench.store.list("")}
    assert named
    assert set(named) <= there


def collected(bench: Bench) -> int:
    return collect(bench.database, bench.store, HOUR)


def test_what_one_job_has_is_told_apart_from_all_that_rows_name(
    bench: Bench, stored_job: str, put: Callable[..., str]
) -> None:
    dataset: str = bench.dataset({})
    other: str = bench.job(dataset=dataset)
    asked = {"tenant_id": "t", "filename": "a", "mime_type": "application/zip", "purpose": "fine-tune"}
    with bench.database.write() as session:
        for upload in ("upl_1", "upl_2"):
            session.add(Upload(id=upload, bytes=2, created_at=0, expires_at=time.time() + 99, **asked))
        session.flush()
        for upload, number, come in (("upl_1", 0, 1), ("upl_1", 1, None), ("upl_2", 0, None)):
            key = f"uploads/{upload}/{number}"
            session.add(UploadPart(id=f"{upload}_{number}", upload_id=upload, key=key, bytes=come, created_at=0))
        for number, key in (("1", "one"), ("2", "two")):
            fields = {
                "status": Status.SUCCEEDED,
                "model": "m",
                "base_digest": number,
                "digest": number,
                "created_at": 0,
            }
            session.add(RetentionArtifact(id=f"rart_{number}", key=key, sha256=number, **fields))
        job = lifecycle.lock(session, other)
        entry = StoredFile(put(f"jobs/{other}/1/model"), "model.safetensors", 1, "0" * 64)
        lifecycle.checkpoint_saved(session, job, fence=1, step=1, name="step-1", files=[entry])
    with bench.database.read() as session:
        assert named_in(session, "jobs", stored_job) == {f"jobs/{stored_job}/1/model", f"jobs/{stored_job}/1/r.html"}
        assert named_in(session, "jobs", other) == {f"jobs/{other}/1/model"}
        of_set = {f"uploads/{dataset}/{number}" for number in range(2)}
        assert set(owner("datasets").named(session, dataset)) == of_set < set(owner("datasets").named(session))
        assert owner("uploads").named(session) == {"uploads/upl_1/0": None}, "what has come"
        assert owner("uploads").named(session, "upl_1") == {"uploads/upl_1/0": None, "uploads/upl_1/1": None}
        assert owner("retention_sets").named(session) == {"one": "1", "two": "2"}
        assert owner("retention_sets").named(session, "rart_1") == {"one": "1"}
        assert named_in(session, "jobs", stored_job) | named_in(session, "jobs", other) <= named_keys(session).keys()


def test_what_no_row_names_is_collected(bench: Bench, stored_job: str, put: Callable[..., str]) -> None:
    lost = [put(f"jobs/{stored_job}/1/torn"), put("jobs/ftjob_gone/1/model"), put("datasets/ds_gone/file")]
    lost += [put("uploads/upl_gone/part"), put("comparisons/c/1/r"), put("analyses/a/1/r"), put("retention_sets/r/1/s")]
    others = [put("models/m/digest/index.json"), put("elsewhere/file")]
    assert [collected(bench), collected(bench)] == [len(lost), 0]
    there = {info.key for info in bench.store.list("")}
    assert not there & set(lost)
    assert there >= set(others)
    assert_whole(bench)


@pytest.mark.usefixtures("stored_job")
def test_what_is_young_or_worked_on_is_left_alone(bench: Bench, put: Callable[..., str]) -> None:
    young = put("datasets/ds_new/file", age_s=60.0)
    running = bench.job(dataset=bench.dataset({}))
    report = put(f"jobs/{running}/1/files/report.html", age_s=7 * 86_400.0)
    assert collected(bench) == 0
    assert {info.key for info in bench.store.list("")} >= {young, report}
    with bench.database.write() as session:
        session.execute(update(WorkItem).values(state=WorkState.DONE))
    assert collected(bench) == 1
    assert [info.key for info in bench.store.list(f"jobs/{running}")] == []
    assert_whole(bench)


def test_parts_of_a_pending_upload_are_left_alone(bench: Bench, put: Callable[..., str]) -> None:
    common = {"tenant_id": "t", "filename": "a.zip", "mime_type": "application/zip", "purpose": "fine-tune"}
    with bench.database.write() as session:
        session.add(Upload(id="u", bytes=2, created_at=0, expires_at=time.time() + 100, **common))
        session.flush()
        for name, size in (("sent", 1), ("presigned", None)):
            session.add(UploadPart(id=name, upload_id="u", key=put(f"uploads/u/{name}"), bytes=size, created_at=0))
    put("uploads/u/nobody's".replace("'", ""))
    assert collected(bench) == 1
    assert [info.key for info in bench.store.list("")] == ["uploads/u/presigned", "uploads/u/sent"]


def test_what_a_deleted_data_set_left_is_collected(bench: Bench, put: Callable[..., str]) -> None:
    dataset = bench.dataset({})
    keys = [put(f"datasets/{dataset}/1/report.json")]
    with bench.database.write() as session:
        session.execute(update(WorkItem).values(state=WorkState.DONE))
    assert collected(bench) == len(keys)


def test_several_sweeps_at_once_collect_once(bench: Bench, stored_job: str, put: Callable[..., str]) -> None:
    for number in range(30):
        put(f"jobs/gone-{number}/1/file")
    sweeps = [Sweep(bench.settings.model_copy(update={"orphan_grace_s": HOUR})) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda sweep: sweep.clean(), sweeps))
    assert all(sweep.clean_if_due() == 0 for sweep in sweeps)
    for sweep in sweeps:
        sweep.close()
    assert not list(bench.store.list("jobs/gone"))
    assert_whole(bench)
    assert bench.get(Job, stored_job).status == "cancelled"


@pytest.mark.usefixtures("stored_job")
def test_a_collection_that_forgets_a_kind_of_row_would_be_seen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control of the tests above."""
    assert_whole(bench)
    monkeypatch.setattr(
        "worker.collect.named_in", lambda s, folder, id_: (folder != "jobs" and named_in(s, folder, id_)) or ()
    )
    assert collected(bench) == 2
    with pytest.raises(AssertionError):
        assert_whole(bench)


def test_where_room_is_short_an_ended_attempt_s_objects_go_at_once(
    bench: Bench, put: Callable[..., str], stored_job: str
) -> None:
    """Not what rows name, what an attempt in work uploads, or what no attempt has written."""
    in_work: str = bench.job(dataset=bench.dataset({}))
    with bench.database.write() as session:
        waiting = update(WorkItem).where(WorkItem.subject_id == in_work)
        session.execute(waiting.values(state=WorkState.LEASED, fence=2, lease_until=time.time() + HOUR))
    left = [put(f"jobs/{stored_job}/1/checkpoints/step-2/model", 0), put(f"jobs/{in_work}/1/files/5/r.html", 0)]
    put(f"jobs/{in_work}/2/checkpoints/step-9/model", 0)
    put("uploads/upload_1/part", 0)
    before = {info.key for info in bench.store.list("")}
    assert collect_ended(bench.database, bench.store) == len(left)
    assert before - {info.key for info in bench.store.list("")} == set(left)
    assert_whole(bench)


def test_the_attempt_in_work_is_that_of_a_leased_item(bench: Bench) -> None:
    job_id: str = bench.job(dataset=bench.dataset({}))
    for state, fence in ((WorkState.QUEUED, None), (WorkState.LEASED, 7), (WorkState.DONE, None)):
        with bench.database.write() as session:
            session.execute(update(WorkItem).where(WorkItem.subject_id == job_id).values(state=state, fence=7))
            assert _fence_in_work(session, job_id) == fence


@pytest.mark.parametrize("short", [False, True])
def test_the_store_is_looked_through_for_room_only_where_that_is_short(
    bench: Bench, put: Callable[..., str], stored_job: str, monkeypatch: pytest.MonkeyPatch, *, short: bool
) -> None:
    left = put(f"jobs/{stored_job}/1/checkpoints/step-2/model", 0)
    monkeypatch.setattr(Reserve, "is_short", property(lambda _: short))
    sweep = Sweep(bench.settings)
    assert [sweep.keep_room(), sweep.keep_room()] == [int(short), 0]
    sweep.close()
    assert (left in {info.key for info in bench.store.list("jobs/")}) is not short
