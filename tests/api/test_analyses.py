from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from api.analyses.kind import ANALYSES
from api.datasets.models import Dataset
from api.deps import Services
from api.jobs.models import Checkpoint
from api.jobs.states import JobStatus
from api.subjects.files import Result
from api.work.models import WorkItem
from api.work.states import Slot, WorkKind, WorkState

pytestmark = pytest.mark.both_databases

Problem = Callable[..., dict[str, Any]]


@pytest.fixture
def add_checkpoint(client: TestClient, services: Services, ready: str, set_job: Any) -> Callable[..., str]:
    """A checkpoint of a new job."""

    def add(name: str, method: str = "supervised", step: int = 100, **fields: Any) -> str:
        body = {"model": "tiny-dit", "training_file": ready, "method": {"type": method}, **fields}
        answer = client.post("/v1/fine_tuning/jobs", json=body)
        assert answer.status_code == 200, answer.text
        job_id = answer.json()["id"]
        set_job(job_id, status=JobStatus.SUCCEEDED)
        row = {"tenant_id": "default", "job_id": job_id, "step": step, "fence": 1, "created_at": 1.0, "files": []}
        with services.database.write() as session:
            session.get_one(Dataset, body["training_file"]).sha256 = "a" * 64
            session.add(Checkpoint(**row, id=f"ckpt_{name}", name=f"step-{step:08d}"))
        return f"ckpt_{name}"

    return add


@pytest.fixture
def analyse(client: TestClient) -> Callable[..., Any]:
    def send(*checkpoints: str, **fields: Any) -> Any:
        body = {"type": "chain_of_forgetting", "checkpoints": list(checkpoints), **fields}
        return client.post("/v1/analyses", json=body)

    return send


@pytest.fixture
def add_ready(add_file: Callable[..., str], settle: Callable[..., None]) -> Callable[[], str]:
    """Another data set that jobs can use."""

    def add() -> str:
        dataset_id = add_file(b"other")
        settle(dataset_id)
        return dataset_id

    return add


def finish(services: Services, analysis_id: str) -> None:
    """End it as a worker does, with one file."""
    key = f"analyses/{analysis_id}/1/chain.html"
    info = services.store.put_stream(key, [b"<!doctype html>"])
    file = Result(key, "chain.html", info.bytes, str(info.sha256), "text/html", kind="report_html", step=0)
    with services.database.write() as session:
        analysis = ANALYSES.lock(session, analysis_id)
        analysis.begin()
        ANALYSES.succeed(session, analysis, [file])


def test_an_analysis_is_queued_with_its_settings_filled_in(
    client: TestClient, services: Services, add_checkpoint: Any, analyse: Any, ready: str
) -> None:
    plain, tuned = add_checkpoint("plain"), add_checkpoint("tuned", "diff_tuning", suffix="ours")
    answer = analyse(plain, tuned, evaluation={"num_images": 40}, metadata={"why": "fig. 1"})
    assert answer.status_code == 200, answer.text
    made = answer.json()
    assert (made["object"], made["status"], made["model"]) == ("analysis", "queued", "tiny-dit")
    assert [(c["id"], c["name"], c["step"]) for c in made["checkpoints"]] == [
        (plain, "supervised", 100),
        (tuned, "ours", 100),
    ]
    assert made["fractions"] == [i / 10 for i in range(11)]
    assert analyse(plain, fractions=[0.0, 0.5]).json()["fractions"] == [0.0, 0.5]
    assert (made["evaluation"]["num_images"], made["evaluation"]["num_inference_steps"]) == (40, 50)
    assert made["progress"] == {"done": 0, "total": 2 * 11 * 40}
    assert (made["training_file"], made["validation_file"], made["reports"]) == (ready, None, [])
    assert made["metadata"] == {"why": "fig. 1"}
    with services.database.read() as session:
        item = session.scalars(select(WorkItem).where(WorkItem.subject_id == made["id"])).one()
    assert (item.kind, item.slot) == (WorkKind.ANALYSE, Slot.GPU)
    assert client.get(f"/v1/analyses/{made['id']}").json() == made


