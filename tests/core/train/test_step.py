"""A step goes down the loss of its recipe: the gradient that it took against one computed by hand, slot by slot."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from difftune_core.checkpoint.state import new_state
from difftune_core.families.batch import Batch, make_batch
from difftune_core.families.labelled import LabelledData
from difftune_core.networks.dit import DiT
from difftune_core.objectives.denoising import variational_bound
from difftune_core.train.step import train_step
from tests.core.conftest import toy_config

SIZE = 16
RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "supervised": ("supervised", {}),
    "algorithm1": ("diff_tuning", {}),
    "reconsolidation": ("diff_tuning", {"components": "reconsolidation"}),
    "retention": ("diff_tuning", {"components": "retention"}),
    "released": ("diff_tuning", {"recipe": "released", "retention_share": 0.25, "retention_weight": 0.05}),
    "distillation": ("diff_tuning", {"recipe": "distillation", "distillation_weight": 0.2}),
}


def weights_by_hand(recipe: str, is_target: Tensor, t: Tensor) -> Tensor:
    """Of each slot in the mean over the batch, from the publications' losses: psi(t) = t / T with t from 1 to T."""
    psi = (t + 1).float() / 1000
    kept = int((~is_target).sum())
    return {
        "supervised": torch.ones(SIZE),
        "algorithm1": torch.ones(SIZE),
        "reconsolidation": psi,
        "retention": 1 + (1 - psi),
        "released": torch.where(is_target, SIZE / (SIZE - kept), 0.05 * SIZE / max(kept, 1)),
        "distillation": torch.where(is_target, 1.0, 0.2),
    }[recipe]


def slot_losses(model: DiT, batch: Batch, data: LabelledData) -> Tensor:
    noisy, t = batch.noised.x_t, batch.noised.t
    output = model(noisy, t.float(), batch.condition)
    error = (output[:, :4] - batch.noised.noise).square().flatten(1).mean(1)
    implied = data.process.implied_x0(output[:, :4].detach(), noisy, t)
    losses: Tensor = error + variational_bound(implied, output[:, 4:], batch.noised, data.process.schedule)
    if data.teacher is None:
        return losses
    null = torch.full_like(batch.condition, data.teacher.null_label)
    taught = data.teacher(noisy, t.float(), null)[:, :4].detach()
    return torch.where(batch.is_target, losses, (output[:, :4] - taught).square().flatten(1).mean(1))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_step_weighs_each_slot_as_its_recipe_says(recipe: str, toy_model: DiT, training_data: LabelledData) -> None:
    method, fields = RECIPES[recipe]
    config = toy_config(method, batch_size=SIZE, **fields)
    teacher = deepcopy(toy_model).eval().requires_grad_(requires_grad=False) if recipe == "distillation" else None
    if teacher is not None:
        teacher.final_layer.linear.weight.data *= 1.5
    data = replace(training_data, teacher=teacher, retention=None if teacher else training_data.retention)
    batch, by_hand = make_batch(config, data, step=0), deepcopy(toy_model)
    weight = weights_by_hand(recipe, batch.is_target, batch.noised.t)
    torch.autograd.backward((weight * slot_losses(by_hand, batch, data)).mean())
    expected = {name: p.grad for name, p in by_hand.named_parameters() if p.requires_grad}
    state = new_state(toy_model, config.method.hyperparameters)
    train_step(state, config, data)
    assert all(p.grad is not None for p in state.trainable().values())
    for name, parameter in state.trainable().items():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-3, atol=1e-6)
    if recipe not in {"supervised", "algorithm1"}:
        assert weight.std() > 0.1, "equal weights would be none"
    assert recipe in {"supervised", "reconsolidation"} or 0 < int(batch.is_target.sum()) < SIZE
