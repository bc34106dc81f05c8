"""Retention sets by a real child that samples from the bundled tiny model."""

from __future__ import annotations

import hashlib
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
from safetensors.torch import load_file

from api.datasets.models import Dataset
from api.datasets.states import DatasetStatus
from api.ids import new_id
from api.jobs import service as jobs
from api.jobs.models import Job
from api.jobs.service import Submission
from api.retention_sets import service
from api.retention_sets.models import RetentionSet
from api.settings import Settings
from api.subjects.models import ResultFile
from difftune_core.config.card import BaseModelCard, read_card
from difftune_core.config.resolution import resolve
from difftune_core.config.retention import RetentionSetConfig
from difftune_core.config.transfer import TransferConfig
from difftune_core.files import COMPUTED
from tests.worker.conftest import Bench
from worker.kinds.retention import cached_retention_set

QUICK = {"num_images": 20, "num_inference_steps": 2}


@pytest.fixture
def real(settings: Settings) -> Iterator[Bench]:
    bench = Bench(settings.model_copy(update={"trainer_command": [], "stop_grace_s": 60.0}))
    yield bench
    bench.close()


@pytest.fixture
def card(settings: Settings) -> BaseModelCard:
    return read_card(settings.bundled_models / "tiny-dit")


def ask(bench: Bench, card: BaseModelCard, tenant: str = "t", **given: Any) -> str:
    wanted = service.sampled(card, RetentionSetConfig.model_validate({**QUICK, **given}))
    with bench.database.write() as session:
        return service.create(session, tenant, card, wanted).id


def settled(bench: Bench, set_id: str, timeout_s: float = 180) -> RetentionSet:
    final = {"succeeded", "failed", "cancelled"}
    bench.wait(lambda: bench.get(RetentionSet, set_id).artifact.status in final, timeout_s)
    return bench.get(RetentionSet, set_id)


def content(bench: Bench, row: RetentionSet) -> bytes:
    assert row.artifact.key is not None
    return b"".join(bench.store.read(row.artifact.key))


def chunks(bench: Bench) -> list[Path]:
    """Of the only set that is being sampled."""
    return sorted((bench.settings.data_dir / "cache" / COMPUTED / "retention").glob(".*.chunks/images-*"))


def images(bench: Bench) -> str:
    """A valid data set of two classes of noise."""
    rng, archive = np.random.default_rng(0), io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for i in range(12):
            png = io.BytesIO()
            Image.fromarray(rng.integers(0, 255, (36, 40, 3), dtype=np.uint8)).save(png, "PNG")
            file.writestr(f"{i % 2}/{i}.png", png.getvalue())
    data, id_ = archive.getvalue(), new_id("ds")
    stored = bench.store.put_stream(f"datasets/{id_}/file", [data])
    row = Dataset(
        id=id_,
        tenant_id="t",
        status=DatasetStatus.READY,
        filename="noise.zip",
        purpose="fine-tune",
        bytes=len(data),
        parts=[{"key": stored.key, "bytes": stored.bytes}],
        sha256=hashlib.sha256(data).hexdigest(),
        num_items=12,
        created_at=1.0,
    )
    with bench.database.write() as session:
        session.add(row)
    return id_


def submit(bench: Bench, card: BaseModelCard, retention_set: object, dataset: str | None = None) -> str:
    given = {"max_steps": 2, "batch_size": 4, "retention_set": retention_set}
    method = {"type": "diff_tuning", "diff_tuning": {"hyperparameters": given}}
    evaluation = {"num_images": 8, "num_inference_steps": 1, "every_steps": None, "holdout_fraction": 0.3}
    config = TransferConfig.model_validate({"model": "tiny-dit", "method": method, "evaluation": evaluation})
    asked = Submission(resolve(config, card, num_threads=1), dataset or images(bench), base_digest=card.digest)
    with bench.database.write() as session:
        return jobs.create(session, "t", asked).id


