"""What a job will need, asked before it is submitted; and the refusal of what no known worker could do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from starlette.testclient import TestClient

from api.deps import Services
from api.idempotency.models import IdempotencyKey
from api.jobs.models import Event, Job
from api.jobs.planning import _adapters
from api.jobs.states import JobStatus
from api.work import repository
from api.work.models import Attempt, WorkItem
from api.work.states import WorkKind
from cli import probing
from difftune_core.config.card import BaseModelCard
from tests.api.conftest import CARD

GIB = 1 << 30
Problem = Callable[..., dict[str, Any]]
JOBS = "/v1/fine_tuning/jobs"
ANATOMY = {
    "input_size": 32,
    "patch_size": 2,
    "in_channels": 4,
    "hidden_size": 1152,
    "depth": 28,
    "num_heads": 16,
    "num_classes": 1000,
    "autoencoder": {"block_out_channels": [128, 256, 512, 512], "num_parameters": 83_653_863},
}


@pytest.fixture
def large(data_dir: Path) -> None:
    """The base model is one of published size."""
    card = {**CARD, "anatomy": ANATOMY, "image_size": 256, "num_parameters": 675_129_632, "num_classes": 1000}
    (data_dir / "models" / CARD["id"] / "card.json").write_text(json.dumps(card), encoding="utf-8")


def offer(services: Services, memory: int | None, device: str = "NVIDIA A10") -> None:
    with services.database.write() as session:
        repository.offer(session, "w", gpu_slots=1, device=device, device_memory=memory)


def ask(
    client: TestClient, ready: str, *, dry: bool = True, headers: dict[str, str] | None = None, **fields: Any
) -> Any:
    body = {"model": "tiny-dit", "training_file": ready, **fields}
    return client.post(JOBS, json=body, params={"dry_run": dry}, headers=headers)


def test_a_plan_leaves_nothing(client: TestClient, ready: str, services: Services) -> None:
    found = ask(client, ready, headers={"Idempotency-Key": "k"})
    assert (found.status_code, found.json()["object"]) == (200, "fine_tuning.plan")
    assert client.get(JOBS).json()["data"] == []
    with services.database.read() as session:
        counts = [session.scalar(select(func.count()).select_from(row)) for row in (Job, Event, IdempotencyKey)]
        kinds = set(session.scalars(select(WorkItem.kind)))
    assert (counts, kinds) == ([0, 0, 0], {WorkKind.VALIDATE_DATASET})


def test_a_plan_has_the_config_that_the_job_would_have(client: TestClient, ready: str) -> None:
    method = {"type": "supervised", "supervised": {"hyperparameters": {"epochs": 2.0}}}
    planned = ask(client, ready, method=method).json()
    job = ask(client, ready, dry=False, method=method).json()
    assert planned["config"]["method"] == job["method"]
    assert planned["retention_set"]["state"] == "not_used"
    told = {choice["field"] for choice in planned["choices"]}
    assert "method.supervised.hyperparameters.max_steps" in told


def test_a_plan_is_refused_as_the_job_would_be(client: TestClient, ready: str, assert_problem: Problem) -> None:
    where = "method.diff_tuning.hyperparameters.batch_size"
    assert_problem(ask(client, ready, resources={"gpus": 3}), 422, "batch_not_divisible", param=where)
    assert_problem(ask(client, "ds_none"), 422, "dataset_not_found", param="training_file")
    assert ask(client, ready, model="none").status_code == 422


def test_nothing_is_said_of_what_nobody_knows(client: TestClient, ready: str) -> None:
    found = ask(client, ready).json()
    assert (found["device"], found["fits"], found["seconds"]["training"]) == (None, None, None)
    assert found["confidence"] == "parameters"


@pytest.mark.usefixtures("large")
def test_what_no_worker_could_do_is_refused_with_what_would_fit(
    client: TestClient, ready: str, services: Services, assert_problem: Problem
) -> None:
    asked = {"method": {"type": "supervised", "supervised": {"hyperparameters": {"batch_size": 256}}}}
    off = {"activation_checkpointing": "off"}
    asked |= {"resources": {"micro_batch": 256, **off}, "evaluation": {"num_images": 2, "guidance": "none"}}
    assert ask(client, ready, dry=False, **asked).status_code == 200  # nobody knows of a worker
    offer(services, None)
    assert ask(client, ready, dry=False, **asked).status_code == 200  # nobody knows what it has
    offer(services, 40 * GIB)
    for dry in (True, False):
        problem = assert_problem(ask(client, ready, dry=dry, **asked), 422, "does_not_fit", param="resources")
        assert {"resources.micro_batch"} in [set(change) for change in problem["would_fit"]]
    smaller = {**asked, "resources": {"micro_batch": problem["would_fit"][0]["resources.micro_batch"], **off}}
    assert ask(client, ready, dry=False, **smaller).status_code == 200


@pytest.mark.usefixtures("large")
def test_what_is_left_to_auto_becomes_what_fits(client: TestClient, ready: str, services: Services) -> None:
    offer(services, 40 * GIB)
    asked = {"method": {"type": "supervised", "supervised": {"hyperparameters": {"batch_size": 256}}}}
    asked["evaluation"] = {"num_images": 2, "guidance": "none"}
    job = ask(client, ready, dry=False, **asked).json()
    planned = ask(client, ready, **asked).json()
    assert 1 <= job["resources"]["micro_batch"] < 256
    assert planned["fits"] is True
    told = {choice["field"]: choice for choice in planned["choices"]}["resources.micro_batch"]
    assert (told["value"], "would not fit" in told["why"]) == (job["resources"]["micro_batch"], True)


def test_seconds_are_those_of_jobs_that_have_run(
    client: TestClient, ready: str, services: Services, add_job: Callable[..., dict[str, Any]]
) -> None:
    ended(services, add_job()["id"])
    offer(services, 24 * GIB)
    planned = ask(client, ready).json()
    assert (planned["seconds"]["training"], planned["seconds_known_from"]) == (150.0, 1)
    assert planned["retention_set"]["state"] == "cached"
    offer(services, 24 * GIB, device="another")
    assert ask(client, ready).json()["seconds"]["training"] is None


def ended(services: Services, job_id: str, *, steps_at: tuple[float, ...] = (), **metadata: str) -> None:
    """The job has trained from second 1 to 151, and told of its first steps at these times."""
    with services.database.write() as session:
        row = session.get_one(Job, job_id)
        row.metadata_ = metadata
        row.status, row.finished_at, row.step = JobStatus.SUCCEEDED, 161.0, 300
        item = session.scalars(select(WorkItem).where(WorkItem.subject_id == row.id)).one()
        attempt = Attempt(work_item_id=item.id, fence=1, worker_id="w", started_at=1.0, device="NVIDIA A10")
        session.add(attempt)
        for number, (phase, at) in enumerate(
            [("training", 1.0), ("evaluating", 151.0), ("exporting", 160.0)], start=90
        ):
            event = {"level": "info", "type": "phase", "message": phase, "data": {"phase": phase}, "created_at": at}
            session.add(Event(job_id=row.id, number=number, **event))
        for step, at in enumerate(steps_at, start=1):
            event = {"level": "info", "type": "metrics", "message": "", "data": {"step": step}, "created_at": at}
            session.add(Event(job_id=row.id, number=100 + step, **event))


def test_a_probe_tells_seconds_by_its_steps_after_the_first_until_a_job_has_ended(
    client: TestClient, ready: str, services: Services, add_job: Callable[..., dict[str, Any]]
) -> None:
    ended(services, add_job()["id"], steps_at=(100.0, 102.0, 104.0), **probing.METADATA)
    offer(services, 24 * GIB)
    planned = ask(client, ready).json()
    assert planned["seconds"]["training"] == 2.0 * 300
    assert any("by a probe" in note for note in planned["notes"])
    ended(services, add_job()["id"])
    assert ask(client, ready).json()["seconds"]["training"] == 150.0


@pytest.mark.parametrize(
    "stated",
    [
        {},
        {"epochs": 3.0, "warmup_steps": 50, "lr_schedule": "cosine", "retention_set": {"num_images": 5000}},
        {"adapter": {"type": "lora"}, "batch_size": 4, "recipe": "distillation"},
    ],
)
def test_a_probe_is_a_short_job_that_the_service_takes(client: TestClient, ready: str, stated: dict[str, Any]) -> None:
    method = {"type": "diff_tuning", "diff_tuning": {"hyperparameters": stated}}
    body = {"model": "tiny-dit", "training_file": "ds_other", "validation_file": "ds_more", "method": method}
    body["evaluation"] = {"every_steps": 10, "early_stopping": {"patience": 2}, "num_images": 5000, "guidance": "none"}
    made = client.post(JOBS, json=probing.shortened(body, ready)).json()
    hyperparameters = made["method"]["diff_tuning"]["hyperparameters"]
    assert (made["training_file"], made["metadata"], hyperparameters["max_steps"]) == (ready, probing.METADATA, 8)
    assert made["evaluation"]["guidance"] == "none"
    assert hyperparameters["adapter"]["type"] == stated.get("adapter", {"type": "full"})["type"]
    assert all(hyperparameters[name] == stated[name] for name in stated.keys() & {"batch_size", "recipe"})


@pytest.mark.usefixtures("large")
def test_a_comparison_is_judged_as_its_jobs_would_be(
    client: TestClient, ready: str, services: Services, assert_problem: Problem
) -> None:
    def compare(**hyperparameters: Any) -> Any:
        methods = [
            {"name": name, "method": {"type": kind, kind: {"hyperparameters": {"batch_size": 64, **hyperparameters}}}}
            for name, kind in (("plain", "supervised"), ("diff", "diff_tuning"))
        ]
        body = {"model": "tiny-dit", "training_file": ready, "methods": methods, "seeds": [0]}
        return client.post("/v1/comparisons", json={**body, "evaluation": {"num_images": 2}})

    offer(services, GIB)
    assert_problem(compare(), 422, "does_not_fit", param="resources")
    offer(services, 24 * GIB)
    made = compare().json()
    with services.database.read() as session:
        jobs = list(session.scalars(select(Job)))
        counts = [job.transfer.resources.micro_batch for job in jobs]
    assert (made["object"], len(counts), len(set(counts))) == ("comparison", 2, 1)
    assert counts[0] < 64


def test_adapters_that_could_fit_are_those_of_the_family_with_their_defaults() -> None:
    found = _adapters(BaseModelCard.model_validate({**CARD, "digest": "d"}))
    assert {"lora", "difffit"} <= found.keys()
    assert "full" not in found, "it is what did not fit"
    assert all(adapter.type == name for name, adapter in found.items())
