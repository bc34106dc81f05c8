"""Domain Guidance learned into the weights: its identities, where its loss is at rest, and when it acts."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from difftune_core.checkpoint.state import new_state
from difftune_core.config.weighting import DogFitSettings
from difftune_core.families.batch import losses_of, make_batch
from difftune_core.families.labelled import LabelledData
from difftune_core.networks.dit import DiT
from difftune_core.objectives.denoising import denoising_loss
from difftune_core.objectives.dogfit import unguided
from difftune_core.objectives.draws import draw
from difftune_core.train.step import train_step
from tests.core.conftest import toy_config
from tests.core.objectives.test_distillation import data, teacher

__all__ = ["data", "teacher"]


def dogfit(**settings: object) -> dict[str, object]:
    return {"recipe": "dogfit", "recipe_settings": settings}


@pytest.mark.parametrize("settings", [{"scale": 1.0, "start": 0.0}, {"scale": 3.0, "start": 0.9}])
def test_without_guidance_or_before_its_start_it_is_plain_fine_tuning_bit_for_bit(
    settings: dict[str, float], toy_model: DiT, training_data: LabelledData, data: LabelledData
) -> None:
    losses = []
    for config, used in ((toy_config("supervised"), training_data), (toy_config(**dogfit(**settings)), data)):
        state = new_state(deepcopy(toy_model), config.method.hyperparameters)
        losses.append(torch.stack([train_step(state, config, used).losses for _ in range(6)]))
    assert torch.equal(*losses)


@pytest.mark.parametrize("scale", [1.5, 2.0, 4.0])
def test_the_loss_is_at_rest_where_domain_guidance_would_lead(scale: float) -> None:
    """With E the best plain output and B the base model's: at B + s (E - B), for a share of 1 - 1/s."""
    best, base = torch.randn(2, 5, 4, 2, 2)
    output = (base + scale * (best - base)).requires_grad_()
    rest = unguided(output, base, torch.full((5,), 1 - 1 / scale))
    assert torch.allclose(rest, best, atol=1e-5)
    (gradient,) = torch.autograd.grad((rest - best).square().sum(), output)
    assert float(gradient.abs().max()) < 1e-4


def test_its_gradient_is_that_of_a_target_moved_by_what_no_gradient_goes_through() -> None:
    output, base, target = torch.randn(3, 5, 4, 2, 2)
    output.requires_grad_()
    guidance = torch.tensor([0.0, 0.2, 0.4, 0.6, 0.8])
    moved = target + guidance[:, None, None, None] * (output.detach() - base)
    wanted = torch.autograd.grad((output - moved).square().sum(), output)
    found = torch.autograd.grad((unguided(output, base, guidance) - target).square().sum(), output)
    assert torch.allclose(found[0], wanted[0], atol=1e-5)


def test_a_learned_variance_is_not_guided() -> None:
    output, base = torch.randn(2, 8, 2, 2), torch.randn(2, 4, 2, 2)
    assert torch.equal(unguided(output, base, torch.ones(2))[:, 4:], output[:, 4:])


def test_slots_are_guided_from_its_start_within_its_interval_and_under_their_own_label(
    toy_model: DiT, data: LabelledData, teacher: DiT
) -> None:
    config = toy_config(**dogfit(scale=4.0, start=0.5, interval=(0.2, 0.6)), batch_size=256, label_dropout=0.3)
    assert make_batch(config, data, step=9).guidance is None, "the first half of 20 steps"
    batch = make_batch(config, data, step=10)
    level, is_null = data.process.level(batch.noised.t), batch.condition == data.null_label
    within = (level >= 0.2) & (level <= 0.6) & ~is_null
    assert batch.guidance is not None
    assert torch.equal(batch.guidance, torch.where(within, 0.75, 0.0))
    found = losses_of(toy_model, batch, config.method, data)
    plain = losses_of(toy_model, replace(batch, guidance=None), config.method, data)
    assert torch.equal(found[~within], plain[~within])
    x, t = batch.noised.x_t, batch.noised.t.float()
    with torch.no_grad():
        output = toy_model(x, t, batch.condition)
        base = teacher(x, t, torch.full((len(x),), teacher.null_label))[:, :4]
        wanted = denoising_loss(unguided(output, base, batch.guidance), batch.noised, data.process)
    assert torch.allclose(found, wanted, rtol=1e-4)


def test_a_step_in_parts_has_the_guidance_of_its_slots(data: LabelledData) -> None:
    batch = make_batch(toy_config(**dogfit(start=0.0), batch_size=12), data, step=3)
    assert batch.guidance is not None
    parts = [batch.part(slice(0, 5)).guidance, batch.part(slice(5, 12)).guidance]
    assert torch.equal(torch.cat([part for part in parts if part is not None]), batch.guidance)


def test_its_times_are_those_of_plain_fine_tuning(data: LabelledData) -> None:
    def times(**given: object) -> Tensor:
        method = toy_config(**given).method
        return draw(method, seed=2, step=15, process=data.process).t

    assert torch.equal(times(**dogfit()), times(method="supervised"))


@pytest.mark.parametrize("interval", [(0.3, 0.3), (0.3, 0.2)])
def test_an_interval_that_does_not_rise_is_refused(interval: tuple[float, float]) -> None:
    with pytest.raises(ValidationError, match="must rise"):
        DogFitSettings(interval=interval)
