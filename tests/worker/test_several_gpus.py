"""Jobs of several GPUs: as many slots of one worker at once, or none."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from api.ids import new_id
from api.jobs import service as jobs
from api.jobs.models import Event, Job
from api.jobs.service import Submission
from api.settings import Settings
from api.subjects.models import ResultFile
from api.work import repository
from api.work import service as work
from api.work.models import WorkItem
from api.work.repository import Wants
from api.work.states import Slot, WorkKind
from difftune_core.config.run import ResourcesConfig
from difftune_core.networks.dit import DiT
from tests.core.conftest import CONFIG
from tests.core.runs import toy_folders
from worker.gpus import Gpus, gpus_of
from worker.slots import Slots

Bench = Any  # the class of conftest.py
KINDS = list(WorkKind)


def with_gpus(bench: Bench, count: int, **settings: Any) -> None:
    devices = [str(number) for number in range(count)]
    bench.settings = bench.settings.model_copy(update={"gpu_devices": devices, **settings})


def seen_gpus(bench: Bench, job_id: str) -> str:
    [report] = bench.rows(ResultFile, job_id)
    return str(json.loads(b"".join(bench.store.read(report.key)))["environment"]["CUDA_VISIBLE_DEVICES"])


@pytest.mark.both_databases
def test_a_job_has_all_of_its_gpus_and_gives_them_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # no driver's program here
    with_gpus(bench, 3)
    large, small = bench.job({"steps": 2, "gpus": 2}), [bench.job({"steps": 2}) for _ in range(2)]
    with bench.worker():
        for job_id in (large, *small):
            assert bench.wait_final(job_id).status == "succeeded"
    assert len(set(seen_gpus(bench, large).split(","))) == 2
    assert all(len(seen_gpus(bench, job_id).split(",")) == 1 for job_id in small)
    first = bench.attempts(large)[0]
    beside = [bench.attempts(job_id)[0] for job_id in small]
    for attempt in beside:
        if attempt.started_at < first.ended_at and attempt.ended_at > first.started_at:
            assert seen_gpus(bench, large) not in seen_gpus(bench, small[beside.index(attempt)])


def test_a_worker_with_too_few_never_takes_it_and_the_job_says_so(bench: Bench) -> None:
    with bench.worker():
        bench.wait_final(bench.job({"steps": 1}))
        job_id, beside = bench.job({"steps": 2, "gpus": 2}), bench.job({"steps": 2})
        assert bench.wait_final(beside).status == "succeeded"
        assert bench.status(job_id) == "queued"
    warned = [event.message for event in bench.rows(Event, job_id) if event.level == "warn"]
    assert warned == ["No worker is known that has 2 GPU slots (the most that one has: 1); the job waits for one."]
    assert bench.attempts(job_id) == []
    with_gpus(bench, 2)
    with bench.worker():
        assert bench.wait_final(job_id).status == "succeeded"
        fits = bench.job({"steps": 2, "gpus": 2})
        bench.wait_final(fits)
    assert not [event for event in bench.rows(Event, fits) if event.level == "warn"]


@pytest.mark.parametrize(("patience_s", "passes"), [(0.0, False), (600.0, True)])
def test_small_jobs_do_not_pass_by_a_large_one_for_ever(bench: Bench, patience_s: float, passes: bool) -> None:
    """One of two slots is busy; what comes after the large job has the other one only while that is new."""
    with_gpus(bench, 2, preempt_after_s=patience_s)
    busy = bench.job({"steps": 1000, "step_s": 0.2})
    with bench.worker():
        bench.wait(lambda: bench.get(Job, busy).step > 0)
        large, small = bench.job({"steps": 2, "gpus": 2}), bench.job({"steps": 2})
        if passes:
            bench.wait_final(small)
            assert bench.status(large) == "queued"
        else:
            bench.wait(lambda: bench.item(large).held_by)
            assert (bench.status(large), bench.status(small)) == ("queued", "queued")
        bench.cancel(busy)
        assert bench.wait_final(large).status == "succeeded"
        bench.wait_final(small)
    order = sorted((bench.attempts(job_id)[0].started_at, job_id) for job_id in (large, small))
    assert (order[0][1] == small) is passes


@pytest.mark.both_databases
def test_one_worker_gathers_and_another_that_has_enough_takes(bench: Bench) -> None:
    with bench.database.write() as session:
        for slots in (2, 1):
            asked = {"tenant_id": "t", "slot": Slot.GPU, "slots": slots}
            work.enqueue(session, WorkKind.TRAIN, new_id("ftjob"), **asked).created_at = float(slots == 1)

    def gathers(worker_id: str, free: int, total: int, patience_s: float = 0.0) -> bool:
        with bench.database.write() as session:
            wants = Wants(KINDS, Slot.GPU, free, total, images_patience_s=600.0)
            return repository.gathers(session, wants, worker_id, lease_s=60.0, patience_s=patience_s)

    def claim(worker_id: str, free: int) -> int | None:
        with bench.database.write() as session:
            asked = {"kinds": KINDS, "slot": Slot.GPU, "worker_id": worker_id, "lease_s": 60.0}
            item: WorkItem | None = repository.claim(session, free=free, **asked)
            return None if item is None else item.slots

    assert not gathers("small", free=1, total=1)
    assert not gathers("first", free=1, total=2, patience_s=1e12)
    assert [gathers("first", free=1, total=2), gathers("other", free=1, total=2)] == [True, False]
    assert gathers("first", free=1, total=2), "and goes on to"
    assert [claim("small", 1), claim("small", 1)] == [1, None], "the large one is not for who has one slot"
    assert not gathers("third", free=2, total=2)
    assert claim("third", 2) == 2


def test_slots_of_one_gpu_count_once(settings: Settings) -> None:
    gpus = gpus_of(settings.model_copy(update={"gpu_devices": ["a", "b"], "gpu_slots": 4}))
    assert gpus.at_once == 2
    assert gpus.apart([2, 0, 3, 1]) == [2, 3]
    assert gpus.place_of([2, 3]).gpu == "a,b"
    without = Gpus((), 3)
    assert (without.at_once, without.apart([1, 0, 2]), without.place_of([1, 0]).gpu) == (3, [1, 0, 2], None)


def test_a_slot_whose_thread_is_not_ready_any_more_is_taken_along_by_nobody() -> None:
    slots = Slots(Gpus((), 3))
    for slot, ready in ((1, True), (2, True), (2, False)):
        slots.tell(slot, ready=ready)
    with slots.claiming(0) as free:
        assert free == [0, 1]
        slots.take(free)
    with slots.claiming(0) as free:
        assert free == [], "its own is taken"
    slots.give_back([0])
    with slots.claiming(0) as free:
        assert free == [0], "the other is taken still"


def test_no_slot_is_given_twice() -> None:
    """Threads that want one slot or all of them, at once and again."""
    places, held, most = Slots(Gpus((), 4)), [0] * 4, threading.Lock()

    def live(own: int) -> int:
        worked = 0
        for turn in range(300):
            if not places.is_taken(own):
                places.tell(own, ready=True)
            with places.claiming(own) as free:
                wanted = 4 if (turn + own) % 3 == 0 else 1
                used = places.take(free[:wanted]) if len(free) >= wanted else []
            with most:
                for slot in used:
                    held[slot] += 1
                assert max(held) <= 1
            with most:
                for slot in used:
                    held[slot] -= 1
            places.give_back(used)
            worked += len(used)
        return worked

    with ThreadPoolExecutor(4) as pool:
        counts: list[int] = list(pool.map(live, range(4)))
    assert sum(counts) > 0
    checks: Callable[[int], bool] = places.is_taken
    assert not any(map(checks, range(4)))


@pytest.mark.long
def test_a_killed_process_of_several_costs_no_job(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The real trainer, on two slots of the CPU."""
    torch.manual_seed(0)
    toy = toy_folders(DiT(CONFIG), tmp_path_factory.mktemp("toy"))
    prompts = {"type": "vpt", "num_tokens": 3}  # no export, which takes most of the time
    config = toy.config(evaluation={"every_steps": None}, adapter=prompts)
    config = config.model_copy(update={"resources": ResourcesConfig(gpus=2)})
    archive = Path(shutil.make_archive(str(toy.root / "images"), "zip", toy.data))
    changes = {"trainer_command": [], "model_dirs": [toy.models], "gpu_slots": 2}
    bench.settings = bench.settings.model_copy(update=changes)
    with bench.database.write() as session:
        job_id = jobs.create(session, "t", Submission(config, bench.dataset(archive.read_bytes()))).id
    with bench.worker():
        pid = bench.child_pid(job_id)
        children = Path(f"/proc/{pid}/task/{pid}/children")
        [other] = bench.wait(lambda: children.read_text().split(), 600)
        os.kill(int(other), signal.SIGKILL)
        job = bench.wait_final(job_id, 600)
    assert (job.status, job.recoveries, job.step) == ("succeeded", 1, 4), job.error_message
    assert bench.reasons(job_id) == ["killed", "succeeded"]
    told = [event.message for event in bench.rows(Event, job_id)]
    assert "The trainer's process 1 was killed by SIGKILL. Waiting for another attempt." in told
