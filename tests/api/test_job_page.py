"""A job's page and the list of jobs: what they show, what their buttons do, and for whom."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.deps import Services
from api.jobs.models import Job, Metric

Send = Callable[..., Any]
AddJob = Callable[..., dict[str, Any]]
REPORT = {
    "evaluations": [{"step": 100, "fid": 82.0, "fid_se": 2.0, "forgetting": {"null_fid": 3.5, "null_fid_se": 0.5}}],
    "references": {"base_model": {"fid": 129.0, "fid_se": 3.0}},
    "best": {"metric": "fid", "step": 100, "value": 82.0},
}


def test_a_job_says_whether_it_beats_the_base_model(
    browser: TestClient, add_job: AddJob, add_result: Callable[..., str]
) -> None:
    job = add_job()["id"]
    assert "better than the base model" not in browser.get(f"/jobs/{job}").text
    add_result(job, "report_json", json.dumps(REPORT).encode())
    shown = browser.get(f"/jobs/{job}").text
    assert "better than the base model on your held-out images: FID 129.0 ± 3.0 → 82.0 ± 2.0" in shown
    assert "keeps of the base model: Forgetting 3.50 ± 0.50; lower is more." in shown
    assert "FID at 0: 129" in shown, "its curve begins with the base model"


@pytest.mark.parametrize(
    ("fid", "said"), [(126.0, "No difference from the base model is shown"), (150.0, "It is worse than the base model")]
)
def test_it_claims_no_more_than_the_intervals_show(
    browser: TestClient, add_job: AddJob, add_result: Callable[..., str], fid: float, said: str
) -> None:
    job = add_job()["id"]
    add_result(
        job, "report_json", json.dumps(REPORT | {"evaluations": [{"step": 9, "fid": fid, "fid_se": 2}]}).encode()
    )
    assert said in browser.get(f"/jobs/{job}").text


def test_a_report_that_cannot_be_read_hides_nothing_else(
    browser: TestClient, add_job: AddJob, add_result: Callable[..., str]
) -> None:
    job = add_job()["id"]
    add_result(job, "report_json", b"{")
    assert browser.get(f"/jobs/{job}").status_code == 200


def test_samples_can_be_chosen_by_their_step_without_a_script(
    browser: TestClient, add_job: AddJob, add_result: Callable[..., str]
) -> None:
    job = add_job()["id"]
    first, last = (add_result(job, "sample", b"png", step=step, filename=f"{step}.png") for step in (0, 100))
    assert f'<img src="../files/{last}"' in browser.get(f"/jobs/{job}").text
    assert f'<img src="../files/{first}"' in browser.get(f"/jobs/{job}?step=0").text
    led = browser.get(f"/files/{first}", follow_redirects=False)
    assert led.status_code == 302
    assert "/v1/objects/" in led.headers["location"]


def test_losses_are_drawn_as_they_come(browser: TestClient, services: Services, add_job: AddJob) -> None:
    job = add_job()["id"]
    with services.database.write() as session:
        for step in (10, 20):
            for name in ("train_loss", "target_loss", "retention_loss", "eval_held_out_loss"):
                session.add(Metric(job_id=job, name=name, step=step, value=1 / step, created_at=0))
    shown = browser.get(f"/jobs/{job}").text
    assert "Training loss: all images, your images, retained images" in shown
    assert "Held-out loss" in shown


def test_buttons_pause_resume_and_cancel_as_the_api_does(add_job: AddJob, send_form: Send, services: Services) -> None:
    job = add_job()["id"]
    page = f"/jobs/{job}"
    for verb, status in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        if verb == "resume":
            with services.database.read() as session:
                assert session.get_one(Job, job).status == "paused"
        answer = send_form(page, f"{page}/{verb}")
        assert answer.status_code in {303, 409}, answer.text
        if answer.status_code == 303:
            assert answer.headers["location"] == f"../../jobs/{job}"
            with services.database.read() as session:
                assert session.get_one(Job, job).status in {status, "resuming"}
    refused = send_form(page, f"{page}/pause")
    assert refused.status_code == 409
    assert 'role="alert"' in refused.text


def test_a_job_is_deleted_only_by_who_means_it(browser: TestClient, add_job: AddJob, send_form: Send) -> None:
    page = f"/jobs/{add_job()['id']}"
    send_form(page, f"{page}/cancel")
    assert send_form(page, f"{page}/delete").status_code == 422
    assert send_form(page, f"{page}/delete", sure="yes").status_code == 303
    assert browser.get(page).status_code == 404


def test_the_list_goes_page_by_page_and_by_status(browser: TestClient, add_job: AddJob) -> None:
    jobs = [add_job(suffix=f"number-{number}")["id"] for number in range(27)]
    first = browser.get("/jobs").text
    assert "number-26" in first
    assert "number-1<" not in first
    following = browser.get(f"/jobs?after={jobs[2]}").text
    assert "number-1<" in following
    assert "Next page" not in following
    assert "number-26" not in browser.get("/jobs?status=failed").text
    assert browser.get("/jobs?status=odd").status_code == 422


def test_the_stream_is_the_apis_own(browser: TestClient, add_job: AddJob, send_form: Send) -> None:
    page = f"/jobs/{add_job()['id']}"
    send_form(page, f"{page}/cancel")
    told = browser.get(f"{page}/events")
    assert told.headers["content-type"].startswith("text/event-stream")
    assert "event: status" in told.text


def test_nobody_has_a_page_of_a_job_of_others(browser: TestClient, stranger: dict[str, str], add_job: AddJob) -> None:
    job = add_job()["id"]
    browser.post("/login", data={"key": stranger["authorization"].removeprefix("Bearer ")})
    for path in (f"/jobs/{job}", f"/jobs/{job}/log", f"/jobs/{job}/events"):
        assert browser.get(path).status_code == 404
    assert job not in browser.get("/jobs").text
