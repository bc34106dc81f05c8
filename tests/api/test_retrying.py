"""What a client is told of trying again: never, where time cures nothing; soon, where it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.testclient import TestClient

from api.datasets.states import DatasetStatus

JOBS = "/v1/fine_tuning/jobs"
Problem = Callable[..., dict[str, Any]]


def retrying(answer: Any) -> tuple[str | None, str | None]:
    assert answer.status_code == 409, answer.text
    return answer.headers.get("x-should-retry"), answer.headers.get("retry-after")


def test_what_time_cures_may_be_tried_again(client: TestClient, add_file: Callable[..., str]) -> None:
    dataset = add_file()
    assert retrying(client.get(f"/v1/datasets/{dataset}/report")) == (None, "5")
    making = {"model": "tiny-dit", "training_file": dataset}
    answer = client.post("/v1/retention_sets", json=making)
    assert (answer.json()["code"], retrying(answer)) == ("dataset_validating", (None, "5"))
    job = client.post(JOBS, json=making).json()["id"]
    assert retrying(client.post(f"{JOBS}/{job}/pause")) == (None, None)
    assert retrying(client.delete(f"{JOBS}/{job}")) == (None, None)
    assert retrying(client.delete(f"/v1/datasets/{dataset}")) == (None, None)
    upload = client.post("/v1/uploads", json={"filename": "a", "bytes": 3, "purpose": "fine-tune"}).json()["id"]
    part = client.post(f"/v1/uploads/{upload}/parts/presign", json={"bytes": 3}).json()["id"]
    assert retrying(client.post(f"/v1/uploads/{upload}/complete", json={"part_ids": [part]})) == (None, "5")


def test_what_it_does_not_is_not(client: TestClient, add_file: Callable[..., str], settle: Callable[..., None]) -> None:
    dataset = add_file()
    job = client.post(JOBS, json={"model": "tiny-dit", "training_file": dataset}).json()["id"]
    settle(dataset, DatasetStatus.INVALID)
    assert retrying(client.post(JOBS, json={"model": "tiny-dit", "training_file": dataset})) == ("false", None)
    for verb in ("cancel", "pause", "resume"):
        assert retrying(client.post(f"{JOBS}/{job}/{verb}")) == ("false", None)
    answer = client.post("/v1/retention_sets", json={"model": "tiny-dit", "training_file": dataset})
    assert (answer.json()["code"], retrying(answer)) == ("dataset_invalid", ("false", None))
