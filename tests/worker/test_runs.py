from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text, update

from api.jobs.models import Checkpoint, Event, Job, Metric
from api.subjects.models import ResultFile
from api.work.models import WorkItem
from api.work.states import WorkState

Bench = Any  # the class of conftest.py


@pytest.mark.both_databases
def test_a_job_runs_to_its_end(bench: Bench) -> None:
    job_id = bench.job({"steps": 12, "every": 5})
    with bench.worker():
        job = bench.wait_final(job_id)
    assert (job.status, job.step, job.recoveries, job.error_code) == ("succeeded", 12, 0, None)
    assert bench.steps(job_id) == [5, 10, 12]
    last = bench.get(Checkpoint, job.fine_tuned_model)
    assert last.step == 12
    assert {f["name"] for f in last.files} == {"model.safetensors", "resume.safetensors", "manifest.json"}
    for file in last.files:
        assert f"/{last.fence}/" in file["key"]
        assert len(b"".join(bench.store.read(file["key"]))) == file["bytes"]
    told = {(m.name, m.step): m.value for m in bench.rows(Metric, job_id)}
    assert sorted(step for name, step in told if name == "train_loss") == list(range(1, 13))
    images = {step: value for (name, step), value in told.items() if name == "target_images"}
    assert images == {5: 160, 10: 320, 12: 384}, "a checkpoint says how many it has seen, be its step logged or not"
    assert [f.kind for f in bench.rows(ResultFile, job_id)] == ["report_json"]
    assert bench.reasons(job_id) == ["succeeded"]
    assert bench.item(job_id).state == WorkState.DONE
    assert not bench.workspace(job_id).exists()


def test_events_tell_the_story_once_and_in_order(bench: Bench) -> None:
    job_id = bench.job({"steps": 12, "every": 5})
    with bench.worker():
        bench.wait_final(job_id)
    events = sorted(bench.rows(Event, job_id), key=lambda e: e.number)
    assert [e.number for e in events] == list(range(1, len(events) + 1))
    assert [e.data["step"] for e in events if e.type == "metrics"] == list(range(1, 13))
    assert [e.data["step"] for e in events if e.type == "checkpoint"] == [5, 10, 12]
    assert [e.data["phase"] for e in events if e.type == "phase"] == ["training"]
    assert [e.data["status"] for e in events if e.type == "status"][-2:] == ["running", "succeeded"]
    assert events[-1].data == {"status": "succeeded"}


def test_only_the_newest_two_checkpoints_keep_their_resume_files(bench: Bench) -> None:
    job_id = bench.job({"steps": 20, "every": 5})
    with bench.worker():
        bench.wait_final(job_id)
    rows = sorted(bench.rows(Checkpoint, job_id), key=lambda c: c.step)
    assert [c.resume_available for c in rows] == [False, False, True, True]
    stored = [o.key.split("/")[-2:] for o in bench.store.list(f"jobs/{job_id}/")]
    assert {folder for folder, name in stored if name == "resume.safetensors"} == {"step-00000015", "step-00000020"}


