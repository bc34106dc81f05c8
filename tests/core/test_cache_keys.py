"""What the name of each cache of inputs depends on (docs/decisions/0007-cache-keys.md): others have others."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from difftune_core.config.retention import ClassWeight, RetentionSetConfig
from difftune_core.data.controlled import cached_controls
from difftune_core.data.latents import cached_latents
from difftune_core.families.base_model import BaseModel
from difftune_core.families.table import find_base_model
from difftune_core.networks.text import text_table
from difftune_core.retention.bank import retention_set
from difftune_core.runtime.caches import array_digest
from tests.core.noted import LABELS, OTHER_PIXELS, PIXELS, Asked, asking, none, with_digest
from tests.core.runs import BUNDLED


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Callable[..., Any]], Asked]:
    return asking(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return find_base_model("tiny-dit", [BUNDLED])


@pytest.mark.parametrize("pixels", OTHER_PIXELS.values(), ids=OTHER_PIXELS)
def test_pixels_are_told_apart_by_value_order_and_shape(pixels: np.ndarray) -> None:
    assert array_digest(pixels) != array_digest(PIXELS)
    assert array_digest(np.asfortranarray(PIXELS)) == array_digest(PIXELS.copy())


LATENTS = {
    **{name: {"images": pixels, "labels": LABELS[: len(pixels)]} for name, pixels in OTHER_PIXELS.items()},
    "two labels swapped": {"labels": LABELS[[1, 0, 2, 3]]},
    "flips": {"flip": True},
    "another autoencoder": {"autoencoder": "b"},
}
LATENTS.pop("the same bytes in another shape")  # is no square


@pytest.mark.parametrize("other", LATENTS.values(), ids=LATENTS)
def test_latents(asked: Callable[..., Asked], other: dict[str, Any]) -> None:
    place = asked(cached_latents)
    given = {"images": PIXELS, "labels": LABELS, "autoencoder": "a", "flip": False, "load_autoencoder": none}
    assert place(**given) == place(**given | {"images": PIXELS.copy()})
    assert place(**given) != place(**given | other)


CONTROLS = {
    **{name: {"pixels": OTHER_PIXELS[name]} for name in OTHER_PIXELS if "shape" not in name},
    "another condition": {"condition": "sketch"},
    "another annotator": {"drawn_by": "lines 2"},
}


@pytest.mark.parametrize("other", CONTROLS.values(), ids=CONTROLS)
def test_controls(asked: Callable[..., Asked], other: dict[str, Any]) -> None:
    place = asked(cached_controls)
    given = {"pixels": PIXELS, "condition": "edge", "drawn_by": "lines 1", "load_annotator": none}
    assert place(**given) == place(**given)
    assert place(**given) != place(**given | other)


def tokenizer(folder: Path) -> Path:
    for part, name in (("text_encoder", "config.json"), ("tokenizer", "special_tokens_map.json")):
        (folder / part).mkdir(parents=True)
        (folder / part / name).write_text("{}", encoding="utf-8")
    return folder


def test_texts(asked: Callable[..., Asked], tmp_path: Path) -> None:
    place, folder = asked(text_table), tokenizer(tmp_path / "sd")
    first = place(["a cat", "a dog", ""], folder)
    assert first == place(["", "a dog", "a cat", "a dog"], folder), (
        "each prompt is encoded once, in an order of its own"
    )
    same = tokenizer(tmp_path / "same")
    (same / "card.json").write_text('{"id": "another model that encodes texts as the first does"}')
    assert first == place(["a cat", "a dog", ""], same)
    assert first != place(["a cat", "a fox", ""], folder)
    for part in ("text_encoder/config.json", "tokenizer/special_tokens_map.json"):
        other = shutil.copytree(folder, tmp_path / part.partition("/")[0])
        (other / part).write_text('{"pad_token": "!"}', encoding="utf-8")
        assert first != place(["a cat", "a dog", ""], other), part


RETENTION: dict[str, Any] = {
    "num_images": 7,
    "sampler": "ddpm",
    "num_inference_steps": 3,
    "guidance_scale": 2.0,
    "class_distribution": (ClassWeight(label=1),),
    "prompt": "a picture",
    "seed": 5,
}


def test_retention_sets(asked: Callable[..., Asked], base: BaseModel) -> None:
    place, config = asked(retention_set), RetentionSetConfig()
    first = place(base, config)
    assert first == place(base, RetentionSetConfig(seed=0))
    others = {place(base, config.model_copy(update={name: value})) for name, value in RETENTION.items()}
    others |= {place(with_digest(base, "of another"), config), place(base, config, device="cuda"), first}
    assert len(others) == len(RETENTION) + 3
    assert RETENTION.keys() == RetentionSetConfig.model_fields.keys(), "a new setting is told apart too"


@pytest.mark.parametrize("what", ["threads", "torch", "processor"])
def test_what_sums_depend_on_is_part_of_every_name(
    asked: Callable[..., Asked], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    place = asked(cached_controls)
    given = {"pixels": PIXELS, "condition": "edge", "drawn_by": "lines 1", "load_annotator": none}
    first = place(**given)
    before = torch.get_num_threads()
    if what == "threads":
        torch.set_num_threads(before + 1)
    elif what == "torch":
        monkeypatch.setattr(torch, "__version__", "2.99")
    else:
        monkeypatch.setattr("difftune_core.runtime.caches.processor", lambda: "another")
    try:
        assert place(**given) != first
    finally:
        torch.set_num_threads(before)
