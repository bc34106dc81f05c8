"""How a job is carried out: its GPUs, and which of its checkpoints stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.testclient import TestClient

from api.deps import Services
from api.jobs.models import Checkpoint
from api.work import repository
from api.work.models import WorkItem

Problem = Callable[..., dict[str, Any]]
AUTO = {
    "precision": "auto",
    "micro_batch": "auto",
    "activation_checkpointing": "auto",
    "compile": "auto",
    "optimizer_state": "fp32",
    "average_on": "device",
}


def test_what_is_left_out_is_one_gpu_and_all_checkpoints(add_job: Callable[..., Any]) -> None:
    job = add_job()
    assert (job["resources"], job["checkpoints"]) == ({"gpus": 1, **AUTO}, {"keep_last": None})


def test_a_job_asks_for_as_many_slots_as_gpus(
    client: TestClient, add_job: Callable[..., Any], services: Services
) -> None:
    def told(job: dict[str, Any]) -> list[str]:
        listed = client.get(f"/v1/fine_tuning/jobs/{job['id']}/events", params={"limit": 100}).json()["data"]
        return [event["message"] for event in listed if event["level"] == "warn"]

    job = add_job(resources={"gpus": 4}, checkpoints={"keep_last": 3})
    assert (job["resources"], job["checkpoints"]) == ({"gpus": 4, **AUTO}, {"keep_last": 3})
    with services.database.read() as session:
        assert session.query(WorkItem).filter(WorkItem.subject_id == job["id"]).one().slots == 4
    assert told(job) == ["No worker is known that has 4 GPU slots (the most that one has: 0); the job waits for one."]
    with services.database.write() as session:
        repository.offer(session, "w", gpu_slots=4)
    assert told(add_job(resources={"gpus": 4})) == []


def test_what_cannot_be_is_refused_by_its_field(client: TestClient, ready: str, assert_problem: Problem) -> None:
    def send(**fields: Any) -> Any:
        return client.post("/v1/fine_tuning/jobs", json={"model": "tiny-dit", "training_file": ready, **fields})

    where = "method.diff_tuning.hyperparameters.batch_size"
    assert_problem(send(resources={"gpus": 3}), 422, "batch_not_divisible", param=where)
    assert send(resources={"gpus": 0}).status_code == 422
    assert send(resources={"precision": "fp8"}).status_code == 422
    assert send(resources={"micro_batch": 0}).status_code == 422
    assert send(checkpoints={"keep_last": 0}).status_code == 422


def test_a_download_is_noted(client: TestClient, add_job: Callable[..., Any], services: Services) -> None:
    """So that the checkpoint stays until it is over."""
    job_id = add_job()["id"]
    info = services.store.put_stream("jobs/j/1/model.safetensors", [b"weights"])
    files = [{"name": "model.safetensors", "key": info.key, "bytes": info.bytes, "sha256": info.sha256}]
    row = {"tenant_id": "default", "job_id": job_id, "step": 5, "fence": 1, "created_at": 1.0, "name": "step-5"}
    with services.database.write() as session:
        session.add(Checkpoint(**row, id="ckpt_1", files=files))
    link = client.get("/v1/checkpoints/ckpt_1/download", params={"redirect": False}).json()
    with services.database.read() as session:
        noted = session.get_one(Checkpoint, "ckpt_1").linked_until
    assert noted is not None
    assert int(noted) == link["expires_at"]
