from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from api.datasets.states import DatasetStatus
from api.deps import Services
from api.jobs.models import Job
from api.retention_sets.kind import RETENTION_SETS
from api.retention_sets.models import RetentionArtifact, RetentionSet
from api.subjects.files import Result
from api.work.models import WorkItem
from tests.api.conftest import CARD

pytestmark = pytest.mark.both_databases

Problem = Callable[..., dict[str, Any]]
Rows = Callable[[Callable[[Session], Any]], Any]
URL = "/v1/retention_sets"
FIELD = "method.diff_tuning.hyperparameters.retention_set"


def ask(client: TestClient, headers: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    answer = client.post(URL, json={"model": "tiny-dit", **fields}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def artifact_of(session: Session, set_id: str) -> RetentionArtifact:
    return session.get_one(RetentionSet, set_id).artifact


@pytest.fixture
def make(services: Services, rows: Rows) -> Callable[..., None]:
    """End the making of a set, as the worker does."""

    def end(set_id: str, error: str | None = None) -> None:
        services.store.put_stream(f"retention_sets/{set_id}/images", [b"images"])

        def settle(session: Session) -> None:
            artifact = artifact_of(session, set_id)
            artifact.begin()
            if error:
                RETENTION_SETS.fail(session, artifact, code="model_mismatch", message=error)
            else:
                key = f"retention_sets/{set_id}/images"
                stored = Result(key, "images", 6, "5" * 64, "application/octet-stream", kind="retention_set", step=0)
                RETENTION_SETS.succeed(session, artifact, [stored])

        rows(settle)

    return end


def with_set(set_id: object) -> dict[str, Any]:
    return {"type": "diff_tuning", "diff_tuning": {"hyperparameters": {"retention_set": set_id}}}


def test_a_set_is_complete_and_queued(client: TestClient, rows: Rows) -> None:
    made = ask(client, num_inference_steps=7, metadata={"for": "flowers"})
    assert made["object"] == "retention_set"
    assert (made["status"], made["source"], made["model"]) == ("queued", "sampled", "tiny-dit")
    assert (made["num_images"], made["num_inference_steps"], made["sampler"]) == (64, 7, "ddim"), "64: the card's"
    assert made["class_distribution"] == "uniform"
    assert made["progress"] == {"done": 0, "total": 64}
    assert (made["base_digest"], len(made["digest"])) == (CARD["digest"], 64)
    assert made["metadata"] == {"for": "flowers"}
    assert made["bytes"] is made["sha256"] is made["error"] is made["settled_at"] is None
    assert client.get(f"{URL}/{made['id']}").json() == made
    (item,) = rows(lambda session: list(session.scalars(select(WorkItem))))
    assert (item.kind, item.slot) == ("make_retention_set", "gpu")


def test_equal_settings_are_made_once_for_all_tenants(
    client: TestClient, stranger: dict[str, str], rows: Rows, make: Callable[..., None]
) -> None:
    mine = ask(client, seed=3)
    assert ask(client, seed=3, num_images=64)["id"] == mine["id"], "stated or from the card"
    others = ask(client, stranger, seed=3)
    assert others["id"] != mine["id"]
    assert others["digest"] == mine["digest"]
    assert ask(client, seed=4)["digest"] != mine["digest"]
    assert rows(lambda session: len(list(session.scalars(select(WorkItem))))) == 2
    make(mine["id"])
    assert client.get(f"{URL}/{others['id']}", headers=stranger).json()["status"] == "succeeded"
    late = ask(client, stranger, seed=3)
    assert (late["id"], late["status"], late["sha256"]) == (others["id"], "succeeded", "5" * 64)


def test_strangers_see_nothing(client: TestClient, stranger: dict[str, str], assert_problem: Problem) -> None:
    set_id = ask(client)["id"]
    for verb, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/content")):
        answer = client.request(verb, f"{URL}/{set_id}{path}", headers=stranger)
        assert_problem(answer, 404, "retention_set_not_found")
    assert client.get(URL, headers=stranger).json()["data"] == []
    assert_problem(client.get(URL, headers={"authorization": ""}), 401, "missing_api_key")


_BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"num_images": 0}, "#/num_images", "invalid_value"),
    ({"num_images": "5"}, "#/num_images", "invalid_value"),
    ({"sampler": "magic"}, "#/sampler", "invalid_value"),
    ({"guidance_scale": 0.5}, "#/guidance_scale", "invalid_value"),
    ({"model": "no-such-model"}, "#/model", "model_not_found"),
    ({"images": 3}, "#/images", "unknown_field"),
    ({"class_distribution": [{"label": -1}]}, "#/class_distribution/0/label", "invalid_value"),
    ({"class_distribution": [{"label": 52}]}, "#/class_distribution", "label_out_of_range"),
    ({"class_distribution": [{"label": 52}, {"label": 0}]}, "#/class_distribution", "label_out_of_range"),
    ({"class_distribution": [{"label": 0}, {"label": 52}]}, "#/class_distribution", "label_out_of_range"),
    ({"class_distribution": [{"label": 1}, {"label": 1}]}, "#/class_distribution", "invalid_value"),
    ({"training_file": "ds_nope"}, "#/training_file", "dataset_not_found"),
    ({"training_file": "ds_nope", "seed": 1}, "#/seed", "not_with_training_file"),
    ({"metadata": {"a": 1}}, "#/metadata/a", "invalid_value"),
]


