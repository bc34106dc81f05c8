"""What is planned for a step, for drawing and for the autoencoder is held to the most that tensors have at once."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from difftune_core.config.adapter import FullTuning
from difftune_core.config.plan import memory
from difftune_core.config.plan.circumstances import Circumstances
from difftune_core.config.plan.sizes import AutoencoderAnatomy, NetworkSize
from difftune_core.config.transfer import TransferConfig
from difftune_core.diffusion.reverse import Chain
from difftune_core.families.dit.sizes import network_size
from difftune_core.networks import autoencoder
from difftune_core.networks.autoencoder_kl import AutoencoderConfig, AutoencoderKL
from difftune_core.networks.dit import PRESETS, DiT
from difftune_core.networks.dit_costs import activation_bytes
from difftune_core.retention.sample import CHUNK
from difftune_core.runtime import at_once
from difftune_core.runtime.blocks import checkpoint_activations
from tests.core.plan.peaks import peak_of

DEEP = replace(PRESETS["DiT-B/2"], depth=6)
STABLE_DIFFUSIONS = AutoencoderConfig(block_out_channels=(128, 256, 512, 512), layers_per_block=2)


def planned(size: NetworkSize, *, images: int, micro_batch: int, checkpointing: bool) -> int:
    """Of a step: what comes and goes in it, without weights, moments, average and what the process has."""
    config = TransferConfig.model_validate(
        {
            "model": "a",
            "method": {"type": "supervised", "supervised": {"hyperparameters": {"batch_size": images}}},
            "resources": {
                "micro_batch": micro_batch,
                "precision": "fp32",
                "activation_checkpointing": "on" if checkpointing else "off",
            },
        }
    )
    moments = memory.memory_of(config, size, 256, Circumstances()).host["training"]
    return max(parts.get("activations", 0) + parts.get("gradients", 0) for parts in moments)


def step(model: DiT, *, images: int, micro_batch: int) -> None:
    for _ in range(0, images, micro_batch):
        size = model.config.input_size
        noised = torch.randn(micro_batch, model.config.in_channels, size, size)
        model(noised, torch.zeros(micro_batch), torch.zeros(micro_batch, dtype=torch.int64)).square().mean().backward()


@pytest.mark.parametrize("checkpointing", [False, True], ids=["remembered", "computed again"])
def test_a_steps_peak_is_planned(*, checkpointing: bool) -> None:
    size = network_size(asdict(DEEP), FullTuning(), None)
    with FakeTensorMode():
        model = DiT(DEEP)
        if checkpointing:
            checkpoint_activations(model)
        for images, micro_batch in ((1, 1), (24, 24), (24, 12)):
            model.zero_grad(set_to_none=True)
            peak = peak_of(lambda: step(model, images=images, micro_batch=micro_batch))  # noqa: B023  # called here
            told = planned(size, images=images, micro_batch=micro_batch, checkpointing=checkpointing)
            assert told == pytest.approx(peak, rel=0.15), (images, micro_batch)


def test_drawing_and_the_autoencoder_are_planned() -> None:
    levels = STABLE_DIFFUSIONS.block_out_channels
    anatomy = AutoencoderAnatomy(block_out_channels=levels, num_parameters=0)
    size = network_size(asdict(DEEP), FullTuning(), None)
    with FakeTensorMode(), torch.no_grad():
        network, model = AutoencoderKL(STABLE_DIFFUSIONS), DiT(DEEP)
        decoding = peak_of(lambda: network.decode(torch.randn(1, 4, 32, 32)))
        encoding = peak_of(lambda: network.encode(torch.randn(1, 3, 256, 256)))
        drawing = peak_of(lambda: model(torch.randn(8, 4, 32, 32), torch.zeros(8), torch.zeros(8, dtype=torch.int64)))
    assert anatomy.decoding_bytes(256) == pytest.approx(decoding, rel=0.02)
    assert anatomy.encoding_bytes(256) == pytest.approx(encoding, rel=0.02)
    assert 8 * (size.drawing or 0) == pytest.approx(drawing, rel=0.05)


def test_images_at_once_are_those_of_the_code_that_draws() -> None:
    """The plan cannot import it, for the API must not load torch."""
    size, levels = network_size(asdict(DEEP), FullTuning(), None), STABLE_DIFFUSIONS.block_out_channels
    assert {Chain.batch, CHUNK} == {size.drawing_most}
    assert autoencoder._BATCH == memory.DECODER_BATCH
    assert (at_once._CPU_BYTES, at_once._SHARE) == (memory.BUDGET_ON_CPU, memory.BUDGET_SHARE)
    assert size.drawing_budget == activation_bytes(DEEP)
    anatomy = AutoencoderAnatomy(block_out_channels=levels, num_parameters=0)
    assert anatomy.budget_bytes(256) == 256**2 * levels[0] * autoencoder._HELD * 4
