from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.testclient import TestClient

JOBS = "/v1/fine_tuning/jobs"
NAMES = [f"{i:04}" for i in range(1001)]


def test_more_classes_than_an_export_has_rows_are_refused_at_submit(
    client: TestClient, add_file: Callable[..., str], settle: Callable[..., None], assert_problem: Callable[..., Any]
) -> None:
    files = {count: add_file() for count in (1000, 1001)}
    for count, file_id in files.items():
        settle(file_id, class_names=NAMES[:count])
    assert client.post(JOBS, json={"model": "tiny-dit", "training_file": files[1000]}).status_code == 200
    answer = client.post(JOBS, json={"model": "tiny-dit", "training_file": files[1001]})
    told = assert_problem(answer, 422, "too_many_classes", param="training_file")["detail"]
    assert "has 1001 classes" in told
    assert "at most 1000" in told


def test_a_job_that_waited_for_such_a_set_fails_by_name(
    client: TestClient, add_file: Callable[..., str], settle: Callable[..., None]
) -> None:
    file_id = add_file()
    job_id = client.post(JOBS, json={"model": "tiny-dit", "training_file": file_id}).json()["id"]
    settle(file_id, class_names=NAMES)
    job = client.get(f"{JOBS}/{job_id}").json()
    assert job["status"] == "failed"
    assert (job["error"]["code"], job["error"]["param"]) == ("too_many_classes", "training_file")
