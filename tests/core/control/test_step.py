from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch

from difftune_core.checkpoint.state import TrainState, new_state
from difftune_core.config.transfer import TransferConfig
from difftune_core.diffusion.reverse import Sampling
from difftune_core.families.batch import Batch, losses_of, make_batch
from difftune_core.families.controlnet.base_model import StableDiffusion, new_controlnet
from difftune_core.families.controlnet.batch import ControlledData
from difftune_core.families.controlnet.draw import Control, Prompted, sample_prompted
from difftune_core.networks.text import TextEncoder
from difftune_core.runtime.rng import generator
from difftune_core.train.step import train_step
from tests.core.control.conftest import DEFAULT, EMPTY
from tests.core.control.toy import ToyRuns, alive


def state_of(config: TransferConfig, data: ControlledData) -> TrainState[torch.nn.Module]:
    torch.set_num_threads(1)
    model = new_controlnet(data.unet, None, seed=config.seed)
    return new_state(model, config.method.hyperparameters, seed=config.seed)


def weights(state: TrainState[torch.nn.Module]) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in state.model.state_dict().items()}


def test_slots_are_target_with_caption_or_retention_with_default_prompt(
    toy_runs: ToyRuns, data: ControlledData
) -> None:
    config = toy_runs.config(batch_size=64, control={"prompt_dropout": 0.0})
    batch = make_batch(config, data, step=0)
    text = data.target.text.float()
    default = (batch.condition[0] == text[DEFAULT]).flatten(1).all(1)
    assert torch.equal(default, ~batch.is_target)
    assert 16 < int(batch.is_target.sum()) < 48
    own = data.retention.controls if data.retention is not None else None
    assert own is not None
    kept = [any(torch.equal(control, one) for one in own) for control in batch.condition[1]]
    assert kept == (~batch.is_target).tolist()
    # psi(t) = (t + 1) / T is the probability of a target slot, so target slots are the noisier ones.
    t = batch.noised.t.double()
    assert t[batch.is_target].mean() > t[~batch.is_target].mean() + 100


def test_prompts_of_target_slots_alone_are_dropped(toy_runs: ToyRuns, data: ControlledData) -> None:
    batch = make_batch(toy_runs.config(batch_size=64, control={"prompt_dropout": 1.0}), data, step=0)
    text = data.target.text.float()
    assert torch.equal((batch.condition[0] == text[EMPTY]).flatten(1).all(1), batch.is_target)


def test_tau_zero_is_supervised_to_the_bit(toy_runs: ToyRuns, data: ControlledData) -> None:
    found = []
    for config in (toy_runs.config("supervised"), toy_runs.config(tau=0.0)):
        state = state_of(config, data)
        results = [train_step(state, config, data) for _ in range(3)]
        found.append((torch.stack([r.losses for r in results]), weights(state)))
    (losses, one), (others, other) = found
    assert torch.equal(losses, others)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_step_is_that_of_the_published_controlnet_recipe(toy_runs: ToyRuns, data: ControlledData) -> None:
    """As diffusers trains it: MSE of the noise through the frozen UNet, gradients in the ControlNet alone."""
    import torch.nn.functional as F  # noqa: N812  # its usual name
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    config = toy_runs.config("supervised", batch_size=8)
    batch = make_batch(config, data, step=0)
    ours = alive(new_controlnet(data.unet, None, seed=0))
    theirs: Any = deepcopy(ours)
    torch.autograd.backward(losses_of(ours, batch, config.method, data).mean())

    scheduler: Any = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    noisy = scheduler.add_noise(batch.noised.x0, batch.noised.noise, batch.noised.t)
    torch.testing.assert_close(noisy, batch.noised.x_t, rtol=1e-5, atol=1e-5)
    image = batch.condition[1].float() / 255
    down, middle = theirs(
        noisy, batch.noised.t, encoder_hidden_states=batch.condition[0], controlnet_cond=image, return_dict=False
    )
    predicted = data.unet(
        noisy,
        batch.noised.t,
        encoder_hidden_states=batch.condition[0],
        down_block_additional_residuals=list(down),
        mid_block_additional_residual=middle,
        return_dict=False,
    )[0]
    torch.autograd.backward(F.mse_loss(predicted.float(), batch.noised.noise.float(), reduction="mean"))
    compared = 0
    for (name, mine), their in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert mine.grad is not None, name
        cosine = F.cosine_similarity(mine.grad.flatten(), their.grad.flatten(), dim=0)
        assert cosine >= 0.999, (name, float(cosine))
        compared += "controlnet_" in name
    assert compared > 10
    assert all(parameter.grad is None for parameter in data.unet.parameters())