def test_lines_of_one_method_have_names_of_their_own(add_checkpoint: Any, analyse: Any) -> None:
    ids = [add_checkpoint("a", step=100), add_checkpoint("b", step=200), add_checkpoint("c", step=200)]
    names = [entry["name"] for entry in analyse(*ids).json()["checkpoints"]]
    assert names == ["supervised step 100", "supervised step 200 ckpt_b", "supervised step 200 ckpt_c"]


def test_the_first_of_a_list_pages_on(client: TestClient, add_checkpoint: Any, analyse: Any) -> None:
    checkpoint = add_checkpoint("a")
    first, second = analyse(checkpoint).json()["id"], analyse(checkpoint).json()["id"]
    newest, older = sorted([first, second], reverse=True)
    page = client.get("/v1/analyses", params={"limit": 1}).json()
    assert ([a["id"] for a in page["data"]], page["has_more"]) == ([newest], True)
    rest = client.get("/v1/analyses", params={"after": page["last_id"]}).json()
    assert [a["id"] for a in rest["data"]] == [older]
    client.post(f"/v1/analyses/{older}/cancel")
    assert [a["id"] for a in client.get("/v1/analyses?status=cancelled").json()["data"]] == [older]


def test_checkpoints_must_be_there_once(add_checkpoint: Any, analyse: Any, assert_problem: Problem) -> None:
    checkpoint = add_checkpoint("a")
    body = assert_problem(analyse(checkpoint, "ckpt_no"), 422, "checkpoint_not_found", param="checkpoints.1")
    assert body["errors"][0]["pointer"] == "#/checkpoints/1"
    assert_problem(analyse(checkpoint, checkpoint), 422, "duplicate_checkpoint", param="checkpoints.1")
    assert analyse().status_code == 422
    assert analyse(*[f"ckpt_{n}" for n in range(5)]).status_code == 422


def test_checkpoints_must_share_data_and_held_out_images(
    services: Services, add_checkpoint: Any, analyse: Any, add_ready: Callable[[], str], assert_problem: Problem
) -> None:
    first, other = add_checkpoint("a"), add_ready()
    second = add_checkpoint("b", training_file=other)
    assert analyse(first, second).status_code == 200, "the same bytes in another file"
    with services.database.write() as session:
        session.get_one(Dataset, other).sha256 = "b" * 64
    body = assert_problem(analyse(first, second), 422, "data_mismatch", param="checkpoints.1")
    assert "a" * 64 in body["detail"]
    assert "b" * 64 in body["detail"]
    seeded = add_checkpoint("c", seed=5)
    body = assert_problem(analyse(first, seeded), 422, "held_out_mismatch", param="checkpoints.1")
    assert "seed 5" in body["detail"]


def test_checkpoints_must_share_the_base_model(
    services: Services, add_checkpoint: Any, analyse: Any, assert_problem: Problem
) -> None:
    folder = services.settings.data_dir / "models"
    card = json.loads((folder / "tiny-dit" / "card.json").read_text())
    (folder / "other-dit").mkdir()
    (folder / "other-dit" / "card.json").write_text(json.dumps({**card, "id": "other-dit", "digest": "1" * 64}))
    ids = add_checkpoint("a"), add_checkpoint("b", model="other-dit")
    body = assert_problem(analyse(*ids), 422, "base_model_mismatch", param="checkpoints.1")
    assert f"other-dit ({'1' * 64})" in body["detail"]
    assert f"tiny-dit ({'0' * 64})" in body["detail"]


def test_a_base_model_that_was_removed_cannot_be_analysed(
    services: Services, add_checkpoint: Any, analyse: Any, assert_problem: Problem
) -> None:
    models = services.settings.data_dir / "models"
    shutil.copytree(models / "tiny-dit", models / "gone-dit")
    checkpoint = add_checkpoint("a", model="gone-dit")
    shutil.rmtree(models / "gone-dit")
    assert_problem(analyse(checkpoint), 422, "model_not_found", param="checkpoints.0")


