"""A model family of another package, and a recipe of a third, through the real service: from the list to the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Service, image_zip

Json = dict[str, Any]
MODEL = "my-pixels"


def method(name: str, **hyperparameters: object) -> Json:
    return {"type": name, name: {"hyperparameters": {"batch_size": 8, **hyperparameters}}}


@pytest.fixture(scope="module")
def model(service: Service, python: Callable[..., str]) -> str:
    """A base model of the family, where an operator puts it."""
    python("-m", "my_family.make", str(service.data_dir / "models" / MODEL))
    return MODEL


@pytest.fixture(scope="module")
def comparison(service: Service, model: str) -> Json:
    """Two jobs with equal noise, one of them by the recipe `cosine`, and their joint report."""
    own = {"recipe": "cosine", "recipe_settings": {"bound": 0.5}}
    retained = {**own, "retention_set": {"num_images": 12, "num_inference_steps": 2}}
    methods = [
        {"name": "plain", "method": method("supervised", max_steps=4)},
        {"name": "tuned", "method": method("diff_tuning", max_steps=4, **retained)},
    ]
    body = {"model": model, "training_file": service.upload(image_zip()), "methods": methods, "seeds": [0]}
    evaluation = {"num_images": 16, "num_inference_steps": 2, "every_steps": 2, "other_guidance": ["none"]}
    answer = service.http.post("/v1/comparisons", json={**body, "evaluation": evaluation})
    assert answer.status_code == 200, answer.text
    return service.ended(f"/v1/comparisons/{answer.json()['id']}")


def test_its_model_is_listed_and_shown(service: Service, model: str) -> None:
    assert model in [found.id for found in service.client.models.list().data]
    shown = service.http.get(f"/v1/models/{model}").json()
    assert (shown["family"], shown["image_size"], shown["num_classes"]) == ("pixels", 8, 5)
    schema = json.dumps(service.http.get(f"/v1/models/{model}/methods/diff_tuning/schema").json())
    assert '"cosine"' in schema
    assert "Errors of the prediction beyond it count linearly." in schema


def test_its_jobs_have_reports(service: Service, comparison: Json) -> None:
    assert comparison["status"] == "succeeded", comparison
    jobs = {entry["method"]: entry["id"] for entry in comparison["jobs"]}
    for name, job_id in jobs.items():
        files = service.files_of(job_id)
        report = json.loads(files["json"])
        assert [entry["step"] for entry in report["evaluations"]] == [2, 4]
        assert all(entry["fid"] > 0 for entry in report["evaluations"])
        assert report["dataset"]["class_names"] == ["class-0", "class-1", "class-2"]
        assert report["job"]["method"]["type"] == {"plain": "supervised", "tuned": "diff_tuning"}[name]
        assert "Samples of the tuned model" in files["html"].decode()
    tuned = report["job"]["method"]["diff_tuning"]["hyperparameters"]
    assert (tuned["recipe"], tuned["recipe_settings"]) == ("cosine", {"bound": 0.5})
    assert "cosine" in files["html"].decode()


def test_they_are_compared(service: Service, comparison: Json) -> None:
    files = {file["filename"].rpartition(".")[2]: file["url"] for file in comparison["reports"]}
    figures = service.http.get(files["json"], follow_redirects=True).json()["figures"]
    assert {name: spread["n"] for name, spread in figures["fid"]["methods"].items()} == {"plain": 1, "tuned": 1}
    assert "cosine" in service.http.get(files["html"], follow_redirects=True).text


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        (
            {"method": method("supervised", adapter={"type": "lora"})},
            "adapter_not_for_model",
            "method.supervised.hyperparameters.adapter",
        ),
        ({"control": {"condition": "light"}}, "control_not_for_model", "control"),
        ({"evaluation": {"clip_model": "tiny-clip"}}, "clip_not_for_model", "evaluation.clip_model"),
    ],
)
def test_what_it_cannot_do_is_refused(service: Service, model: str, fields: Json, code: str, param: str) -> None:
    body = {"model": model, "training_file": service.upload(image_zip()), "method": method("supervised"), **fields}
    refused = service.http.post("/v1/fine_tuning/jobs", json=body).json()
    assert (refused["code"], refused["error"]["param"]) == (code, param)


def test_its_chain_of_forgetting_is_refused_by_its_name(service: Service, comparison: Json) -> None:
    job = service.client.fine_tuning.jobs.retrieve(comparison["jobs"][0]["id"])
    body = {"type": "chain_of_forgetting", "checkpoints": [job.fine_tuned_model]}
    refused = service.http.post("/v1/analyses", json=body).json()
    assert refused["code"] == "analysis_not_for_model"
    assert "'pixels'" in refused["detail"]


def test_its_result_is_downloaded_and_other_forms_are_refused(service: Service, comparison: Json) -> None:
    job = service.client.fine_tuning.jobs.retrieve(comparison["jobs"][0]["id"])
    path = f"/v1/checkpoints/{job.fine_tuned_model}/download"
    assert service.http.get(path, follow_redirects=True).status_code == 200
    for other in ("diffusers", "original", "single_file"):
        assert service.http.get(path, params={"format": other}).is_client_error, other


def test_a_retention_set_of_its_images_is_made(service: Service, model: str) -> None:
    body = {"model": model, "num_images": 12, "num_inference_steps": 2}
    made = service.http.post("/v1/retention_sets", json=body).json()
    ended = service.ended(f"/v1/retention_sets/{made['id']}")
    assert (ended["status"], ended["progress"]["done"]) == ("succeeded", 12)


def test_the_command_line_lists_its_model(python: Callable[..., str], service: Service, model: str) -> None:
    address = ("--url", str(service.http.base_url), "--key", service.client.api_key)
    assert model in python("-m", "cli", "models", "list", *address)


@pytest.mark.long
def test_by_hand_a_job_of_it_is_a_command(
    python: Callable[..., str], service: Service, model: str, tmp_path: Path
) -> None:
    config, data, out = (tmp_path / name for name in ("config.json", "images.zip", "out"))
    evaluation = {"num_images": 8, "num_inference_steps": 2}
    config.write_text(
        json.dumps({"model": model, "method": method("supervised", max_steps=2), "evaluation": evaluation})
    )
    data.write_bytes(image_zip())
    places = ("--data", data, "--models", service.data_dir / "models", "--out", out)
    python("-m", "difftune_core", "train", str(config), *map(str, places))
    assert json.loads((out / "report.json").read_text())["model"]["family"] == "pixels"


@pytest.mark.long
def test_a_job_is_paused_resumed_exactly_cancelled_and_deleted(
    service: Service, model: str, objects: Callable[[str], set[str]]
) -> None:
    jobs = service.client.fine_tuning.jobs
    endless: Any = method("supervised", max_steps=1_000_000, log_every_steps=1)
    job = jobs.create(model=model, training_file=service.upload(image_zip(first=30)), method=endless)
    service.wait(job.id, lambda found: found.status_details["step"] > 0)
    jobs.pause(job.id)
    saved = service.wait(job.id, lambda found: found.status == "paused").status_details["step"]
    jobs.resume(job.id)
    attempt = service.wait(job.id, lambda found: found.status_details["step"] > saved).attempts[-1]
    assert (attempt["start_step"], attempt["resumed"], attempt["changed"]) == (saved, "exact", [])
    jobs.cancel(job.id)
    assert service.finished(job.id).status == "cancelled"
    checkpoints = jobs.checkpoints.list(job.id).data
    kept = objects(f"jobs/{job.id}/")
    assert all(any(f"step-{found.step_number:08d}/" in key for key in kept) for found in checkpoints)
    assert service.http.delete(f"/v1/fine_tuning/jobs/{job.id}").status_code == 200
    assert objects(f"jobs/{job.id}/") == set()
