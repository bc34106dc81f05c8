from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from difftune_core.checkpoint.state import new_state
from difftune_core.config.run import ResourcesConfig
from difftune_core.diffusion.reverse import Sampling
from difftune_core.families.controlnet.base_model import StableDiffusion, new_controlnet
from difftune_core.families.controlnet.batch import ControlledData
from difftune_core.families.controlnet.draw import Prompted, denoiser_of, sample_prompted
from difftune_core.networks.text import TextEncoder
from difftune_core.runtime.blocks import repeated_blocks
from difftune_core.runtime.execution import Execution
from difftune_core.runtime.precision import FP32, Precision
from difftune_core.train.blocks import prepare_blocks
from difftune_core.train.step import train_step
from tests.core.conftest import RecordingHooks
from tests.core.control.toy import ToyRuns, alive
from tests.core.synchronisations import Synchronisations


def test_in_parts_in_half_precision_and_without_waiting_it_is_the_same_step(
    toy_runs: ToyRuns, data: ControlledData
) -> None:
    """For Algorithm 1 and the released recipe; the host waits at no step that is not told."""
    bf16 = Precision("bf16", torch.device("cpu"))
    for recipe in ("algorithm1", "released"):
        config = toy_runs.config(batch_size=8, log_every_steps=100, max_steps=100, recipe=recipe)
        gradients = {}
        for name, execution in {"": Execution(), "parts": Execution(micro_batch=3), "bf16": Execution(bf16, 3)}.items():
            model = alive(new_controlnet(data.unet, None, seed=0))
            state = new_state(model, config.method.hyperparameters, execution=execution)
            with Synchronisations() as found:
                train_step(state, config, data)
            assert found.names == []
            gradients[name] = torch.cat([p.grad.flatten() for p in state.trainable().values() if p.grad is not None])
        torch.testing.assert_close(gradients["parts"], gradients[""], rtol=1e-3, atol=1e-6)
        assert torch.nn.functional.cosine_similarity(gradients["bf16"], gradients[""], dim=0) >= 0.999
        assert not torch.equal(gradients["bf16"], gradients[""])


def test_blocks_of_both_networks_can_be_computed_anew(toy_runs: ToyRuns, data: ControlledData) -> None:
    """The frozen UNet's too, whose decoder the gradient passes through."""
    config = toy_runs.config(batch_size=4)
    gradients, hooks = [], RecordingHooks()
    for asked in ("off", "on"):
        unet = deepcopy(data.unet)
        own = replace(data, unet=unet)
        state = new_state(alive(new_controlnet(unet, None, seed=0)), config.method.hyperparameters)
        resources = ResourcesConfig(activation_checkpointing=asked)
        run = config.model_copy(update={"resources": resources})
        prepare_blocks(state, (unet,), config=run, data=own, hooks=hooks, cache=Path())
        train_step(state, run, own)
        assert unet.is_gradient_checkpointing == state.model.is_gradient_checkpointing == (asked == "on")
        gradients.append(torch.cat([p.grad.flatten() for p in state.trainable().values() if p.grad is not None]))
    assert torch.equal(*gradients)
    assert not hooks.events
    assert len(repeated_blocks(state.model)) == 2, "a down block's and the middle's"
    assert len(repeated_blocks(unet)) == 4


def test_a_frozen_unet_is_kept_in_half_and_records_a_graph_in_its_decoder_alone(
    toy_runs: ToyRuns, data: ControlledData
) -> None:
    config, bf16 = toy_runs.config(batch_size=4), Precision("bf16", torch.device("cpu"))
    recorded: dict[str, bool] = {}
    found = []
    for kept_in_half in (False, True):
        unet: Any = deepcopy(data.unet)
        state = new_state(alive(new_controlnet(unet, None, seed=0)), config.method.hyperparameters)
        state.execution = Execution(bf16)
        if kept_in_half:
            prepare_blocks(state, (unet,), config=config, data=data, hooks=RecordingHooks(), cache=Path())
            for name, part in {"down": unet.down_blocks[-1], "middle": unet.mid_block, "up": unet.up_blocks[0]}.items():
                part.register_forward_hook(partial(_note, recorded, name))
        train_step(state, config, replace(data, unet=unet))
        found.append(torch.cat([p.grad.flatten() for p in state.trainable().values() if p.grad is not None]))
    assert torch.equal(*found), "as autocast has it"
    assert {unet.conv_in.weight.dtype, unet.conv_norm_out.weight.dtype} == {torch.bfloat16, torch.float32}
    assert recorded == {"down": False, "middle": False, "up": True}
    x, t, text = torch.randn(1, 4, 8, 8), torch.tensor([5.0]), data.target.text[:1]
    assert denoiser_of(unet)(x, t, (text,)).dtype == torch.float32, "also outside of a step, as a judge calls it"


def _note(recorded: dict[str, bool], name: str, _module: Any, _given: Any, output: Any) -> None:
    first = output[0] if isinstance(output, tuple) else output
    recorded[name] = first.requires_grad


def test_prompts_are_encoded_the_same_and_drawn_from_in_half_precision(
    base: StableDiffusion, data: ControlledData
) -> None:
    """Their states are of float16, which autocast to bfloat16 does not join."""
    encoder, prompts = TextEncoder(base.folder), ["a red sphere on a grey floor", ""]
    sampling, images = Sampling(num_inference_steps=3, guidance_scale=3.0, seed=1), []
    whole = encoder.encode(prompts)
    for precision in (FP32, Precision("bf16", torch.device("cpu"))):
        with precision.autocast():
            states = encoder.encode(prompts)
            prompted = Prompted(states[:1], states[1])
            images.append(sample_prompted(data.unet, base.noise_fields(), prompted, sampling))
        assert torch.equal(states, whole)
    assert torch.nn.functional.cosine_similarity(*(one.flatten() for one in images), dim=0) > 0.99
    assert not torch.equal(*images)