@pytest.mark.parametrize(("fields", "pointer", "code"), _BAD)
def test_a_bad_field_is_named(client: TestClient, fields: dict[str, Any], pointer: str, code: str) -> None:
    answer = client.post(URL, json={"model": "tiny-dit", **fields})
    assert answer.status_code == 422, answer.text
    fault = answer.json()["errors"][0]
    assert (fault["pointer"], fault["code"]) == (pointer, code)


def test_list_and_filter(client: TestClient, make: Callable[..., None]) -> None:
    ids = [ask(client, seed=seed)["id"] for seed in range(3)]
    make(ids[1])
    client.post(f"{URL}/{ids[2]}/cancel")

    def found(**params: Any) -> list[str]:
        return [row["id"] for row in client.get(URL, params=params).json()["data"]]

    assert found(limit=2) == [ids[2], ids[1]]
    assert found(after=ids[1]) == ids[:1]
    assert found(status="queued") == ids[:1]
    assert found(status="succeeded") == ids[1:2]
    assert found(status="cancelled") == ids[2:]
    assert found(model="other") == []
    assert client.get(URL, params={"after": "ds_1"}).status_code == 422


def test_cancelling_gives_up_only_ones_own(
    client: TestClient, stranger: dict[str, str], rows: Rows, assert_problem: Problem
) -> None:
    mine, others = ask(client)["id"], ask(client, stranger)["id"]
    assert client.post(f"{URL}/{mine}/cancel").json()["status"] == "cancelled"
    assert_problem(client.post(f"{URL}/{mine}/cancel"), 409, "retention_set_not_cancellable")
    assert client.get(f"{URL}/{others}", headers=stranger).json()["status"] == "queued"
    client.post(f"{URL}/{others}/cancel", headers=stranger)
    (item,) = rows(lambda session: list(session.scalars(select(WorkItem))))
    assert item.state == "done"
    again = ask(client)
    assert (again["id"] != mine, again["status"]) == (True, "queued")


def test_the_images_are_kept_while_anybody_has_the_set(
    client: TestClient, services: Services, stranger: dict[str, str], make: Callable[..., None], assert_problem: Problem
) -> None:
    mine, others = ask(client)["id"], ask(client, stranger)["id"]
    assert_problem(client.get(f"{URL}/{mine}/content"), 409, "retention_set_not_ready")
    make(mine)
    link = client.get(f"{URL}/{mine}/content").headers["location"]
    assert client.get(link).content == b"images"
    assert client.delete(f"{URL}/{mine}").json() == {"id": mine, "object": "retention_set", "deleted": True}
    assert_problem(client.get(f"{URL}/{mine}"), 404, "retention_set_not_found")
    assert client.get(client.get(f"{URL}/{others}/content", headers=stranger).headers["location"]).content == b"images"
    client.delete(f"{URL}/{others}", headers=stranger)
    assert list(services.store.list("retention_sets/")) == []
    assert ask(client)["status"] == "queued", "made anew"


def test_uploaded_images_are_the_tenants_own(
    client: TestClient,
    stranger: dict[str, str],
    add_file: Callable[..., str],
    settle: Callable[..., None],
    assert_problem: Problem,
) -> None:
    dataset_id = add_file()
    answer = client.post(URL, json={"model": "tiny-dit", "training_file": dataset_id})
    assert_problem(answer, 409, "dataset_validating", param="training_file")
    settle(dataset_id, sha256="a" * 64)
    made = ask(client, training_file=dataset_id)
    assert (made["source"], made["training_file"], made["num_images"]) == ("uploaded", dataset_id, 20)
    assert made["sampler"] is made["seed"] is made["class_distribution"] is None
    assert ask(client, training_file=dataset_id)["id"] == made["id"]
    theirs = client.post(URL, json={"model": "tiny-dit", "training_file": dataset_id}, headers=stranger)
    assert_problem(theirs, 422, "dataset_not_found", param="training_file")
    body = assert_problem(client.delete(f"/v1/datasets/{dataset_id}"), 409, "dataset_in_use")
    assert body["retention_sets"] == [made["id"]]
    client.delete(f"{URL}/{made['id']}")
    assert client.delete(f"/v1/datasets/{dataset_id}").status_code == 200


def test_a_job_waits_for_its_set(
    client: TestClient,
    add_job: Callable[..., dict[str, Any]],
    make: Callable[..., None],
    assert_problem: Problem,
) -> None:
    made = ask(client)
    job = add_job(method=with_set(made["id"]))
    assert job["status"] == "validating_files"
    assert job["retention_set"] == {"id": made["id"], "digest": made["digest"]}
    assert job["method"]["diff_tuning"]["hyperparameters"]["retention_set"] == made["id"]
    for request in (client.post(f"{URL}/{made['id']}/cancel"), client.delete(f"{URL}/{made['id']}")):
        assert assert_problem(request, 409, "retention_set_in_use")["jobs"] == [job["id"]]
    make(made["id"])
    url = f"/v1/fine_tuning/jobs/{job['id']}"
    assert client.get(url).json()["status"] == "queued"
    messages = [event["message"] for event in client.get(f"{url}/events").json()["data"]]
    assert f"Waiting for the retention set {made['id']}" in messages
    assert add_job(method=with_set(made["id"]))["status"] == "queued"


