"""How many copies of a model's weights stand in memory while it is trained, judged and handed over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from difftune_core.networks.dit import DiTConfig
from tests.core.accounting import Copies, copies_in_a_run
from tests.core.goldens import open_model
from tests.core.runs import toy_folders

MIDDLE = DiTConfig(input_size=8, hidden_size=192, depth=8, num_heads=3, num_classes=3)
"""5.9 million weights: all else that a run holds is small beside them."""
SMALL = 0.4
"""Of a copy: images, latents, autoencoder and feature network of a run of this size, and one layer of the model."""
FULL = {"raw": 1.0, "average": 1.0, "moments": 2.0}


def copies(tmp_path: Path, *, to_the_end: bool = False, **hyperparameters: Any) -> dict[str, Copies]:
    model = open_model(MIDDLE)
    toy = toy_folders(model, tmp_path)
    given = {"num_images": 2, "num_inference_steps": 1, "every_steps": 1}
    given |= {} if to_the_end else {"guidance": "domain", "guidance_scale": 2.0}  # which asks the base model too
    config = toy.config(evaluation=given, max_steps=2, batch_size=2, **hyperparameters)
    whole = sum(4 * p.numel() for p in model.parameters())
    return copies_in_a_run(toy, config, whole=whole, to_the_end=to_the_end)


def test_full_tuning_trains_with_five_copies_and_is_judged_beside_four(tmp_path: Path) -> None:
    """The judge takes the average as it is; the base model is there while it draws, in place of the gradients."""
    most = copies(tmp_path)
    assert most["training"] == pytest.approx({**FULL, "gradients": 1, "others": 0, "all": 5}, abs=SMALL)
    assert most["evaluating"] == pytest.approx({**FULL, "gradients": 0, "others": 1, "all": 5}, abs=SMALL)


def test_an_export_shares_its_weights_with_the_average(tmp_path: Path) -> None:
    """But for diffusers' own copy of both embedders in every block, half a model of this size."""
    most = copies(tmp_path, to_the_end=True)
    assert most["exporting"] == pytest.approx(
        {"raw": 1, "average": 1, "moments": 0, "gradients": 0, "others": 0.5, "all": 2.5}, abs=SMALL
    )


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
