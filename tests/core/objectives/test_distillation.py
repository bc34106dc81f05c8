from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from difftune_core.checkpoint.state import new_state
from difftune_core.families.batch import losses_of, make_batch
from difftune_core.families.labelled import LabelledData
from difftune_core.networks.dit import DiT
from difftune_core.objectives.distillation import distillation_loss
from difftune_core.train.step import train_step
from tests.core.conftest import CONFIG, toy_config


@pytest.fixture
def teacher() -> DiT:
    """A base model of other classes than the target's."""
    torch.manual_seed(5)
    model = DiT(replace(CONFIG, num_classes=7))
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.05)
    return model.eval().requires_grad_(requires_grad=False)


@pytest.fixture
def data(training_data: LabelledData, teacher: DiT) -> LabelledData:
    return replace(training_data, retention=None, teacher=teacher)


def test_tau_zero_is_supervised_to_the_bit(toy_model: DiT, training_data: LabelledData, data: LabelledData) -> None:
    losses = []
    for config, used in (
        (toy_config("supervised"), training_data),
        (toy_config("diff_tuning", recipe="distillation", tau=0.0), data),
    ):
        state = new_state(deepcopy(toy_model), config.method.hyperparameters)
        losses.append(torch.stack([train_step(state, config, used).losses for _ in range(10)]))
    assert torch.equal(*losses)


def test_teacher_and_pupil_see_the_same_noised_target_images_under_their_null_rows(
    toy_model: DiT, data: LabelledData, teacher: DiT
) -> None:
    config = toy_config(recipe="distillation", batch_size=64)
    batch = make_batch(config, data, step=3)
    plain = make_batch(toy_config("supervised", batch_size=64), data, step=3)
    assert torch.equal(batch.noised.x_t, plain.noised.x_t)
    taught = ~batch.is_target
    assert taught.any()
    assert (batch.condition[taught] == toy_model.null_label).all()
    losses = losses_of(toy_model, batch, config.method, data)
    x_t, t = batch.noised.x_t[taught], batch.noised.t[taught].float()
    null = torch.full((len(t),), 1)
    ours, theirs = (m(x_t, t, null * m.null_label)[:, :4] for m in (toy_model, teacher))
    assert torch.allclose(losses[taught], (ours - theirs).square().flatten(1).mean(1), rtol=1e-4)
    undistilled = losses_of(toy_model, batch, config.method, replace(data, teacher=None))
    assert torch.equal(losses[batch.is_target], undistilled[batch.is_target])


def test_a_pupil_that_is_its_teacher_has_nothing_to_learn_from_it(teacher: DiT) -> None:
    x, t = torch.randn(3, 4, 8, 8), torch.tensor([1.0, 500.0, 999.0])
    null = torch.full((3,), teacher.null_label)
    taught = teacher(x, t, null)[:, :4]
    assert not distillation_loss(teacher(x, t, null), taught, None).any()
    weight = torch.tensor([1.0, 2.0, 0.0])
    wrong = teacher(x, t, null) + 0.5
    assert distillation_loss(wrong, taught, weight).tolist() == pytest.approx([0.25, 0.5, 0.0], rel=1e-3)


def test_the_expected_step_is_the_papers_objective(toy_model: DiT, data: LabelledData) -> None:
    """E[psi l_target] + 0.05 E[xi l_teacher], computed with both losses in every slot, within four standard errors."""
    config = toy_config(recipe="distillation", batch_size=1024, label_dropout=0.0)
    found, wanted = [], []
    method = config.method
    with torch.no_grad():
        for step in range(8):
            batch = make_batch(config, data, step)
            found.append(batch.weight * losses_of(toy_model, batch, method, data))
            plain = make_batch(toy_config("supervised", batch_size=1024, label_dropout=0.0), data, step)
            every = replace(plain, is_target=torch.ones(1024, dtype=torch.bool))
            none = replace(plain, is_target=~every.is_target, condition=torch.full((1024,), toy_model.null_label))
            target, taught = (losses_of(toy_model, one, method, data) for one in (every, none))
            psi = (plain.noised.t + 1) / 1000
            wanted.append(psi * target + 0.05 * (1 - psi) * taught)
    difference = torch.cat(found) - torch.cat(wanted)
    assert abs(float(difference.mean())) < 4 * float(difference.std()) / len(difference) ** 0.5
    assert float(torch.cat(wanted).mean()) > 100 * abs(float(difference.mean())), "the bound above is not idle"


def test_the_teacher_stays_as_it_is_and_every_slot_counts_as_a_target_image(
    toy_model: DiT, data: LabelledData, teacher: DiT
) -> None:
    before = deepcopy(teacher.state_dict())
    config = toy_config(recipe="distillation")
    state = new_state(toy_model, config.method.hyperparameters)
    for _ in range(5):
        train_step(state, config, data)
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())
    assert state.target_images == 5 * 8
