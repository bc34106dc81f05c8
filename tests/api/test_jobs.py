from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from api.datasets.states import DatasetStatus
from api.deps import Services
from api.jobs.states import JobStatus
from api.work.models import WorkItem
from api.work.states import WorkState

pytestmark = pytest.mark.both_databases

JOBS = "/v1/fine_tuning/jobs"
Problem = Callable[..., dict[str, Any]]


def work_of(services: Services, job_id: str) -> list[WorkItem]:
    with services.database.read() as session:
        return session.query(WorkItem).filter(WorkItem.subject_id == job_id).all()


def claim(session: Session, job_id: str) -> WorkItem:
    """As a worker's claim leaves the rows."""
    item = session.query(WorkItem).filter(WorkItem.subject_id == job_id).one()
    item.state, item.fence = WorkState.LEASED, item.fence + 1
    return item


def test_a_job_on_a_ready_set_is_queued_with_its_work(add_job: Callable[..., Any], services: Services) -> None:
    job = add_job(priority=3, suffix="digits", metadata={"team": "vision"})
    assert (job["object"], job["status"], job["organization_id"]) == ("fine_tuning.job", "queued", "default")
    assert (job["suffix"], job["metadata"], job["priority"]) == ("digits", {"team": "vision"}, 3)
    (item,) = work_of(services, job["id"])
    assert (item.kind, item.slot, item.priority, item.state) == ("train", "gpu", 3, "queued")
    assert item.rung_at is not None
    assert job["status_details"]["queue_position"] == 1


def test_defaults_come_from_the_card_and_are_echoed(add_job: Callable[..., Any]) -> None:
    job = add_job(method={"type": "diff_tuning", "diff_tuning": {"hyperparameters": {"tau": 0.5}}}, seed=7)
    stored = job["method"]["diff_tuning"]["hyperparameters"]
    assert (stored["tau"], stored["max_steps"], stored["batch_size"]) == (0.5, 300, 16)
    assert stored["horizontal_flip"] is False
    assert stored["retention_set"]["num_images"] == 64
    assert stored["ema_decay"] == pytest.approx(0.99209, abs=1e-5)  # exp(-1 / (0.42 * 300))
    assert (job["seed"], job["num_threads"], job["evaluation"]["num_images"]) == (7, 1, 128)
    assert job["status_details"]["total_steps"] == 300
    assert job["hyperparameters"]["batch_size"] == 16


def test_what_openai_clients_may_send_is_taken(add_job: Callable[..., Any]) -> None:
    assert add_job(integrations=None, hyperparameters=None)["integrations"] is None


_DIFF = {"type": "diff_tuning"}


_BAD_FIELDS: list[tuple[dict[str, Any], str, str]] = [
    (
        {"method": {**_DIFF, "diff_tuning": {"hyperparameters": {"tau": -1}}}},
        "#/method/diff_tuning/hyperparameters/tau",
        "invalid_value",
    ),
    (
        {"method": {"type": "supervised", "supervised": {"hyperparameters": {"max_steps": 0}}}},
        "#/method/supervised/hyperparameters/max_steps",
        "invalid_value",
    ),
    (
        {"method": {"type": "supervised", "supervised": {"hyperparameters": {"tau": 1}}}},
        "#/method/supervised/hyperparameters/tau",
        "unknown_field",
    ),
    (
        {"method": {**_DIFF, "diff_tuning": {"hyperparameters": {"retention_set": {"num_images": 0}}}}},
        "#/method/diff_tuning/hyperparameters/retention_set/num_images",
        "invalid_value",
    ),
    ({"method": {"type": "dpo"}}, "#/method", "unknown_method"),
    ({"method": {**_DIFF, "diff_tuning": 5}}, "#/method/diff_tuning", "invalid_value"),
    ({"model": "no-such-model"}, "#/model", "model_not_found"),
    ({"model": "../etc"}, "#/model", "invalid_value"),
    ({"training_file": "ds_nope"}, "#/training_file", "dataset_not_found"),
    ({"validation_file": "ds_nope"}, "#/validation_file", "dataset_not_found"),
    ({"hyperparameters": {"n_epochs": 3}}, "#/hyperparameters", "legacy_field"),
    ({"integrations": [{"type": "wandb"}]}, "#/integrations", "invalid_value"),
    ({"metadata": {str(n): "" for n in range(17)}}, "#/metadata", "invalid_value"),
    ({"metadata": {"a": "x" * 513}}, "#/metadata/a", "invalid_value"),
    ({"metadata": {"a": 1}}, "#/metadata/a", "invalid_value"),
    ({"suffix": "a/b"}, "#/suffix", "invalid_value"),
    ({"seed": -1}, "#/seed", "invalid_value"),
    ({"status": "succeeded"}, "#/status", "unknown_field"),
    ({"evaluation": {"num_images": 1}}, "#/evaluation/num_images", "invalid_value"),
    ({"seed": True}, "#/seed", "invalid_value"),
    ({"evaluation": {"early_stopping": {"patience": 2}}}, "#/evaluation/every_steps", "evaluations_needed"),
    ({"evaluation": {"deliver": "best"}}, "#/evaluation/every_steps", "evaluations_needed"),
    ({"evaluation": {"best_metric": "precision"}}, "#/evaluation/best_metric", "metric_not_measured"),
    ({"evaluation": {"best_metric": "loss"}}, "#/evaluation/best_metric", "invalid_value"),
    ({"evaluation": {"feature_extractors": ["eyes"]}}, "#/evaluation/feature_extractors/0", "model_not_found"),
    ({"evaluation": {"early_stopping": {"patience": 0}}}, "#/evaluation/early_stopping/patience", "invalid_value"),
    (
        {"method": {"type": "supervised", "supervised": {"hyperparameters": {"max_steps": True}}}},
        "#/method/supervised/hyperparameters/max_steps",
        "invalid_value",
    ),
    (
        {"method": {**_DIFF, "diff_tuning": {"hyperparameters": {"tau": "1"}}}},
        "#/method/diff_tuning/hyperparameters/tau",
        "invalid_value",
    ),
]


