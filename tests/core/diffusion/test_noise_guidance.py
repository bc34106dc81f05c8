"""Noise Awareness Guidance: training without time in a share of slots, and leading away from that."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from difftune_core.config.resolution import resolve
from difftune_core.config.transfer import TransferConfig
from difftune_core.diffusion.denoisers import NO_TIME
from difftune_core.diffusion.reverse import Sampling, aware_of_noise
from difftune_core.families.batch import losses_of, make_batch
from difftune_core.families.dit.draw import sample_latents
from difftune_core.families.labelled import LabelledData
from difftune_core.hooks import TaskError
from difftune_core.networks.dit import DiT
from tests.core.conftest import toy_config
from tests.core.evaluate.test_chain import LABELS, base
from tests.core.test_config import CARD

__all__ = ["base"]
SAMPLING = Sampling(num_inference_steps=4, guidance_scale=2.0, seed=3)


def untold(t: Tensor) -> Tensor:
    return torch.full_like(t, NO_TIME)


def test_a_network_that_is_told_no_time_knows_its_label_alone(toy_model: DiT) -> None:
    x, y = torch.randn(4, *toy_model_shape(toy_model)), torch.tensor([0, 1, 0, 1])
    early, late = (torch.full((4,), float(t)) for t in (3, 800))
    assert torch.equal(toy_model(x, untold(early), y), toy_model(x, untold(late), y))
    assert not torch.allclose(toy_model(x, early, y), toy_model(x, untold(early), y), atol=1e-3)
    with torch.no_grad():
        for layer in toy_model.t_embedder.mlp:
            for parameter in layer.parameters():
                parameter.zero_()  # every time is told as nothing
    assert torch.equal(toy_model(x, early, y), toy_model(x, untold(early), y))


def toy_model_shape(model: DiT) -> tuple[int, int, int]:
    return model.config.in_channels, model.config.input_size, model.config.input_size


def test_slots_without_time_leave_the_gradient_of_the_others_finite_and_as_it_was(toy_model: DiT) -> None:
    x, y = torch.randn(2, *toy_model_shape(toy_model)), torch.tensor([0, 1])
    toy_model(x, torch.tensor([5.0, NO_TIME]), y)[0].square().sum().backward()
    of_both = [p.grad.clone() for p in toy_model.t_embedder.parameters()]
    toy_model.zero_grad()
    toy_model(x, torch.tensor([5.0, 7.0]), y)[0].square().sum().backward()
    for one, other in zip(of_both, toy_model.t_embedder.parameters(), strict=True):
        assert one.isfinite().all()
        assert torch.allclose(one, other.grad, atol=1e-6)


def test_a_share_of_the_targets_slots_and_no_other_is_untold(training_data: LabelledData) -> None:
    config = toy_config(time_dropout=0.2, batch_size=2000)
    batches = [make_batch(config, training_data, step) for step in range(3)]
    untold_slots = torch.cat([batch.is_untimed for batch in batches])
    is_target = torch.cat([batch.is_target for batch in batches])
    assert not (untold_slots & ~is_target).any()
    assert float(untold_slots[is_target].double().mean()) == pytest.approx(0.2, abs=0.03)
    plain = make_batch(toy_config(batch_size=2000), training_data, 0)
    assert plain.is_untimed is None
    assert torch.equal(plain.noised.x_t, batches[0].noised.x_t), "everything else is drawn as ever"
    assert batches[0].part(slice(0, 7)).is_untimed.tolist() == batches[0].is_untimed[:7].tolist()


def test_the_loss_of_an_untold_slot_is_that_of_the_network_without_time(
    toy_model: DiT, training_data: LabelledData
) -> None:
    config = toy_config("supervised", time_dropout=0.5, batch_size=16)
    batch, told = make_batch(config, training_data, 0), toy_config("supervised", batch_size=16)
    found = losses_of(toy_model, batch, config.method, training_data)
    plain = losses_of(toy_model, make_batch(told, training_data, 0), told.method, training_data)
    toy_model.register_forward_pre_hook(lambda _, given: (given[0], untold(given[1]), given[2]))
    without = losses_of(toy_model, make_batch(told, training_data, 0), told.method, training_data)
    assert torch.allclose(found, torch.where(batch.is_untimed, without, plain), rtol=1e-5)


def test_guidance_is_the_difference_of_knowing_the_time_beside_the_other_one() -> None:
    guided, output, untimed = torch.randn(3, 2, 8, 2, 2)
    found = aware_of_noise(guided, output, untimed, Sampling(noise_guidance_scale=3.0), 4)
    assert torch.allclose(found[:, :4], (guided + 2 * (output - untimed))[:, :4])
    assert torch.equal(found[:, 4:], guided[:, 4:]), "a learned variance is nobody's to guide"
    three = aware_of_noise(guided, output, untimed, Sampling(noise_guidance_scale=3.0, guided_channels=3), 4)
    assert torch.equal(three[:, 3:], guided[:, 3:])


def test_a_model_that_reads_the_noise_from_the_image_is_not_moved(toy_model: DiT) -> None:
    """Where time adds nothing the term is 0, at any scale; else images move, and more with the scale."""
    plain = sample_latents(toy_model, LABELS, SAMPLING)
    moved = [sample_latents(toy_model, LABELS, replace(SAMPLING, noise_guidance_scale=s)) for s in (1.0, 1.5, 2.0)]
    assert torch.equal(moved[0], plain)
    assert 0 < float((moved[1] - plain).norm()) < float((moved[2] - plain).norm())
    with torch.no_grad():
        for parameter in toy_model.t_embedder.parameters():
            parameter.zero_()
    blind = sample_latents(toy_model, LABELS, SAMPLING)
    assert torch.allclose(sample_latents(toy_model, LABELS, replace(SAMPLING, noise_guidance_scale=4.0)), blind)


def test_steps_that_are_handed_over_are_not_guided(toy_model: DiT, base: DiT) -> None:
    """The base model was never asked without time: a chain that is its own but for the first step shows it."""
    asked: list[bool] = []
    base.register_forward_hook(lambda _, given, __: asked.append(bool(given[1].isfinite().all())))
    sampling = replace(SAMPLING, handover=0.5, noise_guidance_scale=2.0)
    sample_latents(toy_model, LABELS, sampling, source=base)
    assert asked
    assert all(asked)


def test_what_was_not_trained_without_time_is_not_guided_by_it() -> None:
    given = {"model": "toy", "evaluation": {"noise_guidance_scale": 1.5}}
    with pytest.raises(TaskError, match="time_dropout") as caught:
        resolve(TransferConfig.model_validate(given), CARD, num_threads=1)
    assert (caught.value.code, caught.value.param) == ("invalid_option", "evaluation.noise_guidance_scale")
    method = {"type": "supervised", "supervised": {"hyperparameters": {"time_dropout": 0.1}}}
    assert resolve(TransferConfig.model_validate(given | {"method": method}), CARD, num_threads=1)
    card = CARD.model_copy(update={"family": "stable-diffusion", "num_classes": None})
    of_control = {"model": "toy", "control": {"condition": "edge"}, "method": method}
    with pytest.raises(TaskError) as caught:
        resolve(TransferConfig.model_validate(of_control), card, num_threads=1)
    assert caught.value.code == "time_dropout_not_for_model"
