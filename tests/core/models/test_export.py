"""The diffusers export, opened and sampled by diffusers alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import difftune_core
from difftune_core.checkpoint.export import CARD, export_diffusers
from difftune_core.diffusion.sampler import Sampling, sample_latents
from difftune_core.models.autoencoder import Autoencoder
from difftune_core.models.dit import DiT
from difftune_core.models.transfer import with_classes
from difftune_core.rng import generator

VAE = Path(difftune_core.__path__[0]) / "tiny" / "weights" / "tiny-dit" / "vae"
NUM_CLASSES = 10
SAMPLING = Sampling(num_inference_steps=4, guidance_scale=2.0, seed=3)


def open_pipeline(folder: Path) -> Any:
    from diffusers.pipelines.dit.pipeline_dit import DiTPipeline

    opener: Any = DiTPipeline
    pipeline = opener.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def levels(pipeline: Any, labels: list[int]) -> np.ndarray:
    """Its images, drawn from the noise of our own sampler."""
    images: np.ndarray = pipeline(
        class_labels=labels,
        guidance_scale=SAMPLING.guidance_scale,
        generator=[generator(SAMPLING.seed, "sample", i) for i in range(len(labels))],
        num_inference_steps=SAMPLING.num_inference_steps,
        output_type="np",
    ).images
    return (images * 255).round().astype(int)


def exported(model: DiT, frequencies: str, folder: Path) -> tuple[DiT, dict[str, Any]]:
    """A model of ten classes with these frequencies, its export in `folder`, and the card in it."""
    tuned = with_classes(model, NUM_CLASSES, "mean")
    tuned.config = replace(tuned.config, timestep_frequencies=frequencies)
    rebuilt = DiT(tuned.config)
    rebuilt.load_state_dict(tuned.state_dict())
    with torch.no_grad():  # classes and null that differ widely, so that guidance shows
        rebuilt.y_embedder.embedding_table.weight.copy_(torch.randn(NUM_CLASSES + 1, 32, generator=generator("table")))
    names = [f"class {i}" for i in range(NUM_CLASSES)]
    export_diffusers(rebuilt.eval(), VAE, folder, class_names=names, card={"base_model": "toy"}, sampling=SAMPLING)
    return rebuilt, json.loads((folder / CARD).read_text(encoding="utf-8"))


@pytest.mark.parametrize("frequencies", ["diffusers", "original"])
def test_the_card_tells_how_far_the_pipelines_images_are_from_ours(
    frequencies: str, toy_model: DiT, tmp_path: Path
) -> None:
    model, card = exported(toy_model, frequencies, tmp_path)
    assert card["base_model"] == "toy"
    told = card["pipeline"]
    expected = {"sampler": "ddim", "num_inference_steps": 4, "guidance_scale": 2.0, "seed": 3}
    assert expected.items() <= told["settings"].items()
    theirs = levels(open_pipeline(tmp_path), told["labels"])
    labels, decode = torch.tensor(told["labels"]), Autoencoder(VAE).decode
    kinds = [("ddim", 4, {}), ("ddim", 3, {"guided_channels": 3}), ("ddpm", 4, {"sampler": "ddpm"})]
    assert len(told["differences"]) == len(kinds)
    for entry, (sampler, channels, fields) in zip(told["differences"], kinds, strict=True):
        assert entry["own_sampler"] == {"sampler": sampler, "guided_channels": channels}
        distance = np.abs(theirs - decode(sample_latents(model, labels, replace(SAMPLING, **fields))).astype(int))
        assert entry["mean_levels"] == pytest.approx(distance.mean(), abs=0.05)
        assert entry["max_levels"] == pytest.approx(distance.max(), abs=1)
    same, channels, noisy = told["differences"]
    assert noisy["mean_levels"] > 1, "another draw"
    assert channels["mean_levels"] != same["mean_levels"]
    if frequencies == "diffusers":
        assert same["max_levels"] <= 1, "nothing but rounding"
    else:
        assert same["max_levels"] > 1
        assert "frequencies" in same["why"]


def test_guidance_in_the_pipeline_goes_away_from_our_null_row(toy_model: DiT, tmp_path: Path) -> None:
    """K = 10: the null row must be found at 1000, and every other row beyond the classes be the same."""
    exported(toy_model, "diffusers", tmp_path)
    pipeline = open_pipeline(tmp_path)
    assert pipeline.labels == {f"class {i}": i for i in range(NUM_CLASSES)}
    guided = levels(pipeline, [1, 2, NUM_CLASSES, 1000])
    assert np.array_equal(levels(pipeline, [1, 2, 999, 1000]), guided)
    for block in pipeline.transformer.transformer_blocks:
        block.norm1.emb.class_embedder.embedding_table.weight.data[1000] = 0
    assert np.abs(levels(pipeline, [1, 2, NUM_CLASSES, 1000]) - guided).mean() > 1
