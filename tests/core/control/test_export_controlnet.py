"""A trained ControlNet's exports, opened by diffusers alone."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

import difftune_core
from difftune_core.families.controlnet.export import export_controlnet
from tests.core.control.toy import SIZE, ToyRuns

CARD = {"base_model": "toy-sd", "condition": "edge", "method": {"type": "diff_tuning"}, "step": 4, "licence": "MIT"}


@pytest.fixture(scope="module")
def controlnet(toy_runs: ToyRuns, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Beside the toy model, every value random, opened from a folder as one that training goes on from."""
    from diffusers.models.controlnets.controlnet import ControlNetModel
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    unets: Any = UNet2DConditionModel
    controlnets: Any = ControlNetModel
    torch.manual_seed(0)
    made = controlnets.from_unet(unets.from_pretrained(toy_runs.root / "models" / "toy-sd" / "unet"))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.2)
    folder = tmp_path_factory.mktemp("controlnet")
    made.save_pretrained(folder)
    return controlnets.from_pretrained(folder).eval()


def drawn(toy_runs: ToyRuns, controlnet: Any) -> np.ndarray:
    from diffusers.pipelines.controlnet.pipeline_controlnet import StableDiffusionControlNetPipeline

    opener: Any = StableDiffusionControlNetPipeline
    pipeline = opener.from_pretrained(
        toy_runs.root / "models" / "toy-sd", controlnet=controlnet, safety_checker=None, local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    control = Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8))
    stream = torch.Generator().manual_seed(2)
    images: np.ndarray = pipeline(
        "a red cone", image=control, num_inference_steps=2, generator=stream, output_type="np"
    ).images
    return images


def test_diffusers_opens_and_draws_with_both_exports(toy_runs: ToyRuns, controlnet: Any, tmp_path: Path) -> None:
    from diffusers.models.controlnets.controlnet import ControlNetModel

    archive, single = export_controlnet(controlnet, tmp_path, card=CARD)
    assert (archive.name, single.name) == ("diffusers.zip", "controlnet.safetensors")
    folder = tmp_path / "unpacked"
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    opener: Any = ControlNetModel
    opened = opener.from_pretrained(folder, local_files_only=True)
    of_file = opener.from_single_file(str(single), config=str(folder), local_files_only=True)
    assert save(opened.state_dict()) == save(of_file.state_dict()) == save(controlnet.state_dict())
    images = drawn(toy_runs, controlnet)
    assert images.shape == (1, SIZE, SIZE, 3)
    assert np.array_equal(drawn(toy_runs, opened), images)
    with torch.no_grad():
        controlnet.controlnet_mid_block.weight.mul_(2)
    assert not np.array_equal(drawn(toy_runs, controlnet), images), "it has a say in the image"


def test_the_export_says_what_it_is_and_not_where_it_was(controlnet: Any, tmp_path: Path) -> None:
    archive, _ = export_controlnet(controlnet, tmp_path, card=CARD)
    with zipfile.ZipFile(archive) as packed:
        told = json.loads(packed.read("difftune.json"))
        config = json.loads(packed.read("config.json"))
        readme = packed.read("README.md").decode()
    assert CARD.items() <= told.items()
    assert "cross_attention_dim" in told["unlike_stable_diffusion"]
    assert config["_class_name"] == "ControlNetModel"
    assert "_name_or_path" not in config
    assert all(line in readme for line in ("- base model: toy-sd", "- method: diff_tuning", "- step: 4", "MIT"))
    again, single = tmp_path / "again", tmp_path / "controlnet.safetensors"
    again.mkdir()
    other_archive, other_single = export_controlnet(controlnet, again, card=CARD)
    assert archive.read_bytes() == other_archive.read_bytes()
    assert single.read_bytes() == other_single.read_bytes()


def test_the_code_of_its_readme_draws_with_the_bundled_base_model(tmp_path: Path) -> None:
    """Its text encoder is stored in half precision, its UNet is not."""
    from diffusers.models.controlnets.controlnet import ControlNetModel
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    base = Path(difftune_core.__path__[0]) / "weights" / "tiny-sd"
    controlnets: Any = ControlNetModel
    unets: Any = UNet2DConditionModel
    archive, _ = export_controlnet(controlnets.from_unet(unets.from_pretrained(base / "unet")), tmp_path, card=CARD)
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(tmp_path / "net")
    code = (tmp_path / "net" / "README.md").read_text().split("```python")[1].split("```")[0]
    code = code.replace("THIS_FOLDER", str(tmp_path / "net")).replace("BASE_MODEL_FOLDER", str(base))
    names: dict[str, Any] = {"control_image": Image.new("RGB", (64, 64))}
    exec(code.replace("image=control_image", "image=control_image, num_inference_steps=2"), names)
    assert names["image"].size == (64, 64)