def test_a_job_waits_for_both_its_set_and_its_data_set(
    client: TestClient, add_file: Callable[..., str], settle: Callable[..., None], make: Callable[..., None]
) -> None:
    for first_made in (True, False):
        set_id, dataset_id = ask(client, seed=int(first_made))["id"], add_file()
        body = {"model": "tiny-dit", "training_file": dataset_id, "method": with_set(set_id)}
        url = f"/v1/fine_tuning/jobs/{client.post('/v1/fine_tuning/jobs', json=body).json()['id']}"
        steps: list[Callable[[], None]] = [lambda: make(set_id), lambda: settle(dataset_id)]  # noqa: B023  # used here
        for step, status in zip(steps if first_made else steps[::-1], ("validating_files", "queued"), strict=True):
            step()
            assert client.get(url).json()["status"] == status


def test_a_set_that_fails_fails_its_jobs_by_name(
    client: TestClient, add_job: Callable[..., dict[str, Any]], make: Callable[..., None], assert_problem: Problem
) -> None:
    set_id = ask(client)["id"]
    job_id = add_job(method=with_set(set_id))["id"]
    make(set_id, error="another digest here")
    job = client.get(f"/v1/fine_tuning/jobs/{job_id}").json()
    assert job["status"] == "failed"
    assert (job["error"]["code"], job["error"]["param"]) == ("retention_set_failed", FIELD)
    assert set_id in job["error"]["message"]
    shown = client.get(f"{URL}/{set_id}").json()
    assert shown["error"] == {"code": "model_mismatch", "message": "another digest here"}
    body = {"model": "tiny-dit", "training_file": job["training_file"], "method": with_set(set_id)}
    answer = client.post("/v1/fine_tuning/jobs", json=body)
    assert_problem(answer, 409, "retention_set_failed", param=FIELD)


def test_a_set_of_another_base_model_is_refused_with_both_digests(
    client: TestClient, data_dir: Path, ready: str, assert_problem: Problem
) -> None:
    other = data_dir / "models" / "other-dit"
    other.mkdir()
    card = {**CARD, "id": "other-dit", "digest": "1" * 64}
    (other / "card.json").write_text(json.dumps(card), encoding="utf-8")
    set_id = client.post(URL, json={"model": "other-dit"}).json()["id"]
    body = {"model": "tiny-dit", "training_file": ready, "method": with_set(set_id)}
    problem = assert_problem(client.post("/v1/fine_tuning/jobs", json=body), 422, "retention_set_mismatch", param=FIELD)
    assert "1" * 64 in problem["detail"]
    assert "0" * 64 in problem["detail"]
    assert problem["errors"][0]["pointer"] == "#/" + FIELD.replace(".", "/")


def test_a_set_that_is_not_there_is_refused(
    client: TestClient, stranger: dict[str, str], ready: str, assert_problem: Problem
) -> None:
    theirs = ask(client, stranger)["id"]
    for set_id in (theirs, f"rset_{'0' * 26}"):
        body = {"model": "tiny-dit", "training_file": ready, "method": with_set(set_id)}
        answer = client.post("/v1/fine_tuning/jobs", json=body)
        assert_problem(answer, 422, "retention_set_not_found", param=FIELD)
    body["method"] = with_set("rset_nope")
    assert client.post("/v1/fine_tuning/jobs", json=body).status_code == 422
    body["method"] = with_set({"class_distribution": [{"label": 99}]})
    answer = client.post("/v1/fine_tuning/jobs", json=body)
    assert_problem(answer, 422, "label_out_of_range", param=f"{FIELD}.class_distribution")


def test_a_job_without_a_named_set_shows_its_digest(
    client: TestClient, add_job: Callable[..., dict[str, Any]], rows: Rows
) -> None:
    made, job = ask(client), add_job()
    assert job["retention_set"] == {"id": None, "digest": made["digest"]}
    assert add_job(method={"type": "supervised"})["retention_set"] is None
    taught = {"type": "diff_tuning", "diff_tuning": {"hyperparameters": {"recipe": "distillation"}}}
    assert add_job(method=taught)["retention_set"] is None
    assert rows(lambda session: session.get_one(Job, job["id"]).retention_set) is None


def test_an_invalid_data_set_gives_no_set(
    client: TestClient, add_file: Callable[..., str], settle: Callable[..., None], assert_problem: Problem
) -> None:
    dataset_id = add_file()
    settle(dataset_id, DatasetStatus.INVALID, error_code="no_images")
    answer = client.post(URL, json={"model": "tiny-dit", "training_file": dataset_id})
    assert_problem(answer, 409, "dataset_invalid", param="training_file")
