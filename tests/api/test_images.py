"""Images on request: what is asked, refused and answered; the drawing itself is the worker's."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from api.datasets.models import Dataset
from api.deps import Services
from api.images import service
from api.images.kind import GENERATIONS, Generation
from api.jobs import lifecycle
from api.storage import StoredFile
from api.subjects.files import Result
from api.work.models import WorkItem

pytestmark = pytest.mark.both_databases
Problem = Callable[..., dict[str, Any]]
Rows = Callable[[Callable[[Session], Any]], Any]
Jobs = Callable[..., dict[str, Any]]
IMAGES, MODELS = "/v1/images/generations", "/v1/models"
ASKED = {"model": "tiny-dit", "class_label": 3, "n": 2, "seed": 7, "wait_s": 0}
PNG = b"\x89PNG\r\n\x1a\n..."


@pytest.fixture
def checkpoint(add_job: Jobs, rows: Rows) -> str:
    """The result of a job of the classes rose and tulip."""
    job_id = add_job()["id"]

    def fill(session: Session) -> str:
        job = lifecycle.lock(session, job_id)
        session.get_one(Dataset, job.training_file).class_names = ["rose", "tulip"]
        files = [StoredFile(f"jobs/{job_id}/1/a", "model.safetensors", 1, "a" * 64)]
        lifecycle.checkpoint_saved(session, job, fence=1, step=10, name="step-10", files=files)
        job.status = "running"
        lifecycle.succeeded(session, job)
        assert job.fine_tuned_model is not None
        return job.fine_tuned_model

    found: str = rows(fill)
    return found


@pytest.fixture
def drawn(rows: Rows, services: Services) -> Callable[..., None]:
    """End a generation as a worker does that has drawn."""

    def end(generation_id: str, *names: str) -> None:
        keys = {name: f"generations/{generation_id}/1/{name}" for name in names}
        stored = {name: services.store.put_stream(key, [PNG]) for name, key in keys.items()}
        results = [
            Result(keys[name], name, one.bytes, str(one.sha256), "image/png", kind="image", step=0)
            for name, one in stored.items()
        ]

        def settle(session: Session) -> None:
            row = GENERATIONS.lock(session, generation_id)
            row.begin()
            GENERATIONS.succeed(session, row, results)

        rows(settle)

    return end


def test_a_request_waits_in_the_queue_behind_all_jobs(client: TestClient, rows: Rows) -> None:
    answer = client.post(IMAGES, json=ASKED)
    made = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, f"{IMAGES}/{made['id']}")
    assert (made["status"], made["data"], made["size"], made["seed"]) == ("queued", None, "32x32", 7)
    assert client.get(f"{IMAGES}/{made['id']}").json() == made
    assert client.get(IMAGES).json()["data"] == [made]
    item = rows(lambda session: session.query(WorkItem).filter_by(subject_id=made["id"]).one())
    assert (item.kind, item.slot) == ("generate", "gpu")
    assert item.priority < -100


def test_images_have_links_without_a_key_or_their_bytes_and_go_when_they_are_deleted(
    client: TestClient,
    drawn: Callable[..., None],
    stranger: dict[str, str],
    services: Services,
    assert_problem: Problem,
) -> None:
    made = client.post(IMAGES, json=ASKED).json()
    place = f"{IMAGES}/{made['id']}"
    assert_problem(client.delete(place), 409, "generation_not_final")
    drawn(made["id"], "image-0001.png", "image-0000.png")
    found = client.get(place).json()
    assert (found["status"], [image["index"] for image in found["data"]]) == ("succeeded", [0, 1])
    link = found["data"][0]["url"].partition("/v1/")[2]
    shown = client.get(f"/v1/{link}", headers={"authorization": ""})
    assert (shown.content, shown.headers["content-type"]) == (PNG, "image/png")
    whole = client.get(place, params={"response_format": "b64_json"}).json()
    assert [base64.b64decode(image["b64_json"]) for image in whole["data"]] == [PNG, PNG]
    assert_problem(client.get(place, headers=stranger), 404, "generation_not_found")
    assert client.get(IMAGES, headers=stranger).json()["data"] == []
    assert client.delete(place).json()["object"] == "image.generation"
    assert list(services.store.list(f"generations/{made['id']}")) == []
    assert_problem(client.get(place), 404, "generation_not_found")


def test_images_go_when_their_time_is_over(client: TestClient, drawn: Callable[..., None], rows: Rows) -> None:
    old, young, waiting = (client.post(IMAGES, json=ASKED).json()["id"] for _ in range(3))
    drawn(old, "image-0000.png")
    drawn(young, "image-0000.png")
    settings = client.app.state.services.settings  # type: ignore[attr-defined]  # an app

    def age(session: Session) -> list[str]:
        session.get_one(Generation, old).finished_at = time.time() - settings.images_ttl_s - 1
        session.flush()
        return service.expire(session, settings)

    assert rows(age) == [f"generations/{old}/1/image-0000.png"]
    assert {found["id"] for found in client.get(IMAGES).json()["data"]} == {young, waiting}


def test_a_tuned_model_draws_its_classes_by_name_and_is_kept_meanwhile(
    client: TestClient, checkpoint: str, stranger: dict[str, str], assert_problem: Problem
) -> None:
    body = {"model": checkpoint, "prompt": "tulip", "compare_to_base": True, "guidance": "domain", "wait_s": 0}
    made = client.post(IMAGES, json=body).json()
    assert (made["class_label"], made["class_name"], made["progress"]["total"]) == (1, "tulip", 2)
    assert made["settings"]["guidance"] == "domain"
    refused = assert_problem(client.delete(f"{MODELS}/{checkpoint}"), 409, "checkpoint_in_use")
    assert refused["generations"] == [made["id"]]
    assert_problem(client.post(IMAGES, json=body, headers=stranger), 422, "model_not_found", param="model")
    assert client.post(f"{IMAGES}/{made['id']}/cancel").json()["status"] == "cancelled"
    assert client.delete(f"{MODELS}/{checkpoint}").status_code == 200
    wrong = {"model": checkpoint, "prompt": "tulip"}
    assert_problem(client.post(IMAGES, json=wrong), 422, "model_not_found", param="model")


def test_the_base_model_may_end_the_chain_of_a_tuned_one(
    client: TestClient, checkpoint: str, assert_problem: Problem
) -> None:
    body = {"model": checkpoint, "prompt": "tulip", "handover": 0.2, "wait_s": 0}
    assert client.post(IMAGES, json=body).json()["settings"]["handover"] == 0.2
    untrained = body | {"noise_guidance_scale": 1.5}
    assert_problem(client.post(IMAGES, json=untrained), 422, "not_for_model", param="noise_guidance_scale")


def test_an_unknown_class_is_refused_with_the_closest_names(
    client: TestClient, checkpoint: str, assert_problem: Problem
) -> None:
    body = {"model": checkpoint, "class_label": "Tulips"}
    refused = assert_problem(client.post(IMAGES, json=body), 422, "unknown_class", param="class_label")
    assert refused["closest"] == ["tulip"]
    assert "Did you mean tulip?" in refused["detail"]
    by_prompt = {"model": checkpoint, "prompt": "2"}
    assert_problem(client.post(IMAGES, json=by_prompt), 422, "unknown_class", param="prompt")


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"model": "gpt"}, "model_not_found", "model"),
        ({"class_label": 52}, "unknown_class", "class_label"),
        ({"class_label": None}, "missing_field", "class_label"),
        ({"prompt": "a"}, "conflicting_fields", "class_label"),
        ({"n": 17}, "too_many_images", "n"),
        ({"n": 0}, "invalid_value", "n"),
        ({"size": "1024x1024"}, "size_not_for_model", "size"),
        ({"compare_to_base": True}, "nothing_to_compare", "compare_to_base"),
        ({"sampler": "heun"}, "sampler_not_for_process", "sampler"),
        ({"control_image": "file_1"}, "not_for_model", "control_image"),
        ({"handover": 0.2}, "not_for_model", "handover"),
        ({"noise_guidance_scale": 1.5}, "not_for_model", "noise_guidance_scale"),
        ({"quality": "hd"}, "unknown_field", "quality"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_its_field(
    client: TestClient, fields: dict[str, Any], code: str, param: str, assert_problem: Problem
) -> None:
    assert_problem(client.post(IMAGES, json=ASKED | fields), 422, code, param=param)
    assert client.get(IMAGES).json()["data"] == []


def test_a_request_that_is_sent_again_draws_once(client: TestClient, assert_problem: Problem) -> None:
    headers = {"idempotency-key": "once"}
    first = client.post(IMAGES, json=ASKED, headers=headers).json()
    assert client.post(IMAGES, json=ASKED, headers=headers).json() == first
    assert len(client.get(IMAGES).json()["data"]) == 1
    other = client.post(IMAGES, json=ASKED | {"n": 1}, headers=headers)
    assert_problem(other, 422, "idempotency_key_reused")


def test_a_failure_is_told_where_it_is_waited_for(client: TestClient, rows: Rows, assert_problem: Problem) -> None:
    headers = {"idempotency-key": "fails"}
    made = client.post(IMAGES, json=ASKED, headers=headers).json()

    def fail(session: Session) -> None:
        row = GENERATIONS.lock(session, made["id"])
        row.begin()
        GENERATIONS.fail(session, row, code="out_of_memory", message="The image generation ran out of memory.")

    rows(fail)
    assert client.get(f"{IMAGES}/{made['id']}").json()["error"]["code"] == "out_of_memory"
    refused = assert_problem(client.post(IMAGES, json=ASKED, headers=headers), 409, "out_of_memory")
    assert refused["generation"] == made["id"]


def test_an_image_is_uploaded_for_a_controlnet_to_follow(
    client: TestClient, stranger: dict[str, str], assert_problem: Problem
) -> None:
    sent = {"files": {"file": ("edges.png", PNG)}, "data": {"purpose": "vision"}}
    file = client.post("/v1/files", **sent).json()
    assert (file["purpose"], file["status"], file["bytes"]) == ("vision", "processed", len(PNG))
    place = f"/v1/files/{file['id']}"
    assert client.get(place).json() == file
    assert client.get("/v1/files", params={"purpose": "vision"}).json()["data"] == [file]
    link = client.get(f"{place}/content").headers["location"].partition("/v1/")[2]
    assert client.get(f"/v1/{link}").content == PNG
    assert_problem(client.get(place, headers=stranger), 404, "file_not_found")
    assert client.delete(place).json()["deleted"]
    no_image = {"files": {"file": ("a.png", b"PK")}, "data": {"purpose": "vision"}}
    assert_problem(client.post("/v1/files", **no_image), 422, "not_an_image", param="file")
    assert client.get("/v1/files").json()["data"] == []
