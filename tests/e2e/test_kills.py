"""Kill -9 of the trainer, then of the whole worker: the job goes on and nothing of the old worker is left."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import Service, image_zip


def trainers(data_dir: Path) -> list[int]:
    """Processes that train inside this stack's data folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode()
            except (OSError, UnicodeDecodeError):
                continue
            if "difftune_core" in command and str(data_dir) in command:
                found.append(int(entry.name))
    return found


def gone(pids: list[int], timeout_s: float = 30) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.long
def test_a_job_survives_the_death_of_its_trainer_and_of_its_worker(service: Service) -> None:
    file_id = service.upload(image_zip())
    job = service.submit(file_id, hyperparameters={"max_steps": 240, "checkpoint_every_steps": 20})
    service.wait(job.id, lambda j: j.status_details["step"] >= 25)
    (trainer,) = trainers(service.data_dir)
    os.kill(trainer, signal.SIGKILL)
    service.wait(job.id, lambda j: j.recoveries >= 1 and j.status_details["step"] >= 65)

    old = trainers(service.data_dir)
    worker = json.loads((service.data_dir / "stack.json").read_text())["pids"]["worker"]
    os.kill(worker, signal.SIGKILL)
    assert gone([worker, *old]), "the trainer of a dead worker ends by itself"

    finished = service.finished(job.id, timeout_s=300)
    assert finished.status == "succeeded", finished.error
    assert finished.recoveries == 2
    starts = [attempt["start_step"] for attempt in finished.attempts]
    assert starts[0] == 0
    assert starts[1] >= 20
    assert starts[2] >= 60
    steps = [c.step_number for c in service.client.fine_tuning.jobs.checkpoints.list(job.id, limit=50)]
    assert len(steps) == len(set(steps)) == 12
    values = service.http.get(f"/v1/fine_tuning/jobs/{job.id}/metrics", params={"name": "train_loss"}).json()["data"]
    assert [value["step"] for value in values] == list(range(5, 241, 5)), "what nobody heard is told again"
