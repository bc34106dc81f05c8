"""A condition of another package, through the real service: two ControlNets that follow it, and their comparison."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.demo.scene_zips import write_scenes
from tests.e2e.conftest import Service

QUICK = {"max_steps": 4, "batch_size": 2}


def test_the_schema_names_it(service: Service) -> None:
    schemas = service.http.get("/openapi.json").json()["components"]["schemas"]
    controls = [schema for name, schema in schemas.items() if name.startswith("ControlConfig")]
    assert all("light" in schema["properties"]["condition"]["enum"] for schema in controls)
    assert controls


@pytest.mark.long
def test_controlnets_learn_to_follow_it_and_are_compared(service: Service, tmp_path: Path) -> None:
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
