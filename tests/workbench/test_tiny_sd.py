from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import difftune_core
from cli.demo.scenes import VOCABULARY, Scenes, Split
from difftune_core.config.card import read_card
from difftune_core.data.conditions import annotator
from difftune_core.diffusion.reverse import Sampling
from difftune_core.families.controlnet.base_model import StableDiffusion
from difftune_core.families.controlnet.controls import compare_controls
from difftune_core.families.controlnet.draw import Prompted, sample_prompted
from difftune_core.families.table import find_base_model
from difftune_core.files import folder_digest
from difftune_core.networks.text import TextEncoder
from workbench.tiny.tokenizer import LENGTH, write_tokenizer
from workbench.tiny.train_autoencoder import reconstruct
from workbench.tiny.training import psnr, to_tensor

WEIGHTS = Path(difftune_core.__path__[0]) / "weights"
FOLDER = WEIGHTS / "tiny-sd"


@pytest.fixture(scope="module")
def base() -> StableDiffusion:
    found = find_base_model("tiny-sd", [WEIGHTS])
    assert isinstance(found, StableDiffusion)
    return found


def held_out(world: Any, count: int) -> np.ndarray:
    drawn = Scenes(world, split=Split.HELD_OUT)
    return np.stack([drawn.image(5000 + index)[0] for index in range(count)])


def test_it_is_small_and_its_card_fits() -> None:
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) <= 12_000_000
    assert read_card(FOLDER).digest == folder_digest(FOLDER)


def test_diffusers_opens_it_offline_and_draws(base: StableDiffusion) -> None:
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

    opener: Any = StableDiffusionPipeline
    pipeline = opener.from_pretrained(base.folder, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a red sphere on a grey floor", num_inference_steps=2, output_type="np").images
    assert image.shape == (1, 64, 64, 3)


def test_every_word_of_both_worlds_is_one_token(tmp_path: Path) -> None:
    tokenizer = write_tokenizer(tmp_path / "again")
    assert all(len(tokenizer(word).input_ids) == 3 for word in VOCABULARY)
    bundled = FOLDER / "tokenizer"
    assert (tmp_path / "again" / "vocab.json").read_bytes() == (bundled / "vocab.json").read_bytes()
    longest = "three toys on mossy ground: a striped teal torus, a plain pink dome, a checkered orange pyramid"
    assert len(tokenizer(longest).input_ids) <= LENGTH
    assert tokenizer.decode(tokenizer("a red box").input_ids, skip_special_tokens=True) == "a red box"


@pytest.mark.parametrize(("world", "least"), [("a", 28.0), ("b", 25.0)])
def test_the_autoencoder_restores_scenes_of_both_worlds(world: str, least: float) -> None:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    opener: Any = AutoencoderKL
    vae = opener.from_pretrained(FOLDER / "vae").float().eval()
    images = to_tensor(held_out(world, 24))
    assert psnr(images, reconstruct(vae, images)) > least


def test_a_prompt_decides_what_is_drawn(base: StableDiffusion) -> None:
    """Red pixels under a prompt of red, blue ones under blue, from the same noise."""
    prompts = ["a red sphere on a grey floor", "a blue sphere on a grey floor", ""]
    states = TextEncoder(base.folder).encode(prompts)
    unet, count = base.load_unet(), 8
    redness = []
    for state in states[:2]:
        prompted = Prompted(state.expand(count, -1, -1), states[2])
        sampling = Sampling(num_inference_steps=8, guidance_scale=3.0)
        latents = sample_prompted(unet, base.noise_fields(), prompted, sampling)
        images = base.load_autoencoder().decode(latents).astype(float)
        redness.append(float((images[..., 0] - images[..., 2]).mean()))
    assert redness[0] > redness[1] + 5


@pytest.mark.parametrize("condition", ["depth", "segmentation"])
def test_the_annotators_draw_what_is_there(condition: str) -> None:
    card = read_card(FOLDER)
    draw = annotator(condition, WEIGHTS / card.annotators[condition])
    found = [Scenes(world, split=Split.HELD_OUT).picture(7000 + i) for world in ("a", "b") for i in range(6)]
    given = np.stack([picture.controls[condition] for picture in found])
    drawn = np.stack([draw(picture.image) for picture in found])
    agreement = compare_controls(condition, given, drawn)
    shuffled = compare_controls(condition, given, np.roll(drawn, 1, axis=0))
    sign = 1 if agreement.higher_is_better else -1
    assert sign * agreement.per_image.mean() > sign * shuffled.per_image.mean()
    assert agreement.values.get("pixel_accuracy", 1.0) > 0.8
    assert agreement.values.get("mse", 0.0) < 0.02