def test_the_child_sees_no_secret_and_not_our_folder(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFTUNE_S3_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    job_id = bench.job({"steps": 2})
    with bench.worker():
        bench.wait_final(job_id)
    [report] = bench.rows(ResultFile, job_id)
    seen = json.loads(b"".join(bench.store.read(report.key)))
    assert "hush" not in json.dumps(seen)
    assert seen["environment"]["HF_HUB_OFFLINE"] == "1"
    assert seen["environment"]["OMP_NUM_THREADS"] == "1"
    assert seen["folder"] == str(bench.workspace(job_id))
    assert seen["environment"]["HOME"] == seen["folder"]


def test_junk_and_unknown_events_do_no_harm(bench: Bench) -> None:
    job_id = bench.job({"steps": 10, "junk_at": 3})
    with bench.worker():
        assert bench.wait_final(job_id).status == "succeeded"
    assert sum(metric.name == "train_loss" for metric in bench.rows(Metric, job_id)) == 10


@pytest.mark.both_databases
def test_a_killed_child_is_recovered_from_its_last_checkpoint(bench: Bench) -> None:
    job_id = bench.job({"steps": 12, "every": 5, "kill_once_at": 8})
    with bench.worker():
        bench.wait(lambda: bench.get(Job, job_id).recoveries == 1)
        starts = (bench.workspace(job_id) / "out" / "starts").read_text()
        bench.wait(lambda: bench.get(Job, job_id).step >= 6)
        job = bench.wait_final(job_id)
    assert starts == "0\n"
    assert (job.status, job.recoveries) == ("succeeded", 1)
    assert bench.reasons(job_id) == ["killed", "succeeded"]
    assert bench.steps(job_id) == [5, 10, 12]
    assert {c.step: c.fence for c in bench.rows(Checkpoint, job_id)} == {5: 1, 10: 2, 12: 2}
    metrics = [e.data["step"] for e in bench.rows(Event, job_id) if e.type == "metrics"]
    assert sorted(metrics) == list(range(1, 13))


def test_a_crash_loop_ends_as_failed(bench: Bench) -> None:
    job_id = bench.job({"steps": 12, "every": 5, "kill_at": 3})
    with bench.worker():
        job = bench.wait_final(job_id)
    assert (job.status, job.error_code, job.recoveries) == ("failed", "crash_loop", 2)
    assert "SIGKILL" in job.error_message
    assert bench.reasons(job_id) == ["killed"] * 3


def test_crashes_that_get_on_are_no_loop(bench: Bench) -> None:
    """Each attempt saves one checkpoint and dies; twice, where two crashes without progress would be the end."""
    bench.settings = bench.settings.model_copy(update={"max_attempts": 2})
    job_id = bench.job({"steps": 5, "every": 2, "die_after_saves": 1})
    with bench.worker():
        job = bench.wait_final(job_id)
    assert (job.status, job.recoveries) == ("succeeded", 2)


@pytest.mark.parametrize("code", ["diverged", "unheard_of"])
def test_what_would_happen_again_is_not_tried_again(bench: Bench, code: str) -> None:
    job_id = bench.job({"steps": 3, "outcome": code})
    with bench.worker():
        job = bench.wait_final(job_id)
    assert (job.status, job.error_code, job.error_message, job.error_param) == ("failed", code, f"it {code}", "method")
    assert bench.reasons(job_id) == [code]
    assert bench.steps(job_id) == [3]


def test_out_of_memory_is_tried_once_more(bench: Bench) -> None:
    job_id = bench.job({"steps": 3, "every": 100, "outcome": "out_of_memory", "no_save": True})
    with bench.worker():
        job = bench.wait_final(job_id)
    assert (job.error_code, job.recoveries) == ("out_of_memory", 1)


def test_a_child_without_a_word_has_crashed(bench: Bench) -> None:
    job_id = bench.job({"steps": 2, "silent": True, "no_save": True})
    with bench.worker():
        job = bench.wait_final(job_id)
    assert (job.error_code, job.recoveries) == ("crash_loop", 2)
    assert bench.reasons(job_id) == ["crashed"] * 3


@pytest.mark.both_databases
def test_cancel_keeps_the_checkpoint_of_the_moment(bench: Bench) -> None:
    job_id = bench.job({"steps": 2000, "every": 100_000, "step_s": 0.02})
    with bench.worker():
        bench.wait(lambda: bench.get(Job, job_id).step > 3)
        bench.cancel(job_id)
        assert bench.status(job_id) == "cancelling"
        job = bench.wait_final(job_id)
    assert job.status == "cancelled"
    [step] = bench.steps(job_id)
    assert step > 3
    assert bench.reasons(job_id) == ["cancelled"]
    assert not bench.workspace(job_id).exists()


def test_a_child_that_does_not_stop_is_killed(bench: Bench, is_alive: Callable[[int], bool]) -> None:
    bench.settings = bench.settings.model_copy(update={"stop_grace_s": 0.3})
    job_id = bench.job({"steps": 2000, "every": 5, "step_s": 0.02, "ignore_stop": True})
    with bench.worker():
        bench.wait(lambda: bench.steps(job_id))
        pid = bench.child_pid(job_id)
        bench.cancel(job_id)
        assert bench.wait_final(job_id).status == "cancelled"
    assert not is_alive(pid)


def test_grandchildren_do_not_outlive_the_child(bench: Bench, is_alive: Callable[[int], bool]) -> None:
    job_id = bench.job({"steps": 300, "every": 1000, "step_s": 0.02, "grandchild_at": 2})
    path = bench.workspace(job_id) / "out" / "grandchild"
    with bench.worker():
        pid = int(bench.wait(lambda: path.exists() and path.read_text()))
        assert is_alive(pid)
        os.kill(bench.child_pid(job_id), signal.SIGKILL)
        bench.wait(lambda: bench.get(Job, job_id).recoveries == 1)
        assert not is_alive(pid)
        bench.cancel(job_id)
        bench.wait_final(job_id)


@pytest.mark.both_databases
def test_drain_saves_and_gives_the_job_back_at_once(bench: Bench) -> None:
    job_id = bench.job({"steps": 150, "every": 100_000, "step_s": 0.02})
    with bench.worker():
        bench.wait(lambda: bench.get(Job, job_id).step > 3)
    job = bench.get(Job, job_id)
    assert (job.status, job.recoveries) == ("queued", 1)
    [step] = bench.steps(job_id)
    assert bench.reasons(job_id) == ["drain"]
    with bench.worker():
        assert bench.wait_final(job_id).status == "succeeded"
    starts = [e.data["step"] for e in bench.rows(Event, job_id) if e.type == "metrics" and e.data["step"] > step]
    assert min(starts) == step + 1


def test_an_unforeseen_failure_shows_no_paths(bench: Bench) -> None:
    job_id = bench.job({"steps": 2, "outcome": "internal_error", "no_save": True})
    with bench.worker():
        job = bench.wait_final(job_id)
    assert (job.error_code, job.error_message) == ("internal_error", "The trainer failed in an unforeseen way.")
    assert job.recoveries == 1


@pytest.mark.both_databases
def test_another_node_goes_on_from_the_store(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> None:
    job_id = bench.job({"steps": 60, "every": 10, "step_s": 0.02})
    with bench.worker():
        bench.wait(lambda: bench.steps(job_id))
    reached = max(bench.steps(job_id))
    bench.workspace(job_id).rename(tmp_path_factory.mktemp("elsewhere") / "work")
    with bench.worker():
        starts = bench.workspace(job_id) / "out" / "starts"
        assert int(bench.wait(lambda: starts.exists() and starts.read_text())) == reached
        assert bench.wait_final(job_id).status == "succeeded"


@pytest.mark.both_databases
def test_a_lost_lease_kills_the_child_and_writes_nothing(bench: Bench, is_alive: Callable[[int], bool]) -> None:
    job_id = bench.job({"steps": 2000, "every": 5, "step_s": 0.02})
    with bench.worker():
        bench.wait(lambda: bench.steps(job_id))
        pid = bench.child_pid(job_id)
        with bench.database.write() as session:
            session.execute(update(WorkItem).values(fence=WorkItem.fence + 1))
        bench.wait(lambda: not is_alive(pid))
        time.sleep(0.2)
        before = len(bench.rows(Event, job_id))
        time.sleep(0.5)
        assert len(bench.rows(Event, job_id)) == before
    assert bench.status(job_id) == "running"


@pytest.mark.both_databases
def test_a_supervisor_that_cannot_renew_ends_its_child(bench: Bench, is_alive: Callable[[int], bool]) -> None:
    """The database is locked for longer than two thirds of the lease: the child must be gone before the lease is."""
    bench.hurry()
    job_id = bench.job({"steps": 2000, "every": 1000, "step_s": 0.02})
    with bench.worker():
        bench.wait(lambda: bench.get(Job, job_id).step > 3)
        pid = bench.child_pid(job_id)
        with bench.database.write() as session:
            session.execute(text("SELECT 1"))  # from here nobody else can write, on SQLite
            if not bench.database.is_sqlite:
                session.execute(text("LOCK TABLE work_items"))
            began = time.monotonic()
            bench.wait(lambda: not is_alive(pid))
            took = time.monotonic() - began
    assert took < bench.settings.lease_s
    assert took > 0.5 * bench.settings.lease_s


def test_a_supervisor_that_breaks_off_takes_its_trainer_with_it(
    bench: Bench, is_alive: Callable[[int], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.settings = bench.settings.model_copy(update={"max_attempts": 1})
    job_id = bench.job({"steps": 4000, "every": 100_000, "step_s": 0.02})  # on its own it would go on for 80 s
    children: list[int] = []

    def breaks(*_: object) -> None:
        children.append(bench.child_pid(job_id))
        raise RuntimeError

    monkeypatch.setattr("worker.publish.Publisher.handle", breaks)
    with bench.worker():
        began = time.monotonic()
        job = bench.wait_final(job_id)
        took = time.monotonic() - began
    assert (job.status, job.error_code) == ("failed", "supervisor_error")
    assert not any(is_alive(pid) for pid in children)
    assert took < 60
