"""What `docs/extending.md` brings, all of it through one embedded service: from the schema to the end of a job.

A family with its base model, a method, a recipe with a loss and settings, a metric, a condition and a kind of work.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.demo.scene_zips import write_scenes
from tests.e2e.conftest import Service, image_zip
from tests.house.conftest import method

Json = dict[str, Any]
Reports = dict[str, tuple[Json, str]]
COUNTS = "/v1/colour_counts"
QUICK = {"max_steps": 4, "batch_size": 2}


def test_schemas_name_metric_and_condition(service: Service) -> None:
    schemas = service.http.get("/openapi.json").json()["components"]["schemas"]
    fields = next(schema for name, schema in schemas.items() if name.startswith("EvaluationConfig"))["properties"]
    assert "sharpness" in fields["metrics"]["items"]["enum"]
    assert "sharpness_gap" in fields["best_metric"]["pattern"]
    controls = [schema for name, schema in schemas.items() if name.startswith("ControlConfig")]
    assert all("light" in schema["properties"]["condition"]["enum"] for schema in controls)
    assert controls


def test_the_base_model_is_listed_and_its_schema_has_recipe_and_settings(service: Service, model: str) -> None:
    assert model in [found.id for found in service.client.models.list().data]
    shown = service.http.get(f"/v1/models/{model}").json()
    assert (shown["family"], shown["image_size"], shown["num_classes"]) == ("pixels", 8, 5)
    schema = json.dumps(service.http.get(f"/v1/models/{model}/methods/diff_tuning/schema").json())
    assert '"cosine"' in schema
    assert "Errors of the prediction beyond it count linearly." in schema


@pytest.mark.parametrize(("name", "type_"), [("easy_first", "curriculum"), ("tuned", "diff_tuning")])
def test_its_jobs_have_reports(name: str, type_: str, reports: Reports) -> None:
    report, page = reports[name]
    assert [entry["step"] for entry in report["evaluations"]] == [2, 4]
    assert all(entry["fid"] > 0 for entry in report["evaluations"])
    assert report["dataset"]["class_names"] == ["class-0", "class-1", "class-2"]
    assert report["job"]["method"]["type"] == type_
    assert "Samples of the tuned model" in page


def test_the_recipe_is_reported_with_its_settings(reports: Reports) -> None:
    report, page = reports["tuned"]
    tuned = report["job"]["method"]["diff_tuning"]["hyperparameters"]
    assert (tuned["recipe"], tuned["recipe_settings"]) == ("cosine", {"bound": 0.5})
    assert "recipe settings \u203a bound" in page


def test_the_method_is_reported_with_its_settings(reports: Reports) -> None:
    report, page = reports["easy_first"]
    assert report["job"]["method"]["curriculum"]["hyperparameters"]["spread_steps"] == 2
    assert "spread steps" in page
    assert "An easy-to-hard curriculum of my-pixels" in page


def test_the_method_is_listed_planned_and_refused_as_others_are(
    service: Service, comparison: Json, python: Callable[..., str], model: str
) -> None:
    shown = service.http.get(f"/v1/models/{model}").json()
    assert "curriculum" in shown["methods"]
    schema = service.http.get(f"/v1/models/{model}/methods/curriculum/schema").json()
    assert "Steps after which every time is drawn." in json.dumps(schema)
    assert "CurriculumHyperparameters" in service.http.get("/openapi.json").text
    body = {"model": model, "training_file": comparison["training_file"], "method": method("curriculum")}
    plan = service.http.post("/v1/fine_tuning/jobs", params={"dry_run": "true"}, json=body)
    assert plan.status_code == 200, plan.text
    body["method"]["curriculum"]["hyperparameters"]["loss_weighting"] = "psi"
    refused = service.http.post("/v1/fine_tuning/jobs", json=body).json()
    param = "method.curriculum.hyperparameters.loss_weighting"
    assert (refused["code"], refused["error"]["param"]) == ("invalid_option", param)
    assert "curriculum" in python("-m", "cli", "submit", "--help")


def test_each_evaluation_has_the_metric_and_the_best_checkpoint_goes_by_it(
    service: Service, comparison: Json, reports: Reports
) -> None:
    report, page = reports["easy_first"]
    values = {entry["step"]: entry["sharpness_gap"] for entry in report["evaluations"]}
    assert all(value > 0 for value in values.values())
    assert report["best"]["step"] == min(values, key=lambda step: values[step])
    assert {"base_model", "real_vs_real"} <= {k for k, v in report["references"].items() if "sharpness_gap" in v}
    assert "Sharpness gap on held-out images" in page
    series = f"/v1/fine_tuning/jobs/{comparison['jobs'][0]['id']}/metrics"
    (first, *_) = service.http.get(series, params={"name": "eval_sharpness_gap"}).json()["data"]
    assert (first["step"], first["value"]) == (2, pytest.approx(values[2]))


def test_they_are_compared_by_the_metric_too(joint: tuple[Json, str]) -> None:
    report, page = joint
    for key in ("fid", "sharpness_gap"):
        assert {name: found["n"] for name, found in report["figures"][key]["methods"].items()} == {
            "easy_first": 1,
            "tuned": 1,
        }
    assert "Sharpness gap" in page
    assert "cosine" in page


def test_commands_know_them(python: Callable[..., str], service: Service, comparison: Json, model: str) -> None:
    assert "| `sharpness_gap` (`sharpness`) |" in python("-m", "difftune_core", "figures")
    address = ("--url", str(service.http.base_url), "--key", service.client.api_key)
    assert "Sharpness gap" in python("-m", "cli", "jobs", "show", comparison["jobs"][0]["id"], *address)
    assert model in python("-m", "cli", "models", "list", *address)


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
def test_what_the_family_cannot_do_is_refused(
    service: Service, comparison: Json, fields: Json, code: str, param: str
) -> None:
    same = {name: comparison[name] for name in ("model", "training_file")}
    body = {**same, "method": method("supervised"), **fields}
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


def test_the_kind_of_work_is_at_home(
    service: Service, dataset: str, comparison: Json, objects: Callable[[str], set[str]]
) -> None:
    gone, kept = (service.http.post(COUNTS, json={"training_file": dataset}).json() for _ in range(2))
    for made in (gone, kept):
        ended = service.ended(f"{COUNTS}/{made['id']}")
        assert (ended["status"], ended["progress"]) == ("succeeded", {"done": 24, "total": 24}), str(ended)
        assert service.http.get(ended["reports"][0]["url"], follow_redirects=True).json() == {"red": 24}
    assert service.http.delete(f"{COUNTS}/{gone['id']}").status_code == 200
    left = objects("")
    assert {key for key in left if key.startswith("colour_counts/")} == {f"colour_counts/{kept['id']}/1/count.json"}
    assert all(any(key.startswith(f"jobs/{entry['id']}/") for key in left) for entry in comparison["jobs"])


@pytest.mark.long
def test_controlnets_learn_to_follow_the_condition_and_are_compared(service: Service, tmp_path: Path) -> None:
    zips = write_scenes(tmp_path, seed=0, num_train=8, num_validation=6)
    files = [service.upload(path.read_bytes(), path.name) for path in (zips.train, zips.validation)]
    methods = [
        {
            "name": name,
            "method": {"type": "supervised", "supervised": {"hyperparameters": {**QUICK, "learning_rate": rate}}},
        }
        for name, rate in (("slow", 1e-5), ("fast", 1e-3))
    ]
    body = {"model": "tiny-sd", "training_file": files[0], "validation_file": files[1], "methods": methods}
    more = {
        "seeds": [0],
        "control": {"condition": "light", "num_validation": 4},
        "evaluation": {"num_images": 6, "num_inference_steps": 2, "every_steps": 2},
    }
    answer = service.http.post("/v1/comparisons", json={**body, **more})
    assert answer.status_code == 200, answer.text
    ended = service.ended(f"/v1/comparisons/{answer.json()['id']}")
    assert ended["status"] == "succeeded", ended
    report = json.loads(service.files_of(ended["jobs"][0]["id"])["json"])
    assert [0 < entry["mse"] < 1 for entry in report["evaluations"]] == [True, True]
    assert (report["best"]["metric"], report["dataset"]["controls"]) == ("mse", "drawn")
    joint = next(file["url"] for file in ended["reports"] if file["filename"].endswith(".json"))
    assert service.http.get(joint, follow_redirects=True).json()["figures"]["mse"]["methods"].keys() == {"slow", "fast"}


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