@pytest.mark.parametrize(("fields", "pointer", "code"), _BAD_FIELDS)
def test_a_bad_field_is_named(
    client: TestClient, ready: str, assert_problem: Problem, *, fields: dict[str, Any], pointer: str, code: str
) -> None:
    answer = client.post(JOBS, json={"model": "tiny-dit", "training_file": ready, **fields})
    body = assert_problem(answer, 422, code, param=pointer.removeprefix("#/").replace("/", "."))
    assert [fault["pointer"] for fault in body["errors"]] == [pointer]
    assert client.get(JOBS).json()["data"] == []


def test_two_files_of_different_classes_are_refused(
    client: TestClient, ready: str, add_file: Any, settle: Any, assert_problem: Problem
) -> None:
    other = add_file()
    settle(other, class_names=["1", "2", "3"])
    answer = client.post(JOBS, json={"model": "tiny-dit", "training_file": ready, "validation_file": other})
    assert "0, 2, 3." in assert_problem(answer, 422, "class_mismatch", param="validation_file")["detail"]
    assert client.get(JOBS).json()["data"] == []


def test_a_job_that_is_judged_by_its_training_file_is_told_so(
    client: TestClient, ready: str, add_job: Callable[..., Any]
) -> None:
    events = client.get(f"{JOBS}/{add_job(validation_file=ready)['id']}/events").json()["data"]
    assert ["trained on" in event["message"] for event in events if event["level"] == "warn"] == [True]


def test_a_missing_field_is_named(client: TestClient, assert_problem: Problem) -> None:
    body = assert_problem(client.post(JOBS, json={"model": "tiny-dit"}), 422, "missing_field", param="training_file")
    assert body["errors"][0]["pointer"] == "#/training_file"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(
    client: TestClient, ready: str, assert_problem: Problem, number: str
) -> None:
    method = f'{{"type": "supervised", "supervised": {{"hyperparameters": {{"max_grad_norm": {number}}}}}}}'
    body = f'{{"model": "tiny-dit", "training_file": "{ready}", "method": {method}}}'
    answer = client.post(JOBS, content=body, headers={"content-type": "application/json"})
    assert_problem(answer, 422, "invalid_value", param="method.supervised.hyperparameters.max_grad_norm")


def test_a_job_on_an_invalid_set_is_refused(
    client: TestClient, add_file: Callable[..., str], settle: Callable[..., None], assert_problem: Problem
) -> None:
    bad = add_file()
    settle(bad, DatasetStatus.INVALID, error_message="0/1.jpg is truncated")
    answer = client.post(JOBS, json={"model": "tiny-dit", "training_file": bad})
    body = assert_problem(answer, 409, "dataset_invalid", param="training_file")
    assert answer.headers["x-should-retry"] == "false"
    assert "0/1.jpg is truncated" in body["detail"]
    assert client.get(body["report_url"]).json()["status"] == "invalid"


def test_a_job_waits_for_both_sets(
    client: TestClient, add_file: Callable[..., str], settle: Callable[..., None], services: Services
) -> None:
    first, second = add_file(), add_file()
    fields = {"model": "tiny-dit", "training_file": first, "validation_file": second}
    job = client.post(JOBS, json=fields).json()
    assert job["status"] == "validating_files"
    settle(first)
    assert client.get(f"{JOBS}/{job['id']}").json()["status"] == "validating_files"
    assert work_of(services, job["id"]) == []
    settle(second)
    assert client.get(f"{JOBS}/{job['id']}").json()["status"] == "queued"
    assert len(work_of(services, job["id"])) == 1


