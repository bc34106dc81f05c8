"""Slots and GPUs, with a stand-in for the driver's program: no GPU is needed."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from api.jobs.models import Job
from api.settings import Settings
from api.subjects.models import ResultFile
from api.work import repository
from api.work.gpu_uses import lately_told
from api.work.models import GpuUse, WorkerCapacity
from worker.gpus import CPU, gpus_of

Bench = Any  # the class of conftest.py
HEALTHY = "300, 81559, 0"


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file for each GPU: what `nvidia-smi` says of it; without one it fails."""
    folder = tmp_path / "driver"
    folder.mkdir()
    program = folder / "nvidia-smi"
    program.write_text(f'#!/bin/sh\ncat "{folder}/${{1#--id=}}"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def test_slots_follow_the_devices(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    given = gpus_of(settings.model_copy(update={"gpu_devices": ["GPU-a", "GPU-b"]}))
    assert (given.slots, given.of_slot(1)) == (2, "GPU-b")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,7")
    assert [gpus_of(settings).of_slot(n) for n in range(4)] == ["3", "5", "7", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    none = gpus_of(settings)
    assert (none.slots, none.of_slot(0)) == (1, None)


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        (HEALTHY, None),
        ("300, 81559, [N/A]", None),
        ("40000, 81559, 0", "in use by others: 40000 of 81559 MiB"),
        ("300, 81559, 2", "2 uncorrected memory errors"),
        ("No devices were found", "not described as expected"),
        (None, "does not answer"),
    ],
)
def test_a_gpu_is_looked_at_before_it_gets_a_job(
    settings: Settings, driver: Path, said: str | None, fault: str | None
) -> None:
    if said is not None:
        (driver / "0").write_text(said)
    found = gpus_of(settings.model_copy(update={"gpu_devices": ["0"]})).fault_of(0)
    assert found is None if fault is None else fault in (found or "")


def test_slots_that_share_a_gpu_may_find_each_other_on_it(settings: Settings, driver: Path) -> None:
    (driver / "0").write_text("40000, 81559, 0")
    assert gpus_of(settings.model_copy(update={"gpu_devices": ["0"], "gpu_slots": 2})).fault_of(1) is None


def test_the_database_is_told_what_the_workers_own_gpus_do(bench: Bench, driver: Path) -> None:
    program = driver / "nvidia-smi"
    program.write_text("""#!/bin/sh
echo "0, GPU-a, NVIDIA H200, 1024, 81559, 97, 54"
echo "1, GPU-b, NVIDIA H200, 300, 81559, [N/A], [N/A]"
echo "2, GPU-c, NVIDIA H200, 300, 81559, 0, 30"
echo "No devices were found"
""")
    bench.settings = bench.settings.model_copy(update={"gpu_devices": ["0", "GPU-b"]})
    with bench.worker():
        told = bench.wait(lambda: uses(bench))
    assert {one.gpu: (one.name, one.memory_used, one.utilization, one.temperature) for one in told} == {
        "0": ("NVIDIA H200", 1 << 30, 0.97, 54.0),
        "GPU-b": ("NVIDIA H200", 300 << 20, None, None),
    }


def test_a_worker_whose_slots_are_all_taken_is_not_forgotten(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.telling._EVERY_S", 0.1)
    job_id = bench.job({"steps": 100_000, "step_s": 0.02, "every": 100_000})

    def devices() -> list[tuple[str, int | None]]:
        with bench.database.read() as session:
            return repository.devices(session)

    with bench.worker():
        bench.wait(lambda: bench.get(Job, job_id).step > 0)
        with bench.database.write() as session:
            session.execute(update(WorkerCapacity).values(seen_at=WorkerCapacity.seen_at - 3600))
        assert bench.wait(devices)[0][0] == CPU
        bench.cancel(job_id)


def test_a_driver_that_does_not_answer_tells_nothing(settings: Settings, driver: Path) -> None:
    (driver / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    assert gpus_of(settings.model_copy(update={"gpu_devices": ["0"]})).uses("w") == []


def uses(bench: Bench) -> list[GpuUse]:
    with bench.database.read() as session:
        return lately_told(session)


def test_each_child_sees_the_gpu_of_its_slot_and_a_faulty_one_gets_none(bench: Bench, driver: Path) -> None:
    (driver / "0").write_text("300, 81559, 7")
    (driver / "1").write_text(HEALTHY)
    bench.settings = bench.settings.model_copy(update={"gpu_devices": ["0", "1"]})
    jobs = [bench.job({"steps": 2}) for _ in range(2)]
    with bench.worker():
        for job_id in jobs:
            bench.wait_final(job_id)
    first, second = (bench.attempts(job_id)[0] for job_id in jobs)
    assert first.ended_at < second.started_at, "one after the other, on the healthy one"
    assert {seen_gpu(bench, job_id) for job_id in jobs} == {"1"}


def seen_gpu(bench: Bench, job_id: str) -> str:

    [report] = bench.rows(ResultFile, job_id)
    return json.loads(b"".join(bench.store.read(report.key)))["environment"]["CUDA_VISIBLE_DEVICES"]
