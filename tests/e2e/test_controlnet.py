"""A ControlNet job through the real service, on the bundled model."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

from cli.demo.scene_zips import write_scenes
from tests.e2e.conftest import Service

CONTROL = {"condition": "edge", "num_validation": 4}
EVALUATION = {"num_images": 6, "num_inference_steps": 2, "every_steps": 5}


def test_a_controlnet_is_trained_judged_and_opens_in_diffusers(service: Service, tmp_path: Path) -> None:
    from diffusers.models.controlnets.controlnet import ControlNetModel

    zips = write_scenes(tmp_path, seed=0, num_train=8, num_validation=6, condition="edge")
    files = [service.upload(path.read_bytes(), path.name) for path in (zips.train, zips.validation)]
    hyperparameters = {
        "max_steps": 10,
        "batch_size": 2,
        "log_every_steps": 5,
        "retention_set": {"num_images": 6, "num_inference_steps": 2},
    }
    body: Any = {"type": "diff_tuning", "diff_tuning": {"hyperparameters": hyperparameters}}
    job = service.client.fine_tuning.jobs.create(
        model="tiny-sd",
        training_file=files[0],
        validation_file=files[1],
        method=body,
        extra_body={"control": CONTROL, "evaluation": EVALUATION},
    )
    finished = service.finished(job.id)
    assert finished.status == "succeeded", finished.error
    names = {service.client.files.retrieve(i).filename: i for i in finished.result_files}
    report = json.loads(service.client.files.content(next(i for n, i in names.items() if n.endswith(".json"))).read())
    assert [entry["step"] for entry in report["evaluations"]] == [5, 10]
    assert report["dataset"]["controls"] == "given"
    assert report["references"]["autoencoder_floor"]["ssim"] > report["references"]["base_model"]["ssim"]
    url = f"/v1/checkpoints/{finished.fine_tuned_model}/download"
    answer = service.http.get(url, params={"format": "diffusers"}, follow_redirects=True)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        archive.extractall(tmp_path / "net")
    opened: Any = ControlNetModel.from_pretrained(tmp_path / "net")
    assert opened.config.cross_attention_dim == 64
