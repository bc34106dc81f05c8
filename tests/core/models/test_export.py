"""The diffusers export, opened and sampled by diffusers alone."""

from __future__ import annotations

import json
import runpy
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import difftune_core
from difftune_core.diffusion.reverse import Sampling
from difftune_core.families.dit.deviation import extent
from difftune_core.families.dit.draw import sample_latents
from difftune_core.families.dit.export import export_diffusers
from difftune_core.families.dit.export_card import pipeline_name
from difftune_core.families.dit.label_rows import with_classes
from difftune_core.families.export import CARD, README
from difftune_core.networks.autoencoder import Autoencoder
from difftune_core.networks.dit import PRESETS, DiT
from difftune_core.runtime.rng import generator

VAE = Path(difftune_core.__path__[0]) / "weights" / "tiny-dit" / "vae"
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


HARD_NAMES = [
    "cat, black",
    "cat, white",
    " cat",
    "cat",
    "cat ",
    "50%",
    "cat%2C black",
    "St. Ives|x",
    "\u3000wide",
    "~~~~",
]


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5, unique=True))
def test_class_names_survive_the_pipelines_reading(names: list[str]) -> None:
    """As `DiTPipeline` reads them: split at commas, stripped."""
    read = [part.strip() for name in names for part in pipeline_name(name).split(",")]
    assert len(set(read)) == len(names)
    assert [unquote(name) for name in read] == names


def test_the_export_tells_its_classes_and_its_licence(toy_model: DiT, tmp_path: Path) -> None:
    model = with_classes(toy_model, len(HARD_NAMES), "mean").eval()
    card = {"base_model": "toy", "licence": "CC-BY-NC-4.0", "method": {"type": "supervised"}, "step": 4}
    export_diffusers(model, VAE, tmp_path, class_names=HARD_NAMES, card=card, sampling=SAMPLING)
    pipeline = open_pipeline(tmp_path)
    assert {unquote(name): label for name, label in pipeline.labels.items()} == {n: i for i, n in enumerate(HARD_NAMES)}
    readme = (tmp_path / README).read_text(encoding="utf-8")
    assert "- licence of the base model: CC-BY-NC-4.0" in readme
    assert "that one's licence covers them too" in readme
    rows = [line.split("\t") for line in readme.split("~~~~\n")[1].splitlines()]
    assert [(int(label), json.loads(name)) for label, name, _ in rows] == list(enumerate(HARD_NAMES))
    assert pipeline.get_label_ids([json.loads(shown) for _, _, shown in rows]) == list(range(len(HARD_NAMES)))
    told = json.loads((tmp_path / CARD).read_text(encoding="utf-8"))
    assert told["classes"][0] == {"id": 0, "name": "cat, black", "pipeline_name": "cat%2C black"}
    code = readme.split("```python")[1].split("```")[0].replace("THIS_FOLDER", str(tmp_path))
    run(code)  # what the README says, as a reader would run it


def run(code: str) -> None:
    exec(code.replace("num_inference_steps=50", "num_inference_steps=1"), {})


def test_the_readme_of_the_project_opens_the_export_too(
    toy_model: DiT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported(toy_model, "diffusers", tmp_path / "export")
    shutil.make_archive(str(tmp_path / "flowers-dit"), "zip", tmp_path / "export")
    monkeypatch.chdir(tmp_path)
    code = (Path(difftune_core.__path__[0]).parent / "README.md").read_text(encoding="utf-8")
    run(next(part for part in code.split("```python\n") if "DiTPipeline" in part).split("```")[0])
    assert (tmp_path / "flower.png").stat().st_size


def test_the_export_names_no_place_of_this_machine(toy_model: DiT, tmp_path: Path) -> None:
    exported(toy_model, "original", tmp_path)
    texts = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*") if path.suffix in {".json", ".md"}]
    assert len(texts) > 4
    assert not [text for text in texts if str(VAE.parents[1]) in text or str(tmp_path) in text]


@pytest.mark.parametrize(
    ("preset", "device", "images", "steps", "samplers"),
    [("DiT-S/8", "cpu", 8, 50, 3), ("DiT-XL/2", "cpu", 2, 2, 1), ("DiT-XL/2", "cuda", 8, 50, 3)],
)
def test_the_comparison_of_an_export_never_takes_minutes(
    preset: str, device: str, images: int, steps: int, samplers: int
) -> None:
    asked = Sampling(num_inference_steps=250)
    used, count, comparisons = extent(PRESETS[preset], asked, torch.device(device))
    assert (count, used.num_inference_steps, len(comparisons)) == (images, steps, samplers)
    few, _, _ = extent(PRESETS[preset], Sampling(num_inference_steps=1), torch.device(device))
    assert few.num_inference_steps == 1, "never more than was asked for"


@pytest.mark.parametrize(("channels", "scale", "differences"), [(3, 2.0, 2), (4, 1.0, 2), (4, 2.0, 3)])
def test_our_own_way_stands_beside_the_pipeline_where_they_differ(
    channels: int, scale: float, differences: int
) -> None:
    """The pipeline guides three channels alone; its DDPM draws with the variance that a DiT learns."""
    config = replace(PRESETS["DiT-S/8"], in_channels=channels)
    _, _, comparisons = extent(config, Sampling(guidance_scale=scale), torch.device("cpu"))
    assert len(comparisons) == differences


def test_an_export_with_a_hand_over_draws_what_our_sampler_draws(toy_model: DiT, tmp_path: Path) -> None:
    """It has both transformers and a pipeline; `DiTPipeline` opens the same folder as the tuned one alone."""
    tuned = with_classes(toy_model, NUM_CLASSES, "mean")
    torch.manual_seed(5)
    source = DiT(replace(toy_model.config, num_classes=7))
    for parameter in source.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    models = [DiT(replace(model.config, timestep_frequencies="diffusers")) for model in (tuned, source)]
    for model, state in zip(models, (tuned.state_dict(), source.state_dict()), strict=True):
        model.load_state_dict(state)
    how, names = replace(SAMPLING, handover=0.5), [f"class {i}" for i in range(NUM_CLASSES)]
    export_diffusers(models[0].eval(), VAE, tmp_path, class_names=names, card={}, sampling=how, source=models[1].eval())
    found: Any = runpy.run_path(str(tmp_path / "handover_pipeline.py"))
    pipeline = found["HandOverDiTPipeline"].from_pretrained(tmp_path, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    labels = [0, 3]
    for sampling, opened in ((how, pipeline), (SAMPLING, open_pipeline(tmp_path))):
        ours = Autoencoder(VAE).decode(sample_latents(models[0], torch.tensor(labels), sampling, source=models[1]))
        assert np.abs(levels(opened, labels) - ours.astype(int)).max() <= 1
    told = json.loads((tmp_path / CARD).read_text(encoding="utf-8"))["pipeline"]
    assert told["settings"]["handover"] == 0.5
    assert told["differences"][0]["max_levels"] <= 1
    assert "HandOverDiTPipeline" in (tmp_path / README).read_text(encoding="utf-8")
