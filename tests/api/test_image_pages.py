"""Try it, in the dashboard: the form of a model, images beside the base model's, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from api.datasets.models import Dataset
from api.deps import Services
from api.images.kind import GENERATIONS
from api.jobs import lifecycle
from api.jobs.models import Job
from api.storage import StoredFile
from api.subjects.files import Result
from api.web import images

Send = Callable[..., Any]
Rows = Callable[[Callable[[Session], Any]], Any]
HOSTILE = "<script>alert(1)</script>"
PNG = b"\x89PNG\r\n\x1a\n.."


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_WAIT_S", 0)


@pytest.fixture
def result(add_job: Callable[..., dict[str, Any]], rows: Rows) -> str:
    """The result of a job on two classes."""
    job_id = add_job()["id"]

    def fill(session: Session) -> str:
        job = lifecycle.lock(session, job_id)
        session.get_one(Dataset, job.training_file).class_names = [HOSTILE, " 0 "]
        files = [StoredFile(f"jobs/{job_id}/1/a", "model.safetensors", 1, "a" * 64)]
        lifecycle.checkpoint_saved(session, job, fence=1, step=10, name="step-10", files=files)
        job.status = "running"
        lifecycle.succeeded(session, job)
        return str(session.get_one(Job, job_id).fine_tuned_model)

    found: str = rows(fill)
    return found


@pytest.fixture
def drawn(rows: Rows, services: Services) -> Callable[..., None]:
    """End a request for images as a worker does that has drawn them."""

    def end(generation_id: str, *names: str) -> None:
        results = []
        for name in names:
            stored = services.store.put_stream(f"generations/{generation_id}/1/{name}", [PNG])
            results.append(
                Result(stored.key, name, stored.bytes, str(stored.sha256), "image/png", kind="image", step=0)
            )

        def settle(session: Session) -> None:
            row = GENERATIONS.lock(session, generation_id)
            row.begin()
            GENERATIONS.succeed(session, row, results)

        rows(settle)

    return end


def test_a_base_model_draws_what_the_form_says(browser: TestClient, client: TestClient, send_form: Send) -> None:
    assert "its number, 0 to 51" in browser.get("/images?model=tiny-dit").text.lower()
    fields = {"n": "2", "seed": "7", "num_inference_steps": "5", "guidance": "cfg", "guidance_scale": "2.5"}
    answer = send_form("/images", "/images", model="tiny-dit", class_label="3", **fields)
    assert answer.status_code == 303
    made = client.get("/v1/images/generations/" + answer.headers["location"].rpartition("/")[2]).json()
    assert (made["class_label"], made["n"], made["seed"], made["compare_to_base"]) == (3, 2, 7, False)
    assert made["settings"].items() >= {"num_inference_steps": 5, "guidance": "cfg", "guidance_scale": 2.5}.items()


def test_what_is_under_way_renews_itself_with_and_without_a_script(browser: TestClient, send_form: Send) -> None:
    place = send_form("/images", "/images", model="tiny-dit", class_label="3").headers["location"]
    shown = browser.get(place).text
    assert '<noscript><meta http-equiv="refresh"' in shown
    assert 'data-poll="2"' in shown
    generation = place.rpartition("/")[2]
    assert send_form(f"/images/{generation}", f"/images/{generation}/cancel").status_code == 303
    over = browser.get(f"/images/{generation}").text
    assert "http-equiv" not in over
    assert "data-poll" not in over


def test_images_stand_beside_those_of_the_base_model_and_can_be_saved(
    browser: TestClient, send_form: Send, result: str, drawn: Callable[..., None]
) -> None:
    page = f"/images?model={result}"
    assert HOSTILE not in browser.get(page).text
    answer = send_form(page, "/images", model=result, label="1", n="2", seed="5", compare_to_base="yes")
    generation = answer.headers["location"].rpartition("/")[2]
    drawn(generation, *(f"{side}-{number:04}.png" for side in ("image", "base") for number in (0, 1)))
    shown = browser.get(f"/images/{generation}").text
    first, second = (re.findall(rf'src="[^"]*/(\w+-{number:04}).png"', shown) for number in (0, 1))
    assert (first, second) == (["base-0000", "image-0000"], ["base-0001", "image-0001"])
    assert '<option value="1" selected> 0 </option>' in shown, "the class by its place, whatever its name"
    image = f"/images/{generation}/base-0001.png"
    assert "inline" in browser.get(image, follow_redirects=False).headers["location"]
    saved = browser.get(f"{image}?download=true")
    assert (saved.content, saved.headers["content-type"]) == (PNG, "image/png")
    assert saved.headers["content-disposition"].startswith("attachment")
    assert browser.get(f"/images/{generation}/image-0009.png").status_code == 404


def test_what_is_refused_stands_above_the_form_that_was_filled_in(browser: TestClient, send_form: Send) -> None:
    for fields, said in (
        ({"class_label": "99"}, "There is no class"),
        ({"class_label": "1", "seed": "x"}, "Seed is a whole number"),
        ({"class_label": "1", "n": "9999"}, "n: Input should be less than"),
    ):
        answer = send_form("/images", "/images", model="tiny-dit", num_inference_steps="17", **fields)
        assert answer.status_code == 422
        assert said in answer.text
        assert 'value="17"' in answer.text
        assert 'aria-invalid="true"' in answer.text
    assert browser.get("/images?model=ckpt_00000000000000000000000000").status_code == 404


def test_sent_twice_they_are_drawn_once(browser: TestClient, send_form: Send) -> None:
    once = re.search(r'name="once" value="(\w+)"', browser.get("/images").text)
    assert once is not None
    fields = {"model": "tiny-dit", "class_label": "1", "once": once[1]}
    places = {send_form("/images", "/images", **fields).headers["location"] for _ in range(2)}
    assert len(places) == 1


def test_a_control_image_is_uploaded_by_the_page_and_can_be_chosen(browser: TestClient, client: TestClient) -> None:
    token = re.search(r'name="token" value="(\w+)"', browser.get("/images").text)
    assert token is not None
    place = f"/images/control?model=tiny-dit&token={token[1]}"
    sent = {"data": {"purpose": "vision"}, "follow_redirects": False}
    answer = browser.post(place, files={"file": ("edges.png", PNG)}, **sent)
    assert answer.status_code == 303
    named = re.search(r"images\?model=tiny-dit&control_image=(file_\w+)", answer.headers["location"])
    assert named is not None
    assert client.get(f"/v1/files/{named[1]}").json()["filename"] == "edges.png"
    refused = browser.post(place, files={"file": ("edges.txt", b"text")}, **sent)
    assert refused.status_code == 422
    assert "is no PNG" in refused.text
    assert browser.post("/images/control?model=x", files={"file": ("a.png", PNG)}, **sent).status_code == 403


def test_a_result_and_a_checkpoint_lead_to_the_form(browser: TestClient, client: TestClient, result: str) -> None:
    job = client.get(f"/v1/models/{result}").json()["fine_tuning_job_id"]
    assert browser.get(f"/jobs/{job}").text.count(f"images?model={result}") == 2
    assert f"images?model={result}" in browser.get("/models").text


def test_images_are_deleted_and_nobody_sees_those_of_others(
    browser: TestClient, send_form: Send, stranger: dict[str, str], drawn: Callable[..., None]
) -> None:
    place = send_form("/images", "/images", model="tiny-dit", class_label="1").headers["location"]
    generation = place.rpartition("/")[2]
    drawn(generation, "image-0000.png")
    browser.post("/login", data={"key": stranger["authorization"].removeprefix("Bearer ")})
    for path in (f"/images/{generation}", f"/images/{generation}/image-0000.png"):
        assert browser.get(path).status_code == 404
    assert generation not in browser.get("/images").text
