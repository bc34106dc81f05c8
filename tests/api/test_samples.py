"""Sample images of a job, as the API lists them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.testclient import TestClient

from api.deps import Services
from api.jobs import lifecycle
from api.subjects.files import Result

JOBS = "/v1/fine_tuning/jobs"


def test_they_are_listed_by_step_apart_from_the_results(
    client: TestClient, add_job: Callable[..., Any], services: Services
) -> None:
    job = add_job()
    assert job["samples"] == {"num_images": 4, "every_steps": None, "num_inference_steps": 8}
    with services.database.write() as session:
        row = lifecycle.lock(session, job["id"])
        for step in (0, 100, 200):
            key, name = f"jobs/{job['id']}/1/{step}.png", f"step-{step:08d}.png"
            info = services.store.put_stream(key, [str(step).encode()])
            file = Result(key, name, info.bytes, info.sha256, "image/png", kind=lifecycle.SAMPLE, step=step)
            for _ in range(2):  # as an attempt that tells again
                lifecycle.sample_drawn(session, row, file, count=8)
    url = f"{JOBS}/{job['id']}/samples"
    first = client.get(url, params={"limit": 2}).json()
    rest = client.get(url, params={"limit": 2, "after": first["last_id"]}).json()
    assert [row["step"] for row in first["data"] + rest["data"]] == [0, 100, 200]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert client.get(first["data"][1]["url"], follow_redirects=True).content == b"100"
    events = client.get(f"{JOBS}/{job['id']}/events").json()["data"]
    told = [event["data"] for event in events if event["type"] == "sample"]
    assert [data["url"] for data in told][::-1] == [row["url"] for row in first["data"] + rest["data"]]
    assert client.get(f"{JOBS}/{job['id']}").json()["result_files"] == []


def test_a_job_says_how_they_are_drawn(client: TestClient, add_job: Callable[..., Any]) -> None:
    assert add_job(samples={"num_images": 2, "every_steps": 50})["samples"]["every_steps"] == 50
    file = add_job()["training_file"]
    method = {"type": "supervised", "supervised": {"hyperparameters": {"max_steps": 5000}}}
    body = {"model": "tiny-dit", "training_file": file, "samples": {"every_steps": 1}, "method": method}
    answer = client.post(JOBS, json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "samples.every_steps")