def test_a_waiting_job_fails_by_name(
    client: TestClient, ready: str, add_file: Callable[..., str], settle: Callable[..., None]
) -> None:
    bad = add_file(filename="held-out.zip")
    fields = {"model": "tiny-dit", "training_file": ready, "validation_file": bad}
    job_id = client.post(JOBS, json=fields).json()["id"]
    settle(bad, DatasetStatus.INVALID, error_message="no images")
    job = client.get(f"{JOBS}/{job_id}").json()
    assert (job["status"], job["error"]["code"], job["error"]["param"]) == (
        "failed",
        "dataset_invalid",
        "validation_file",
    )
    assert "held-out.zip" in job["error"]["message"]
    assert job["finished_at"] is not None
    last = client.get(f"{JOBS}/{job_id}/events").json()["data"][0]
    assert (last["level"], last["type"], last["data"]) == ("error", "status", {"status": "failed"})


def test_a_queued_job_is_cancelled_at_once(
    client: TestClient, add_job: Callable[..., Any], services: Services, assert_problem: Problem
) -> None:
    job = add_job()
    cancelled = client.post(f"{JOBS}/{job['id']}/cancel").json()
    assert (cancelled["status"], cancelled["status_details"]["queue_position"]) == ("cancelled", None)
    assert cancelled["finished_at"] is not None
    assert work_of(services, job["id"])[0].state == "done"
    again = client.post(f"{JOBS}/{job['id']}/cancel")
    assert_problem(again, 409, "job_not_cancellable")
    assert again.headers["x-should-retry"] == "false"


def test_a_running_job_is_asked_to_stop(
    client: TestClient,
    add_job: Callable[..., Any],
    services: Services,
    *,
    set_job: Any,
    rows: Any,
    assert_problem: Problem,
) -> None:
    job = add_job()
    rows(lambda session: claim(session, job["id"]))
    set_job(job["id"], status=JobStatus.RUNNING)
    assert client.post(f"{JOBS}/{job['id']}/cancel").json()["status"] == "cancelling"
    (item,) = work_of(services, job["id"])
    assert (item.state, item.request) == ("leased", "cancel")
    assert_problem(client.post(f"{JOBS}/{job['id']}/cancel"), 409, "job_not_cancellable")


def test_a_job_that_waits_for_validation_is_cancelled(
    client: TestClient, add_file: Callable[..., str], settle: Callable[..., None]
) -> None:
    dataset_id = add_file()
    job_id = client.post(JOBS, json={"model": "tiny-dit", "training_file": dataset_id}).json()["id"]
    assert client.post(f"{JOBS}/{job_id}/cancel").json()["status"] == "cancelled"
    settle(dataset_id)
    assert client.get(f"{JOBS}/{job_id}").json()["status"] == "cancelled"


def test_lists_page_and_filter(client: TestClient, add_job: Callable[..., Any], set_job: Any) -> None:
    ids = [add_job(metadata={"run": str(number), "set": "a"})["id"] for number in range(4)]
    set_job(ids[0], status=JobStatus.SUCCEEDED)
    first = client.get(JOBS, params={"limit": 3}).json()
    assert ([job["id"] for job in first["data"]], first["has_more"]) == (ids[:0:-1], True)
    rest = client.get(JOBS, params={"limit": 3, "after": first["last_id"]}).json()
    assert ([job["id"] for job in rest["data"]], rest["has_more"]) == ([ids[0]], False)
    assert [job["id"] for job in client.get(JOBS, params={"order": "asc"}).json()["data"]] == ids
    assert [job["status_details"]["queue_position"] for job in first["data"]] == [4, 3, 2]

    def found(**query: str) -> list[str]:
        return [job["id"] for job in client.get(JOBS, params={"order": "asc", **query}).json()["data"]]

    assert found(**{"metadata[run]": "2", "metadata[set]": "a"}) == [ids[2]]
    assert found(**{"metadata[run]": "2", "metadata[set]": "b"}) == []
    assert found(status="succeeded") == [ids[0]]
    assert found(model="other") == []


def test_bad_list_parameters_are_named(client: TestClient, assert_problem: Problem) -> None:
    assert_problem(client.get(f"{JOBS}?limit=0"), 422, "invalid_value", param="limit")
    assert_problem(client.get(f"{JOBS}?status=done"), 422, "invalid_value", param="status.0")
    assert_problem(client.get(JOBS, params={'metadata["]': "x"}), 422, "invalid_value", param='metadata["]')