def test_the_first_step_moves_only_what_follows_the_zero_convolutions(toy_runs: ToyRuns, data: ControlledData) -> None:
    config = toy_runs.config("supervised")
    model = new_controlnet(data.unet, None, seed=0)
    batch = make_batch(config, data, step=0)
    torch.autograd.backward(losses_of(model, batch, config.method, data).mean())
    moved = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved
    assert all(name.startswith(("controlnet_down_blocks", "controlnet_mid_block")) for name in moved)


def test_lora_trains_its_updates_and_what_the_base_has_no_counterpart_of(
    toy_runs: ToyRuns, data: ControlledData
) -> None:
    config = toy_runs.config(adapter={"type": "lora", "rank": 2})
    state = state_of(config, data)
    names = state.trainable().keys()
    parts = ("controlnet_cond_embedding", "controlnet_down_blocks", "controlnet_mid_block")
    assert all("lora_" in name or name.startswith(parts) for name in names)
    assert any("lora_A" in name for name in names)
    before = weights(state)
    for _ in range(2):
        train_step(state, config, data)
    after = weights(state)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert changed <= set(names)


def one_batch(config: TransferConfig, data: ControlledData) -> Batch:
    return make_batch(config, data, step=5)


def test_a_batch_is_a_function_of_seed_and_step(toy_runs: ToyRuns, data: ControlledData) -> None:
    config = toy_runs.config()
    one, other = one_batch(config, data), one_batch(config, data)
    assert torch.equal(one.noised.x_t, other.noised.x_t)
    assert torch.equal(one.condition[1], other.condition[1])
    shifted = make_batch(config.model_copy(update={"seed": 4}), data, step=5)
    assert not torch.equal(one.noised.x_t, shifted.noised.x_t)


def test_a_new_controlnet_changes_no_image_and_a_trained_one_does(base: StableDiffusion, data: ControlledData) -> None:
    states = TextEncoder(base.folder).encode(["a red sphere on a grey floor", ""])
    prompted = Prompted(states[:1].expand(3, -1, -1), states[1])
    sampling = Sampling(num_inference_steps=3, guidance_scale=3.0, seed=1)
    fields, controls = base.noise_fields(), data.target.controls[:3]
    plain = sample_prompted(data.unet, fields, prompted, sampling)
    fresh = new_controlnet(data.unet, None, seed=0).eval()
    same = sample_prompted(data.unet, fields, prompted, sampling, control=Control(fresh, controls))
    torch.testing.assert_close(same, plain, rtol=1e-5, atol=1e-5)
    other = sample_prompted(data.unet, fields, prompted, sampling, control=Control(alive(fresh), controls))
    assert (other - plain).abs().mean() > 1e-3
    unscaled = sample_prompted(data.unet, fields, prompted, sampling, control=Control(fresh, controls, scale=0.0))
    torch.testing.assert_close(unscaled, plain, rtol=1e-5, atol=1e-5)


