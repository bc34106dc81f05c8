"""Analyses by a real child that samples from the bundled tiny model and from a checkpoint of it."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select

from api.analyses import service
from api.analyses.kind import ANALYSES
from api.analyses.models import Analysis
from api.analyses.schemas import AnalysisCreate
from api.base_models import service as models
from api.datasets.models import Dataset
from api.jobs import service as jobs
from api.jobs.models import Checkpoint
from api.jobs.service import Submission
from api.jobs.states import JobStatus
from api.settings import Settings
from api.subjects.models import ResultFile
from api.work.models import WorkItem
from api.work.states import WorkState
from difftune_core.checkpoint.save import save_checkpoint
from difftune_core.checkpoint.state import new_state
from difftune_core.config.resolution import resolve
from difftune_core.config.transfer import TransferConfig
from difftune_core.data.dataset import open_dataset
from difftune_core.families.dit.label_rows import with_classes
from difftune_core.families.table import find_base_model
from difftune_core.files import sha256_file
from tests.core.conftest import written

Bench = Any  # the class of conftest.py
STEPS = 2


@pytest.fixture
def real(settings: Settings, bench: Bench) -> Iterator[Bench]:
    made = type(bench)(settings.model_copy(update={"trainer_command": [], "stop_grace_s": 60.0}))
    yield made
    made.close()


def archive(seed: int, per_class: int) -> bytes:
    """Two classes of noise."""
    rng = np.random.default_rng(seed)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for i in range(2 * per_class):
            image = io.BytesIO()
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(image, "PNG")
            file.writestr(f"{'ab'[i % 2]}/{i:03d}.png", image.getvalue())
    return buffer.getvalue()


def add_dataset(bench: Bench, content: bytes) -> str:
    id_ = bench.dataset({"errors": []})
    stored = bench.store.put_stream(f"uploads/{id_}/zip", [content])
    with bench.database.write() as session:
        row = session.get_one(Dataset, id_)
        row.parts, row.sha256 = [{"key": stored.key, "bytes": stored.bytes}], stored.sha256
    return id_


def trained(bench: Bench, tmp_path: Path, **evaluation: Any) -> str:
    """A job's checkpoint of two classes, as a trainer leaves it, and the job's rows."""
    data, held_out = add_dataset(bench, archive(1, 6)), add_dataset(bench, archive(2, 8))
    given = TransferConfig.model_validate(
        {
            "model": "tiny-dit",
            "method": {"type": "supervised"},
            "evaluation": {"num_images": 12, "num_inference_steps": 2, **evaluation},
        }
    )
    base = find_base_model("tiny-dit", bench.settings.model_roots)
    (tmp_path / "digits.zip").write_bytes(archive(1, 6))
    state = new_state(with_classes(base.load_dit(), 2, "reuse_rows"), given.method.hyperparameters, seed=0)
    state.step = STEPS
    identity = {"base_model": base.card.digest, "training_data": open_dataset(tmp_path / "digits.zip").digest}
    event = save_checkpoint(state, tmp_path, identity=identity, envelope={}, write_config=written)
    with bench.database.write() as session:
        config = resolve(given, base.card, num_threads=1)
        job = jobs.create(session, "t", Submission(config, data, held_out))
        for status in (JobStatus.RUNNING, JobStatus.SUCCEEDED):
            job.set_status(status)
        item = session.scalars(select(WorkItem).where(WorkItem.subject_id == job.id)).one()
        item.state = WorkState.DONE
        files = [_stored(bench, tmp_path / event.name, file.path, file.sha256) for file in event.files]
        row = {"tenant_id": "t", "job_id": job.id, "step": STEPS, "fence": 1, "created_at": 1.0, "files": files}
        session.add(Checkpoint(**row, id="ckpt_1", name=event.name))
    return "ckpt_1"


def _stored(bench: Bench, folder: Path, name: str, sha256: str) -> dict[str, Any]:
    stored = bench.store.put_file(f"checkpoints/{name}", folder / name, content_type="application/octet-stream")
    return {"name": name, "key": stored.key, "bytes": stored.bytes, "sha256": sha256}


def ask(bench: Bench, checkpoint_id: str, **evaluation: Any) -> str:
    body = {"type": "chain_of_forgetting", "checkpoints": [checkpoint_id], "fractions": [0.0, 0.5, 1.0]}
    asked = AnalysisCreate.model_validate({**body, "evaluation": evaluation})
    with bench.database.write() as session:
        tuned = service.checked(session, "t", [checkpoint_id], models.cards(bench.settings, bench.store))
        return service.create(session, "t", asked.config(tuned[0].job), tuned, None).id


def settled(bench: Bench, analysis_id: str) -> Analysis:
    final = {"succeeded", "failed", "cancelled"}
    bench.wait(lambda: bench.get(Analysis, analysis_id).status in final, 180)
    analysis: Analysis = bench.get(Analysis, analysis_id)
    return analysis


def files(bench: Bench, analysis_id: str) -> dict[str, ResultFile]:
    with bench.database.read() as session:
        rows = session.scalars(select(ResultFile).where(ResultFile.subject_id == analysis_id))
        return {row.filename: row for row in rows}


def test_an_analysis_from_the_request_to_its_report(real: Bench, tmp_path: Path) -> None:
    imported = real.settings.data_dir / "models" / "own-features"
    shutil.copytree(real.settings.bundled_models / "tiny-features", imported)
    card = json.loads((imported / "card.json").read_text())
    (imported / "card.json").write_text(json.dumps({**card, "id": "own-features"}))
    checkpoint_id = trained(real, tmp_path, feature_extractors=["own-features", "tiny-features"])
    analysis_id = ask(real, checkpoint_id, num_images=10)
    with real.database.write() as session:  # only a resume needs it, and old checkpoints lose it
        row = session.get_one(Checkpoint, checkpoint_id)
        row.files = [file for file in row.files if file["name"] != "resume.safetensors"]
    with real.worker():
        analysis = settled(real, analysis_id)
    assert analysis.status == "succeeded", analysis.error_message
    assert (analysis.done, analysis.total) == (30, 30)
    found = files(real, analysis_id)
    assert {row.kind for row in found.values()} == {"report_json", "report_html", "samples"}
    for row in found.values():
        (tmp_path / row.filename).write_bytes(b"".join(real.store.read(row.key)))
        assert sha256_file(tmp_path / row.filename) == row.sha256
    result = json.loads((tmp_path / "chain.json").read_text())
    (line,) = result["checkpoints"]
    assert (line["name"], line["step"]) == ("supervised", STEPS)
    assert [(p["fraction"], p["base_steps"], p["num_fake"]) for p in line["points"]] == [
        (0.0, 0, 10),
        (0.5, 1, 10),
        (1.0, 2, 10),
    ]
    assert all(p["fid"] > 0 and p["fid_se"] > 0 for p in line["points"])
    assert result["recipe"]["base_model_labels"] == "null"
    assert result["recipe"]["feature_extractor"] == "own-features", "the one by which the job was judged"
    page = (tmp_path / "chain.html").read_text()
    assert "FID on held-out images" in page
    assert "<script" not in page
    with Image.open(tmp_path / "chain.png") as picture:
        assert picture.height > 3 * 64
    assert not real.workspace(analysis_id).exists()
    assert real.reasons(analysis_id) == ["succeeded"]


@pytest.mark.long
def test_an_attempt_that_was_killed_is_followed_by_another_and_a_cancelled_one_is_not(
    real: Bench, tmp_path: Path
) -> None:
    checkpoint_id = trained(real, tmp_path)
    analysis_id = ask(real, checkpoint_id, num_images=200)
    with real.worker():
        real.wait(lambda: real.get(Analysis, analysis_id).done > 0, 120)
        pid = real.child_pid(analysis_id)
        os.kill(pid, signal.SIGKILL)
        real.wait(lambda: len(real.reasons(analysis_id)) > 1, 120)
        real.wait(lambda: real.get(Analysis, analysis_id).status == "running", 120)
        with real.database.write() as session:
            ANALYSES.cancel(session, "t", analysis_id)
        real.wait(lambda: real.item(analysis_id).state == WorkState.DONE, 120)
    assert real.get(Analysis, analysis_id).status == "cancelled"
    assert real.reasons(analysis_id) == ["killed", "cancelled"]
    assert files(real, analysis_id) == {}


def test_a_checkpoint_of_another_base_model_fails_with_both_digests(real: Bench, tmp_path: Path) -> None:
    checkpoint_id = trained(real, tmp_path)
    with real.database.write() as session:
        row = session.get_one(Checkpoint, checkpoint_id)
        changed = {file["name"]: dict(file) for file in row.files}
        manifest = json.loads(b"".join(real.store.read(changed["manifest.json"]["key"])))
        ours, manifest["identity"]["base_model"] = manifest["identity"]["base_model"], "f" * 64
        stored = real.store.put_stream("elsewhere/manifest.json", [json.dumps(manifest).encode()])
        changed["manifest.json"] |= {"key": stored.key, "bytes": stored.bytes, "sha256": stored.sha256}
        row.files = list(changed.values())
    analysis_id = ask(real, checkpoint_id)
    with real.worker():
        analysis = settled(real, analysis_id)
    assert (analysis.status, analysis.error_code) == ("failed", "checkpoint_mismatch")
    assert "f" * 64 in str(analysis.error_message)
    assert ours in str(analysis.error_message)
    assert real.item(analysis_id).state == WorkState.DONE