def test_controlnets_have_no_chain_of_forgetting(
    services: Services, add_checkpoint: Any, analyse: Any, assert_problem: Problem
) -> None:
    checkpoint = add_checkpoint("a")
    path = services.settings.data_dir / "models" / "tiny-dit" / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "family": "stable-diffusion"}))
    assert_problem(analyse(checkpoint), 422, "analysis_not_for_model", param="checkpoints.0")


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"fractions": [0.1, 0.5]}, "#/fractions"),
        ({"fractions": [0, 0.5, 0.5]}, "#/fractions"),
        ({"fractions": [0, 1.5]}, "#/fractions/1"),
        ({"evaluation": {"num_images": 1}}, "#/evaluation/num_images"),
        ({"evaluation": {"every_steps": 5}}, "#/evaluation/every_steps"),
        ({"evaluation": {"sampler": "euler"}}, "#/evaluation/sampler"),
        ({"type": "autopsy"}, "#/type"),
    ],
)
def test_a_bad_field_is_named(add_checkpoint: Any, analyse: Any, fields: dict[str, Any], pointer: str) -> None:
    answer = analyse(add_checkpoint("a"), **fields)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer


def test_a_cancelled_analysis_is_worked_on_no_more(
    client: TestClient, services: Services, add_checkpoint: Any, analyse: Any, assert_problem: Problem
) -> None:
    url = f"/v1/analyses/{analyse(add_checkpoint('a')).json()['id']}"
    assert_problem(client.delete(url), 409, "analysis_not_final")
    assert client.post(f"{url}/cancel").json()["status"] == "cancelled"
    with services.database.read() as session:
        item = session.scalars(select(WorkItem).where(WorkItem.kind == WorkKind.ANALYSE)).one()
    assert item.state == WorkState.DONE
    assert_problem(client.post(f"{url}/cancel"), 409, "analysis_not_cancellable")
    assert client.delete(url).json()["deleted"] is True
    assert_problem(client.get(url), 404, "analysis_not_found")


def test_the_report_is_behind_a_link_until_the_analysis_is_deleted(
    client: TestClient, services: Services, add_checkpoint: Any, analyse: Any, assert_problem: Problem
) -> None:
    url = f"/v1/analyses/{analyse(add_checkpoint('a')).json()['id']}"
    assert_problem(client.get(f"{url}/reports/chain.html"), 409, "report_not_ready")
    finish(services, url.rpartition("/")[2])
    done = client.get(url).json()
    assert (done["status"], done["progress"]["done"]) == ("succeeded", done["progress"]["total"])
    (report,) = done["reports"]
    moved = client.get(report["url"])
    assert moved.status_code == 302
    link = moved.headers["location"]
    assert client.get(link).content == b"<!doctype html>"
    body = assert_problem(client.get(f"{url}/reports/chain.pdf"), 404, "report_not_found")
    assert "chain.html" in body["detail"]
    assert client.delete(url).status_code == 200
    assert client.get(link).status_code == 404


def test_a_data_set_that_an_analysis_needs_is_kept(
    client: TestClient, add_checkpoint: Any, analyse: Any, ready: str, assert_problem: Problem
) -> None:
    checkpoint = add_checkpoint("a")
    made = analyse(checkpoint).json()["id"]
    assert assert_problem(client.delete(f"/v1/datasets/{ready}"), 409, "dataset_in_use")["analyses"] == [made]
    client.post(f"/v1/analyses/{made}/cancel")
    assert client.delete(f"/v1/datasets/{ready}").status_code == 200
    assert_problem(analyse(checkpoint), 409, "dataset_deleted", param="checkpoints.0")


def test_analyses_of_others_are_not_there(
    client: TestClient, add_checkpoint: Any, analyse: Any, stranger: dict[str, str], assert_problem: Problem
) -> None:
    checkpoint = add_checkpoint("a")
    url = f"/v1/analyses/{analyse(checkpoint).json()['id']}"
    for method, path in [("GET", url), ("DELETE", url), ("POST", f"{url}/cancel"), ("GET", f"{url}/reports/x")]:
        assert_problem(client.request(method, path, headers=stranger), 404, "analysis_not_found")
    assert client.get("/v1/analyses", headers=stranger).json()["data"] == []
    body = {"type": "chain_of_forgetting", "checkpoints": [checkpoint]}
    answer = client.post("/v1/analyses", json=body, headers=stranger)
    assert_problem(answer, 422, "checkpoint_not_found", param="checkpoints.0")