def test_guidance_can_be_kept_to_an_interval_and_to_channels(base: StableDiffusion, data: ControlledData) -> None:
    states = TextEncoder(base.folder).encode(["a red sphere on a grey floor", ""])

    def drawn(**given: Any) -> torch.Tensor:
        sampling = Sampling(num_inference_steps=3, guidance_scale=given.pop("guidance_scale", 3.0), seed=1, **given)
        return sample_prompted(data.unet, base.noise_fields(), Prompted(states[:1], states[1]), sampling)

    guided, plain = drawn(), drawn(guidance_scale=1.0)
    torch.testing.assert_close(drawn(guidance_interval=(0.0, 0.1)), plain, rtol=1e-4, atol=1e-4)
    assert torch.equal(drawn(guided_channels=4), guided)
    for other in (drawn(guidance_interval=(0.5, 1.0)), drawn(guided_channels=1)):
        assert not torch.allclose(other, guided, atol=1e-3)
        assert not torch.allclose(other, plain, atol=1e-3)


def test_images_are_those_of_diffusers_pipeline(base: StableDiffusion, data: ControlledData) -> None:
    from diffusers.pipelines.controlnet.pipeline_controlnet import StableDiffusionControlNetPipeline
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    controlnet: Any = alive(new_controlnet(data.unet, None, seed=0)).eval()
    prompt, sampling = "a red sphere on a grey floor", Sampling(num_inference_steps=4, guidance_scale=3.0, seed=1)
    states = TextEncoder(base.folder).encode([prompt, ""])
    control = Control(controlnet, data.target.controls[:1])
    ours = sample_prompted(data.unet, base.noise_fields(), Prompted(states[:1], states[1]), sampling, control=control)
    pipeline: Any = StableDiffusionControlNetPipeline.from_pretrained(
        base.folder, controlnet=controlnet, safety_checker=None, local_files_only=True
    )
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, timestep_spacing="trailing")
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 4, 8, 8, generator=generator(1, "sample", 0))
    theirs = pipeline(
        prompt,
        image=control.images.float() / 255,
        num_inference_steps=4,
        guidance_scale=3.0,
        latents=noise,
        output_type="latent",
    ).images
    torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2)  # our text states are kept in half precision


RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "supervised": ("supervised", {}),
    "algorithm1": ("diff_tuning", {}),
    "reconsolidation": ("diff_tuning", {"components": "reconsolidation"}),
    "retention": ("diff_tuning", {"components": "retention"}),
    "released": ("diff_tuning", {"recipe": "released", "retention_share": 0.25, "retention_weight": 0.05}),
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_step_weighs_each_slot_as_its_recipe_says(recipe: str, toy_runs: ToyRuns, data: ControlledData) -> None:
    """The gradient that it took against one of the recipe's loss by hand: psi(t) = t / T with t from 1 to T."""
    method, fields = RECIPES[recipe]
    config, size = toy_runs.config(method, batch_size=8, **fields), 8
    batch, state = make_batch(config, data, step=0), state_of(config, data)
    psi, kept = (batch.noised.t + 1).float() / 1000, int((~batch.is_target).sum())
    weight = {
        "supervised": torch.ones(size),
        "algorithm1": torch.ones(size),
        "reconsolidation": psi,
        "retention": 2 - psi,
        "released": torch.where(batch.is_target, size / (size - kept), 0.05 * size / max(kept, 1)),
    }[recipe]
    by_hand = deepcopy(state.model)
    losses = losses_of(by_hand, batch, config.method, data)
    torch.autograd.backward((weight * losses).mean())
    expected = dict(by_hand.named_parameters())
    train_step(state, config, data)
    moved = {name: p.grad for name, p in state.trainable().items() if p.grad is not None and p.grad.any()}
    assert moved
    for name, grad in moved.items():
        torch.testing.assert_close(grad, expected[name].grad, rtol=1e-3, atol=1e-7)


def test_lora_leaves_no_part_frozen_that_the_base_has_no_counterpart_of(
    toy_runs: ToyRuns, data: ControlledData
) -> None:
    state = state_of(toy_runs.config(adapter={"type": "lora", "rank": 2}), data)
    parts = ("controlnet_cond_embedding.", "controlnet_down_blocks.", "controlnet_mid_block.")
    own = {name for name, _ in state.model.named_parameters() if name.startswith(parts)}
    assert {name.partition(".")[0] + "." for name in own} == set(parts)
    assert own <= state.trainable().keys()
