"""A job's length in epochs becomes steps as soon as its images are counted; what is stored then is what runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

JOBS = "/v1/fine_tuning/jobs"
COUNTS = {"num_items": 30, "report": {"class_counts": {"a": 10, "b": 20}}}


def submitted(client: TestClient, file: str, **given: object) -> Any:
    method = {"type": "supervised", "supervised": {"hyperparameters": {"batch_size": 4, **given}}}
    return client.post(JOBS, json={"model": "tiny-dit", "training_file": file, "method": method})


def length(job: dict[str, Any]) -> tuple[object, ...]:
    given = job["method"]["supervised"]["hyperparameters"]
    told = given["max_steps"], given["checkpoint_every_steps"], job["status_details"]["total_steps"]
    return (job["status"], given["epochs"], *told)


@pytest.mark.parametrize("ready_before", [True, False])
def test_a_job_has_its_steps_when_it_is_queued(
    client: TestClient, add_file: Callable[..., str], settle: Callable[..., None], *, ready_before: bool
) -> None:
    file = add_file()
    if ready_before:
        settle(file, **COUNTS)
    job = submitted(client, file, epochs=2).json()
    if not ready_before:
        assert length(job) == ("validating_files", 2, None, None, 0)
        settle(file, **COUNTS)
        job = client.get(f"{JOBS}/{job['id']}").json()
    assert length(job) == ("queued", 2, 14, 4, 14)  # 27 of the 30 images are trained on
    assert job["hyperparameters"]["n_epochs"] == 2
    events = client.get(f"{JOBS}/{job['id']}/events").json()["data"]
    told = [event["message"] for event in events if "epochs" in event["message"]]
    assert told == ["2 epochs of 27 training images are 14 steps of 4 images."]


def test_epochs_wait_for_both_files(
    client: TestClient, add_file: Callable[..., str], settle: Callable[..., None]
) -> None:
    training, held_out = add_file(), add_file(b"others")
    settle(training, **COUNTS)
    method = {"type": "supervised", "supervised": {"hyperparameters": {"batch_size": 4, "epochs": 2}}}
    body = {"model": "tiny-dit", "training_file": training, "validation_file": held_out, "method": method}
    job = client.post(JOBS, json=body).json()
    assert length(job) == ("validating_files", 2, None, None, 0)
    settle(held_out, **COUNTS)
    assert length(client.get(f"{JOBS}/{job['id']}").json())[2] == 15, "all 30 images are trained on"


def test_epochs_that_are_too_many_steps_fail_the_job_that_waited(
    client: TestClient, add_file: Callable[..., str], settle: Callable[..., None]
) -> None:
    file, given = add_file(), {"epochs": 9_000_000}
    job = submitted(client, file, **given).json()
    settle(file, **COUNTS)
    failed = client.get(f"{JOBS}/{job['id']}").json()
    why = {"code": "invalid_option", "param": "method.supervised.hyperparameters.epochs"}
    assert failed["status"] == "failed"
    assert failed["error"] | why == failed["error"]
    answer = submitted(client, file, **given)
    assert answer.status_code == 422
    assert answer.json()["error"] | why == answer.json()["error"]


def test_epochs_and_steps_are_not_both_taken_but_for_a_job_that_is_shown(
    client: TestClient, add_file: Callable[..., str], settle: Callable[..., None]
) -> None:
    file = add_file()
    settle(file, **COUNTS)
    refused = submitted(client, file, epochs=2, max_steps=9)
    assert refused.status_code == 422
    assert refused.json()["error"]["param"] == "method.supervised.hyperparameters.epochs"
    shown = submitted(client, file, epochs=2).json()
    body = {"model": "tiny-dit", "training_file": file, "method": shown["method"]}
    assert length(client.post(JOBS, json=body).json()) == length(shown)


def test_a_comparison_has_its_budget_in_steps(client: TestClient, ready: str) -> None:
    method = {"type": "supervised", "supervised": {"hyperparameters": {"epochs": 2}}}
    methods = [{"name": name, "method": method} for name in ("a", "b")]
    body = {"model": "tiny-dit", "training_file": ready, "methods": methods, "seeds": [0]}
    answer = client.post("/v1/comparisons", json=body)
    param = "methods.0.method.supervised.hyperparameters.epochs"
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, param)
