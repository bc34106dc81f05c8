"""Sample images of a job on their way into rows, events and store, and back to a node that goes on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from api.jobs import lifecycle
from api.jobs.models import Event
from api.subjects.models import ResultFile
from worker.samples import fetch_samples

Bench = Any  # the class of conftest.py


def test_they_are_stored_as_they_come_once_for_each_step(bench: Bench, tmp_path: Path) -> None:
    job_id = bench.job({"steps": 12, "every": 5, "sample_at": [4, 6, 7], "kill_once_at": 8})
    with bench.worker():
        assert bench.wait_final(job_id).recoveries == 1
    rows = [row for row in bench.rows(ResultFile, job_id) if row.kind == lifecycle.SAMPLE]
    assert sorted((row.step, row.filename) for row in rows) == [(n, f"step-{n:08d}.png") for n in (4, 6, 7)]
    told = [event.data for event in bench.rows(Event, job_id) if event.type == "sample"]
    ids = {row.step: row.id for row in rows}
    assert sorted(told, key=lambda data: data["step"]) == [
        {"step": n, "num_images": 4, "file": ids[n], "url": f"/v1/files/{ids[n]}/content"} for n in (4, 6, 7)
    ]
    another_node(bench, job_id, tmp_path)
    assert {path.name: path.read_text() for path in (tmp_path / "samples").iterdir()} == {
        f"step-{n:08d}.png": f"images {n}" for n in (4, 6, 7)
    }


def test_one_that_is_gone_does_not_keep_the_job_from_going_on(bench: Bench, tmp_path: Path) -> None:
    job_id = bench.job()
    lost = lifecycle.Result("jobs/x/1/a.png", "a.png", 1, "0" * 64, "image/png", kind=lifecycle.SAMPLE, step=0)
    with bench.database.write() as session:
        lifecycle.sample_drawn(session, lifecycle.lock(session, job_id), lost, count=4)
    another_node(bench, job_id, tmp_path)
    assert list((tmp_path / "samples").iterdir()) == []


def another_node(bench: Bench, job_id: str, out: Path) -> None:
    tools = SimpleNamespace(database=bench.database, store=bench.store)
    lease, workspace = SimpleNamespace(subject_id=job_id), SimpleNamespace(out=out)
    run: Any = SimpleNamespace(tools=tools, lease=lease, workspace=workspace, check=lambda: None)
    fetch_samples(run)