@pytest.mark.long
def test_a_killed_child_goes_on_and_all_who_ask_share_what_it_makes(real: Bench, card: BaseModelCard) -> None:
    given = {"num_images": 300}
    mine, others = ask(real, card, **given), ask(real, card, "other", **given)
    assert mine != others
    row = real.get(RetentionSet, mine)
    with real.worker():
        pid = real.child_pid(row.artifact_id)
        real.wait(lambda: chunks(real), 120)
        os.kill(pid, signal.SIGKILL)
        row, shared = settled(real, mine), settled(real, others)
    assert (row.status, row.artifact.done, row.artifact.total) == ("succeeded", 300, 300)
    assert shared.artifact_id == row.artifact_id
    assert real.reasons(row.artifact_id) == ["killed", "succeeded"]
    assert chunks(real) == []
    data = content(real, row)
    assert (len(data), hashlib.sha256(data).hexdigest()) == (row.artifact.bytes, row.artifact.sha256)

    shutil.rmtree(real.settings.data_dir / "cache")
    with real.database.write() as session:
        service.delete(session, "t", mine)
    assert content(real, shared) == data, "kept while another tenant has it"
    with real.database.write() as session:
        (key,) = service.delete(session, "other", others)
    assert key == shared.artifact.key
    again = ask(real, card, **given)
    with real.worker():
        whole = settled(real, again)
    assert whole.artifact_id != row.artifact_id
    assert whole.artifact.sha256 == row.artifact.sha256, "the same bytes as without the kill"


@pytest.mark.long
def test_a_job_waits_for_its_set_and_takes_it_from_the_store(real: Bench, card: BaseModelCard) -> None:
    set_id = ask(real, card)
    first = submit(real, card, set_id)
    assert real.status(first) == "validating_files"
    cache = real.settings.data_dir / "cache"
    row = real.get(RetentionSet, set_id)
    with real.worker():
        assert real.wait_final(first, 240).status == "succeeded", real.get(Job, first).error_message
        row = real.get(RetentionSet, set_id)
        assert cached_retention_set(real.settings.data_dir, row.artifact.sha256 or "").exists()
        shutil.rmtree(cache)  # as on another node
        second = submit(real, card, set_id)
        assert real.status(second) == "queued"
        assert real.wait_final(second, 240).status == "succeeded", real.get(Job, second).error_message
    assert cached_retention_set(real.settings.data_dir, row.artifact.sha256 or "").exists()
    sampled = [load_file(path) for path in (cache / COMPUTED / "retention").glob("*/images.safetensors")]
    assert [len(found["labels"]) for found in sampled] == [8], "the judge's images; the set is not sampled again"
    for job_id in (first, second):
        (file,) = [file for file in real.rows(ResultFile, job_id) if file.kind == "report_json"]
        report = json.loads(b"".join(real.store.read(file.key)))
        assert report["retention_set"] == {"id": set_id, "digest": row.artifact.digest, "num_images": 20}
        assert real.get(Job, job_id).retention_digest == row.artifact.digest
    assert len(real.reasons(row.artifact_id)) == 1


@pytest.mark.both_databases
def test_uploaded_images_become_a_set(real: Bench, card: BaseModelCard) -> None:
    dataset_id = images(real)
    with real.database.write() as session:
        wanted = service.uploaded(session, "t", card, dataset_id)
        set_id = service.create(session, "t", card, wanted).id
        assert service.create(session, "t", card, wanted).id == set_id
    with real.worker():
        row = settled(real, set_id)
    assert (row.status, row.artifact.done) == ("succeeded", 12), row.artifact.error_message
    assert real.item(row.artifact_id).slot == "cpu"
    assert b'"settings\\":null' in content(real, row)[:1000]


def test_a_node_with_another_base_model_fails_the_set_and_the_jobs_that_wait(real: Bench, card: BaseModelCard) -> None:
    other = card.model_copy(update={"digest": "0" * 64})
    set_id = ask(real, other)
    job_id = submit(real, other, set_id)
    with real.worker():
        job = real.wait_final(job_id, 120)
    row = real.get(RetentionSet, set_id)
    assert (row.status, row.artifact.error_code) == ("failed", "model_mismatch")
    assert card.digest in str(row.artifact.error_message)
    assert (job.status, job.error_code) == ("failed", "retention_set_failed")
    assert job.error_param == "method.diff_tuning.hyperparameters.retention_set"
    assert set_id in str(job.error_message)
    assert ask(real, other) != set_id, "whoever asks again has it tried again"


@pytest.mark.long
@pytest.mark.both_databases
def test_cancelling_ends_the_child(real: Bench, card: BaseModelCard) -> None:
    set_id = ask(real, card, num_images=100_000)
    row = real.get(RetentionSet, set_id)
    with real.worker():
        real.wait(lambda: chunks(real), 120)
        with real.database.write() as session:
            service.request_cancel(session, "t", set_id)
        real.wait(lambda: real.item(row.artifact_id).state == "done", 60)
    assert real.reasons(row.artifact_id) == ["cancelled"]
    row = real.get(RetentionSet, set_id)
    assert (row.status, row.artifact.status, row.artifact.key) == ("cancelled", "cancelled", None)
    assert chunks(real), "what is sampled is there for whoever asks again"
