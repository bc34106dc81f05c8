"""Settings that go by a figure which cannot be measured are warned of as soon as the counts are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

JOBS = "/v1/fine_tuning/jobs"
BEST = {"deliver": "best", "every_steps": 10}


def warnings_of(client: TestClient, job: dict[str, Any]) -> list[dict[str, Any]]:
    events = client.get(f"{JOBS}/{job['id']}/events").json()["data"]
    return [event for event in events if (event["data"] or {}).get("code") == "metric_without_figure"]


@pytest.mark.parametrize(("count", "is_told"), [(2, True), (3, False)])
@pytest.mark.parametrize("ready_before", [True, False])
def test_too_few_validation_images_for_the_metric_are_told(
    client: TestClient,
    add_file: Callable[..., str],
    settle: Callable[..., None],
    *,
    count: int,
    is_told: bool,
    ready_before: bool,
) -> None:
    files = {"training_file": add_file(), "validation_file": add_file()}
    sizes = {"training_file": 100, "validation_file": count}
    settled = [(id_, sizes[param]) for param, id_ in files.items()]
    for id_, size in settled if ready_before else []:
        settle(id_, num_items=size)
    job = client.post(JOBS, json={"model": "tiny-dit", **files, "evaluation": BEST}).json()
    for id_, size in [] if ready_before else settled:
        settle(id_, num_items=size)
    told = warnings_of(client, job)
    assert [event["level"] for event in told] == ["warn"] * is_told
    if is_told:
        assert "evaluation.deliver 'best' will do nothing: fid needs at least 3 images" in told[0]["message"]
