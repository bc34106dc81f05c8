"""Every adapter is trained by every objective; plain fine-tuning and Algorithm 1 on DDPM are in the other files too."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch

from difftune_core.checkpoint.state import new_state
from difftune_core.diffusion.process import make_process
from difftune_core.families.labelled import LabelledData
from difftune_core.networks.dit import DiT
from difftune_core.train.step import train_step
from tests.core.adapters.test_adapters import ADAPTERS
from tests.core.conftest import toy_config

OBJECTIVES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "supervised": ("supervised", {}, {}),
    "algorithm1": ("diff_tuning", {}, {}),
    "released": ("diff_tuning", {}, {"recipe": "released"}),
    "distillation": ("diff_tuning", {}, {"recipe": "distillation"}),
    "min_snr of v": ("diff_tuning", {"prediction": "v"}, {"loss_weighting": "min_snr"}),
    "p2 of x0": ("diff_tuning", {"prediction": "x0"}, {"loss_weighting": "p2"}),
    "flow": ("diff_tuning", {"process": "flow"}, {}),
    "edm": ("diff_tuning", {"process": "edm"}, {}),
}


@pytest.mark.parametrize("kind", sorted(ADAPTERS))
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_three_steps_move_all_that_is_trained_and_nothing_else(
    kind: str, objective: str, toy_model: DiT, training_data: LabelledData
) -> None:
    method, fields, hyperparameters = OBJECTIVES[objective]
    model = DiT(replace(toy_model.config, **fields))
    model.load_state_dict(toy_model.state_dict())
    config = toy_config(method, adapter=ADAPTERS[kind], **hyperparameters)
    teacher = deepcopy(model).requires_grad_(False) if objective == "distillation" else None  # noqa: FBT003  # no name
    data = replace(training_data, process=make_process(model.config), teacher=teacher)
    state = new_state(model, config.method.hyperparameters)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    losses = torch.stack([train_step(state, config, data).losses for _ in range(3)])
    assert losses.isfinite().all()
    trained = set(state.trainable())
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == trained
    assert trained
