"""Images on request by a real worker and a real child, which stays for the next request; jobs of a fake trainer."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select

from api.images import service
from api.images.kind import Generation
from api.images.schemas import GenerationCreate
from api.settings import Settings
from api.subjects.models import ResultFile
from worker.service import Worker
from worker.sweep import Sweep

Bench = Any  # the class of conftest.py
_COMMAND = """
import runpy, sys
if sys.argv[1] == "serve":
    runpy.run_module("difftune_core", run_name="__main__", alter_sys=True)
else:
    runpy.run_path({fake!r}, run_name="__main__")
"""


@pytest.fixture
def drawing(bench: Bench, settings: Settings, tmp_path: Path) -> Bench:
    """A bench whose images are drawn and whose jobs are not trained."""
    script = tmp_path / "command.py"
    script.write_text(_COMMAND.format(fake=settings.trainer_command[1]))
    command = [sys.executable, str(script)]
    bench.settings = settings.model_copy(
        update={"trainer_command": command, "stop_grace_s": 60.0, "preempt_after_s": 0.0}
    )
    return bench


def ask(bench: Bench, **fields: Any) -> str:
    body = GenerationCreate(model="tiny-dit", class_label=3, seed=7, num_inference_steps=2, **fields)
    with bench.database.write() as session:
        return service.create(session, bench.settings, bench.store, "t", body).id


def ended(bench: Bench, generation_id: str) -> Generation:
    bench.wait(lambda: bench.get(Generation, generation_id).status not in {"queued", "running"}, 120)
    row: Generation = bench.get(Generation, generation_id)
    assert row.status == "succeeded", row.error_message
    return row


def images(bench: Bench, generation_id: str) -> dict[str, np.ndarray]:
    with bench.database.read() as session:
        rows = list(session.scalars(select(ResultFile).where(ResultFile.subject_id == generation_id)))
    return {row.filename: np.asarray(Image.open(io.BytesIO(b"".join(bench.store.read(row.key))))) for row in rows}


def pids(worker: Worker) -> list[int]:
    return [idle.child.pid for idle in worker.tools.warm._idle.values()]


def test_a_process_stays_for_the_next_request_and_a_job_ends_it(
    drawing: Bench, is_alive: Callable[[int], bool]
) -> None:
    first = ask(drawing, n=2)
    with drawing.worker() as worker:
        assert ended(drawing, first).done == 2
        (pid,) = drawing.wait(lambda: pids(worker))
        second = ask(drawing, n=1)
        ended(drawing, second)
        assert drawing.wait(lambda: pids(worker)) == [pid]
        found, again = images(drawing, first), images(drawing, second)
        assert list(found) == ["image-0000.png", "image-0001.png"]
        assert found["image-0000.png"].shape == (32, 32, 3)
        assert np.array_equal(found["image-0000.png"], again["image-0000.png"]), "the same seed"
        drawing.wait_final(drawing.job({"steps": 1}))
        assert pids(worker) == []
        assert not is_alive(pid)
    assert not drawing.workspace(first).exists()


@pytest.mark.long
def test_images_in_work_give_way_to_a_job_and_lose_nothing(drawing: Bench) -> None:
    slow = GenerationCreate(model="tiny-dit", class_label=3, seed=7, num_inference_steps=80, n=16)
    with drawing.database.write() as session:
        asked = service.create(session, drawing.settings, drawing.store, "t", slow).id
    sweep = Sweep(drawing.settings)
    with drawing.worker() as worker:
        first = drawing.workspace(asked) / "out" / "image-0000.png"
        drawing.wait(first.exists)
        written = first.stat().st_mtime_ns
        job = drawing.job({"steps": 1})
        assert sweep.preempt() == 1
        worker.look()
        assert drawing.wait_final(job).status == "succeeded"
        assert drawing.get(Generation, asked).status in {"queued", "running"}
        drawing.wait(lambda: drawing.get(Generation, asked).status == "running")
        assert first.stat().st_mtime_ns == written
        ended(drawing, asked)
    sweep.close()
    assert drawing.reasons(asked) == ["preempted", "succeeded"]
    assert len(images(drawing, asked)) == 16


@pytest.mark.long
def test_a_request_that_is_cancelled_in_work_leaves_the_process_to_the_next(drawing: Bench) -> None:
    slow = GenerationCreate(model="tiny-dit", class_label=3, num_inference_steps=1000, n=16)
    with drawing.database.write() as session:
        asked = service.create(session, drawing.settings, drawing.store, "t", slow).id
    with drawing.worker() as worker:
        child = drawing.workspace(asked) / "child.json"
        drawing.wait(lambda: drawing.get(Generation, asked).done or child.exists())
        pid = json.loads(drawing.wait(child.read_text))["pid"]
        with drawing.database.write() as session:
            service.GENERATIONS.cancel(session, "t", asked)
        worker.look()
        assert drawing.wait(lambda: pids(worker)) == [pid]
        ended(drawing, ask(drawing, n=1))
        assert pids(worker) == [pid]
