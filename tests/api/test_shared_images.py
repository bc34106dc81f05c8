"""Validation images that are training images are warned of as soon as a job or a comparison is submitted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.deps import Services

AddSet = Callable[..., str]


@pytest.fixture
def add_set(services: Services, add_file: Callable[..., str], settle: Callable[..., None]) -> AddSet:
    """A data set of these pictures, each under a name of its own; validated, or not yet."""

    def add(pictures: Sequence[int], *, validated: bool = True) -> str:
        dataset_id = add_file()
        contents = [hashlib.sha256(str(picture).encode()).hexdigest() for picture in pictures]
        lines = [json.dumps({"path": f"{dataset_id}-{n}.png", "sha256": c}) + "\n" for n, c in enumerate(contents)]
        key = f"datasets/{dataset_id}/items.jsonl"
        services.store.put_stream(key, ["".join(lines).encode()])
        if validated:
            settle(dataset_id, items_key=key)
        return dataset_id

    return add


def warnings(client: TestClient, job_id: str) -> list[str]:
    events = client.get(f"/v1/fine_tuning/jobs/{job_id}/events", params={"limit": 100}).json()["data"]
    return [event["message"] for event in events if event["level"] == "warn"]


@pytest.mark.parametrize(
    ("held_out", "told"),
    [
        ([3, 4, 5, 3], "2 of 4 images of the validation file are images of the training file too"),
        ([5, 1], "1 of 2 images of the validation file is an image of the training file too"),
        ([4, 5, 6], None),
    ],
)
def test_the_number_of_shared_images_is_told(
    client: TestClient,
    add_set: AddSet,
    add_job: Callable[..., dict[str, Any]],
    held_out: list[int],
    told: str | None,
) -> None:
    job = add_job(training_file=add_set([1, 2, 3]), validation_file=add_set(held_out))
    found = warnings(client, job["id"])
    assert [message.partition(":")[0] for message in found] == ([told] if told else [])


def test_each_job_of_a_comparison_is_told(client: TestClient, add_set: AddSet, compare: Callable[..., Any]) -> None:
    made = compare(training_file=add_set([1, 2]), validation_file=add_set([2, 3])).json()
    assert [len(warnings(client, job["id"])) for job in made["jobs"]] == [1] * 4


def test_a_request_that_is_sent_again_does_not_tell_again(client: TestClient, add_set: AddSet) -> None:
    body = {"model": "tiny-dit", "training_file": add_set([1, 2]), "validation_file": add_set([2, 3])}
    answers = [client.post("/v1/fine_tuning/jobs", json=body, headers={"idempotency-key": "one"}) for _ in range(2)]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert len(warnings(client, answers[0].json()["id"])) == 1


def test_what_is_not_validated_yet_or_not_there_is_left_to_the_trainer(
    client: TestClient, services: Services, add_set: AddSet, add_job: Callable[..., dict[str, Any]]
) -> None:
    job = add_job(training_file=add_set([1]), validation_file=add_set([1], validated=False))
    assert warnings(client, job["id"]) == []
    gone = add_set([1])
    services.store.delete(f"datasets/{gone}/items.jsonl")
    job = add_job(training_file=add_set([1]), validation_file=gone)
    assert warnings(client, job["id"]) == []
