"""Pause and resume by the unmodified `openai` package and by the command line."""

from __future__ import annotations

import json
import subprocess
import sys

import openai
import pytest

from tests.e2e.conftest import Service, image_zip


def command(service: Service, *arguments: str) -> str:
    line = [sys.executable, "-m", "cli", "jobs", *arguments, "--data-dir", str(service.data_dir)]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout


def test_pause_resume_and_cancel(service: Service) -> None:
    job = service.submit(service.upload(image_zip()), hyperparameters={"max_steps": 5000})
    service.wait(job.id, lambda j: j.status_details["step"] >= 5)
    assert service.client.fine_tuning.jobs.pause(job.id).status == "pausing"
    paused = service.wait(job.id, lambda j: j.status == "paused")
    saved = paused.status_details["step"]
    checkpoints = service.client.fine_tuning.jobs.checkpoints.list(job.id).data
    assert paused.status_details["latest_checkpoint"] == checkpoints[0].id
    assert checkpoints[0].step_number == saved
    with pytest.raises(openai.ConflictError):
        service.client.fine_tuning.jobs.pause(job.id)

    row = command(service, "list", "--status", "paused").split(job.id)[1].split()
    assert row[0] == "paused"
    assert f"{saved} of 5000" in " ".join(row)
    assert job.id not in command(service, "list", "--status", "running")
    assert "status        paused" in command(service, "show", job.id)
    assert json.loads(command(service, "show", job.id, "--json"))["id"] == job.id
    assert "resuming" in command(service, "resume", job.id)
    running = service.wait(job.id, lambda j: j.status_details["step"] > saved)
    first, *_, second = running.attempts  # a busy machine may lose one between
    assert (first["reason"], first["end_step"], first["resumed"]) == ("paused", saved, None)
    assert (second["start_step"], second["resumed"], second["changed"]) == (saved, "exact", [])

    assert f"{job.id} is cancelling" in command(service, "cancel", job.id)
    assert service.finished(job.id).status == "cancelled"
