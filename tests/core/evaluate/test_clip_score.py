from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from difftune_core.config.card import CompanionCard, list_cards, readable_cards
from difftune_core.evaluate.clip_score import ClipScorer
from difftune_core.families.convert.request import ImportRequest
from difftune_core.families.install import install
from difftune_core.hooks import TaskError
from tests.core.clip_files import LENGTH, SIZE, write_clip
from tests.core.conftest import RecordingHooks

CAPTIONS = [
    "a red sphere on a grey floor",
    "a blue cube",
    "two toys: a green cone, a teal torus",
    "a pyramid",
    "a dome",
]
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # Radford et al. 2021


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "small-clip")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Wider than high, with slopes that a filter keeps and noise that it does not."""
    rng = np.random.default_rng(0)
    slope = np.linspace(0, 150, 96)[None, None, :, None] * rng.random((5, 1, 1, 3))
    return (slope + rng.integers(0, 100, (5, 64, 96, 3))).astype(np.uint8)


def logits(folder: Path, images: np.ndarray, captions: list[str]) -> tuple[torch.Tensor, float]:
    """transformers' logits of each image with each caption, and their scale; pixels prepared here, by the paper."""
    import transformers

    library: Any = transformers
    model = library.CLIPModel.from_pretrained(folder).eval()
    tokens = library.CLIPTokenizer.from_pretrained(folder)(captions, padding=True, truncation=True, return_tensors="pt")
    pixels = []
    for image in images:
        resized = Image.fromarray(image).resize((48, SIZE), Image.Resampling.BICUBIC).crop((8, 0, 8 + SIZE, SIZE))
        pixels.append((np.asarray(resized) / 255 - MEAN) / STD)
    values = torch.tensor(np.stack(pixels), dtype=torch.float32).permute(0, 3, 1, 2)
    with torch.no_grad():
        found = model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, pixel_values=values)
        return found.logits_per_image, float(model.logit_scale.exp())


def test_scores_are_those_of_the_library_s_logits(folder: Path, images: np.ndarray) -> None:
    scorer = ClipScorer(folder)
    wanted, scale = logits(folder, images, CAPTIONS)
    for shift in range(len(CAPTIONS)):
        shifted = CAPTIONS[shift:] + CAPTIONS[:shift]
        pairs = wanted[torch.arange(5), (torch.arange(5) + shift) % 5]
        expected = 100 * (pairs / scale).clamp(min=0).double().numpy()
        np.testing.assert_allclose(scorer(images, shifted), expected, atol=2e-3)
    assert float(wanted.min()) < 0 < float(wanted.max()), "the cut at 0 is part of what was compared"
    assert float(wanted.std()) / scale > 0.01, "scores of different pairs differ"


def test_batches_and_long_captions_change_nothing_else(folder: Path, images: np.ndarray) -> None:
    scorer = ClipScorer(folder)
    many, said = np.concatenate([images] * 8), CAPTIONS * 8
    np.testing.assert_allclose(scorer(many, said), np.tile(scorer(images, CAPTIONS), 8), atol=1e-3)
    long = " ".join(["a red sphere"] * 20)
    assert scorer.num_truncated([long, "a dome"]) == 1
    assert 0 <= scorer(images[:1], [long])[0] <= 100


def imported(source: Path, tmp_path: Path, **options: Any) -> Path:
    asked = {"id": "clip", "kind": "clip", "models": tmp_path / "models", "licence": "MIT", **options}
    assert install(ImportRequest(source=str(source), **asked), RecordingHooks()).code == "succeeded"
    return tmp_path / "models" / "clip"


def test_a_published_folder_is_imported(folder: Path, images: np.ndarray, tmp_path: Path) -> None:
    source = tmp_path / "published"
    shutil.copytree(folder, source)
    weights = load_file(source / "model.safetensors")
    old = {"text_model.embeddings.position_ids": torch.arange(LENGTH)[None]}  # a buffer of older versions
    save_file({**weights, **old}, source / "model.safetensors", {"format": "pt"})
    made = imported(source, tmp_path)
    card = readable_cards(CompanionCard, [tmp_path / "models"])["clip"][0]
    assert (card.kind, card.licence, card.source) == ("clip", "MIT", "transformers folder published")
    assert card.description == f"CLIP, images of {SIZE} pixels in patches of 8"
    assert list_cards([tmp_path / "models"], "extractor") == {}
    scorer = ClipScorer(made)
    assert (scorer.id, scorer.digest) == ("clip", card.digest)
    np.testing.assert_array_equal(scorer(images, CAPTIONS), ClipScorer(folder)(images, CAPTIONS))


def _without_weight(source: Path) -> None:
    weights = load_file(source / "model.safetensors")
    weights.pop("visual_projection.weight")
    save_file(weights, source / "model.safetensors", {"format": "pt"})


def _other_type(source: Path) -> None:
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "model_type": "siglip"}))


def _other_crop(source: Path) -> None:
    path = source / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "crop_size": {"height": 24, "width": 24}}))


def _other_length(source: Path) -> None:
    path = source / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": 77}))


@pytest.mark.parametrize(
    ("spoil", "code", "match"),
    [
        (_without_weight, "model_mismatch", "visual_projection"),
        (_other_type, "model_mismatch", "siglip"),
        (_other_crop, "model_mismatch", "24"),
        (_other_length, "model_mismatch", "at most 77 a prompt"),
        (lambda source: (source / "preprocessor_config.json").unlink(), "component_missing", "preprocessor_config"),
        (lambda source: (source / "tokenizer_config.json").unlink(), "component_missing", "tokenizer_config"),
        (lambda source: (source / "model.safetensors").rename(source / "model.bin"), "unsafe_weights", "model.bin"),
    ],
)
def test_what_is_no_whole_clip_model_is_refused(
    folder: Path, tmp_path: Path, spoil: Any, *, code: str, match: str
) -> None:
    source = tmp_path / "published"
    shutil.copytree(folder, source)
    spoil(source)
    with pytest.raises(TaskError, match=match) as caught:
        imported(source, tmp_path)
    assert caught.value.code == code
    assert not list((tmp_path / "models").iterdir())


def test_another_network_is_named(dinov2_folder: Path) -> None:
    with pytest.raises(TaskError) as caught:
        ClipScorer(dinov2_folder)
    assert (caught.value.code, caught.value.param) == ("model_mismatch", "evaluation.clip_model")
