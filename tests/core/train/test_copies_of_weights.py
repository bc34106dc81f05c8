"""How many copies of a model's weights stand in memory while it is trained, judged and handed over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from difftune_core.families.dit.export import to_diffusers
from difftune_core.networks.dit import DiTConfig
from tests.core.accounting import Copies, copies_in_a_run
from tests.core.goldens import open_model
from tests.core.runs import toy_folders

MIDDLE = DiTConfig(input_size=8, hidden_size=192, depth=4, num_heads=3, num_classes=3)
"""3 million weights: all else that a run holds is small beside them."""
SMALL = 0.45
"""Of a copy: images, latents, autoencoder and feature network of a run of this size, and one layer of the model."""
FULL = {"raw": 1.0, "average": 1.0, "moments": 2.0}


def copies(tmp_path: Path, **hyperparameters: Any) -> dict[str, Copies]:
    model = open_model(MIDDLE)
    toy = toy_folders(model, tmp_path)
    asked = {"guidance": "domain", "guidance_scale": 2.0}  # which asks the base model too
    given = {"num_images": 2, "num_inference_steps": 1, "every_steps": None, **asked}
    config = toy.config(evaluation=given, max_steps=2, batch_size=2, **hyperparameters)
    return copies_in_a_run(toy, config, whole=sum(4 * p.numel() for p in model.parameters()))


def test_full_tuning_trains_with_five_copies_and_is_judged_beside_four(tmp_path: Path) -> None:
    """The judge takes the average as it is; the base model is there while it draws, in place of the gradients."""
    most = copies(tmp_path)
    assert most["training"] == pytest.approx({**FULL, "gradients": 1, "others": 0, "all": 5}, abs=SMALL)
    assert most["evaluating"] == pytest.approx({**FULL, "gradients": 0, "others": 1, "all": 5}, abs=SMALL)


def test_an_export_shares_its_weights_with_what_is_exported() -> None:
    """But for both embedders, of which diffusers has a copy in every block."""
    model = open_model(MIDDLE)
    ours = {p.untyped_storage().data_ptr() for p in model.parameters()}
    theirs = dict(to_diffusers(model).named_parameters())
    own = {name for name, p in theirs.items() if p.untyped_storage().data_ptr() not in ours}
    assert own == {name for name in theirs if ".norm1.emb." in name}


def test_with_an_adapter_everybody_shares_the_frozen_weights(tmp_path: Path) -> None:
    adapter = {"type": "lora", "rank": 2, "alpha": 2.0, "targets": ["qkv"]}
    most = copies(tmp_path, adapter=adapter)
    assert most["training"]["all"] == pytest.approx(1, abs=SMALL)
    assert most["drawing_base_model_images"]["all"] == pytest.approx(1, abs=SMALL)
    assert most["evaluating"]["all"] == pytest.approx(1, abs=SMALL)


def test_a_teacher_is_the_base_model_of_the_judge(tmp_path: Path) -> None:
    most = copies(tmp_path, recipe="distillation")
    assert most["training"] == pytest.approx({**FULL, "gradients": 1, "others": 1, "all": 6}, abs=SMALL)
    assert most["evaluating"] == pytest.approx({**FULL, "gradients": 0, "others": 1, "all": 5}, abs=SMALL)
