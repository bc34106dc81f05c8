"""The checkpoint that a job begins with, on its way to the trainer."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from api.jobs.models import Checkpoint, Job
from difftune_core.hooks import TaskError
from worker.beginnings import beginning_arguments

Bench = Any  # the class of conftest.py
NAMES = ("model.safetensors", "config.json", "manifest.json", "resume.safetensors")


@pytest.fixture
def begun(bench: Bench) -> Job:
    """A job that begins with a checkpoint of another one."""
    data = bench.dataset({"steps": 1}, class_names=["a", "b"])
    parent, child = bench.job(dataset=data), bench.job(dataset=data)
    stored = [(name, bench.store.put_stream(f"jobs/{parent}/1/{name}", [name.encode()])) for name in NAMES]
    files = [{"name": name, "key": info.key, "bytes": info.bytes, "sha256": info.sha256} for name, info in stored]
    row = {"tenant_id": "t", "job_id": parent, "step": 1, "fence": 1, "name": "step-1", "created_at": 0.0}
    with bench.database.write() as session:
        session.add(Checkpoint(id="ckpt_1", files=files, **row))
        job = session.get_one(Job, child)
        job.start_checkpoint = "ckpt_1"
        job.lineage = [{"checkpoint": "ckpt_1", "job": parent, "step": 1}]
    found: Job = bench.get(Job, child)
    return found


def given(bench: Bench, job: Job, node: Path) -> Path:
    tools = SimpleNamespace(database=bench.database, store=bench.store, settings=SimpleNamespace(data_dir=node))
    folder = SimpleNamespace(folder=node / "work")
    run: Any = SimpleNamespace(tools=tools, workspace=folder, check=lambda: None, using=lambda _, ensure: ensure())
    option, begun = beginning_arguments(run, job)
    assert option == "--start"
    return Path(begun)


def test_it_is_fetched_once_a_node_without_what_a_resume_needs(bench: Bench, begun: Job, tmp_path: Path) -> None:
    folder = given(bench, begun, tmp_path)
    assert {path.name for path in folder.iterdir()} == {*NAMES[:3], "origin.json"}
    assert (folder / "model.safetensors").read_bytes() == b"model.safetensors"
    origin = json.loads((folder / "origin.json").read_bytes())
    assert origin == {"lineage": begun.lineage, "class_names": ["a", "b"]}
    for info in bench.store.list("jobs/"):
        bench.store.delete(info.key)
    assert given(bench, begun, tmp_path) == folder, "from the cache"
    (folder / "model.safetensors").resolve().write_bytes(b"damaged since")
    with pytest.raises(TaskError) as lost:
        given(bench, begun, tmp_path)
    assert lost.value.code == "object_missing", "it was to be fetched again"


def test_weights_that_are_not_what_was_saved_are_not_begun_with(bench: Bench, begun: Job, tmp_path: Path) -> None:
    key = bench.get(Checkpoint, "ckpt_1").files[0]["key"]
    bench.store.delete(key)
    bench.store.put_stream(key, [b"of another"])
    with pytest.raises(TaskError) as refused:
        given(bench, begun, tmp_path)
    assert refused.value.code == "damaged_file"


def test_a_job_on_a_base_model_has_none(bench: Bench) -> None:
    run: Any = SimpleNamespace()
    assert beginning_arguments(run, bench.get(Job, bench.job())) == []
