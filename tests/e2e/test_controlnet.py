"""A ControlNet job through the real service, on the bundled model."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from cli.demo.scene_zips import write_scenes
from cli.main import app
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
        "learning_rate": 3e-3,  # so that ten steps are seen in the images
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
    images_follow_their_control(service, job.id, tmp_path)


def images_follow_their_control(service: Service, job_id: str, folder: Path) -> None:
    """Draw with the result: the command and OpenAI's client draw the same, and by another control other images."""
    size = 64
    controls = {"black": np.zeros((size, size, 3), np.uint8), "edges": np.zeros((2 * size, 2 * size, 3), np.uint8)}
    controls["edges"][32:96:4] = 255
    for name, pixels in controls.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    drawn = {name: by_command(service, job_id, folder / f"{name}.png") for name in controls}
    assert all(len(images) == 4 for images in drawn.values()), "two of the result, two of the base model"
    assert drawn["black"][:2] != drawn["edges"][:2]
    assert drawn["black"][2:] == drawn["edges"][2:], "the base model follows none"
    shown = service.client.files.create(file=("edges.png", (folder / "edges.png").read_bytes()), purpose="vision")
    answer = service.client.images.generate(
        model=service.client.fine_tuning.jobs.retrieve(job_id).fine_tuned_model,
        prompt="a red circle",
        n=2,
        response_format="b64_json",
        extra_body={"seed": 7, "control_image": shown.id, "num_inference_steps": 2},
    )
    assert [pixels_of(base64.b64decode(one.b64_json or "")) for one in answer.data or []] == drawn["edges"][:2]
    service.client.files.delete(shown.id)


def by_command(service: Service, job_id: str, control: Path) -> list[bytes]:
    """What `difftune generate` fetches: pixels of each image, those of the result first."""
    stated = ["a red circle", "-n", 2, "--seed", 7, "--steps", 2, "--base", "--control", control]
    where = ["--to", control.with_suffix(""), "--data-dir", service.data_dir, "--json"]
    done = CliRunner().invoke(app, ["generate", *map(str, [job_id, *stated, *where])])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    by_source = sorted(zip(told["data"], told["paths"], strict=True), key=lambda one: one[0]["source"] == "base")
    return [pixels_of(Path(path).read_bytes()) for _, path in by_source]


def pixels_of(png: bytes) -> bytes:
    """The pixels of an image."""
    with Image.open(io.BytesIO(png)) as image:
        return image.tobytes()
