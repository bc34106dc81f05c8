"""A metric of another package, through the real service: schema, job, report, comparison, commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from difftune_core.config.transfer import TransferConfig
from tests import outside
from tests.e2e.conftest import Service, image_zip

Json = dict[str, Any]
EVALUATION = {
    "metrics": ["fid", "sharpness"],
    "best_metric": "sharpness_gap",
    "num_images": 8,
    "num_inference_steps": 2,
    "every_steps": 2,
}


def method(batch_size: int = 4, **hyperparameters: object) -> Json:
    given = {"max_steps": 4, "batch_size": batch_size, "checkpoint_every_steps": 2, **hyperparameters}
    return {"type": "supervised", "supervised": {"hyperparameters": given}}


@pytest.fixture(scope="module")
def comparison(service: Service) -> Json:
    """Two jobs of one seed, which ask for the metric, and their joint report."""
    methods = [{"name": name, "method": method(learning_rate=rate)} for name, rate in (("slow", 1e-5), ("fast", 1e-3))]
    files = {
        "training_file": service.upload(image_zip()),
        "validation_file": service.upload(image_zip(each=3, first=20)),
    }
    body = {"model": "tiny-dit", **files, "methods": methods, "seeds": [0]}
    answer = service.http.post("/v1/comparisons", json={**body, "evaluation": EVALUATION})
    assert answer.status_code == 200, answer.text
    return service.ended(f"/v1/comparisons/{answer.json()['id']}")


def test_the_schema_names_it(service: Service) -> None:
    schemas = service.http.get("/openapi.json").json()["components"]["schemas"]
    fields = next(schema for name, schema in schemas.items() if name.startswith("EvaluationConfig"))["properties"]
    assert "sharpness" in fields["metrics"]["items"]["enum"]
    assert "sharpness_gap" in fields["best_metric"]["pattern"]


def test_each_evaluation_has_its_figure_and_the_best_checkpoint_goes_by_it(service: Service, comparison: Json) -> None:
    assert comparison["status"] == "succeeded", comparison["error"]
    job_id = comparison["jobs"][0]["id"]
    files = service.files_of(job_id)
    report = json.loads(files["json"])
    values = {entry["step"]: entry["sharpness_gap"] for entry in report["evaluations"]}
    assert all(value > 0 for value in values.values())
    assert report["best"]["step"] == min(values, key=lambda step: values[step])
    assert {"base_model", "real_vs_real"} <= {k for k, v in report["references"].items() if "sharpness_gap" in v}
    assert "Sharpness gap on held-out images" in files["html"].decode()
    (first, *_) = service.http.get(
        f"/v1/fine_tuning/jobs/{job_id}/metrics", params={"name": "eval_sharpness_gap"}
    ).json()["data"]
    assert (first["step"], first["value"]) == (2, pytest.approx(values[2]))


def test_the_comparison_compares_by_it(service: Service, comparison: Json) -> None:
    names = {report["filename"]: report["url"] for report in comparison["reports"]}
    found = {name: service.http.get(url, follow_redirects=True) for name, url in names.items()}
    figures = next(answer.json() for name, answer in found.items() if name.endswith(".json"))["figures"]
    assert {name: spread["n"] for name, spread in figures["sharpness_gap"]["methods"].items()} == {"slow": 1, "fast": 1}
    page = next(answer.text for name, answer in found.items() if name.endswith(".html"))
    assert "Sharpness gap" in page


def test_commands_know_it(python: Callable[..., str], service: Service, comparison: Json) -> None:
    assert "| `sharpness_gap` (`sharpness`) |" in python("-m", "difftune_core", "figures")
    address = ("--url", str(service.http.base_url), "--key", service.client.api_key)
    assert "Sharpness gap" in python("-m", "cli", "jobs", "show", comparison["jobs"][0]["id"], *address)


def test_one_of_features_alone_is_an_option_of_the_command_line(python: Callable[..., str], tmp_path: Path) -> None:
    files = dict(outside.files_of("A metric"))
    described = files["my_metrics/described.py"].replace('"images"', '"features"').replace("sharpness", "spread")
    files = {"other/described.py": described}
    outside.write(tmp_path, files, "difftune.figures", {"spread": "other.described:SHARPNESS"})
    help_text = " ".join(python("-m", "difftune_core", "evaluate", "--help", path=tmp_path).split())
    assert "some of fid, kid" in help_text
    assert "spread" in help_text
    assert "sharpness" not in help_text, "it needs images"


def test_where_it_is_not_installed_it_is_refused_by_its_name() -> None:
    with pytest.raises(ValidationError) as refused:
        TransferConfig.model_validate({"model": "tiny-dit", "evaluation": EVALUATION})
    assert [error["loc"] for error in refused.value.errors()] == [
        ("evaluation", "metrics", 1),
        ("evaluation", "best_metric"),
    ]
