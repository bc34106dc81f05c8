"""What is planned of a ControlNet is held to what autograd keeps of it beside its UNet, and to the most that is there.

The network is small and has every part of the published ones: levels with attention and without, and one in which a
resnet changes its channels.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from difftune_core.adapters.select import adapt
from difftune_core.config.card import BaseModelCard
from difftune_core.config.plan.sizes import NetworkSize
from difftune_core.families.controlnet.anatomy import unet_anatomy
from difftune_core.families.controlnet.base_model import new_controlnet
from difftune_core.families.controlnet.draw import activation_bytes, denoiser_of
from difftune_core.families.controlnet.sizes import network_size
from difftune_core.runtime.blocks import checkpoint_activations
from difftune_core.runtime.precision import FP32, Precision, keep_frozen_in
from tests.core.plan.peaks import peak_of
from tests.core.plan.test_dit_sizes import adapter_of

Shape = dict[str, Any]
SHAPE: Shape = {
    "sample_size": 16,
    "block_out_channels": (64, 128, 128),
    "layers_per_block": 1,
    "norm_num_groups": 16,
    "attention_head_dim": 4,
    "cross_attention_dim": 96,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
}
LAYOUT_OF_2: Shape = {**SHAPE, "use_linear_projection": True, "transformer_layers_per_block": 2}
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
DORA: Shape = {"type": "lora", "targets": ["to_q", "ff.net.2", "time_emb_proj"], "use_dora": True}


class Pair:
    """A UNet and the ControlNet that is trained beside it."""

    def __init__(self, shape: Shape, adapter: Shape) -> None:
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        maker: Any = UNet2DConditionModel
        self.unet = maker(**shape).eval().requires_grad_(requires_grad=False)
        self.precision = FP32
        self.net = adapt(new_controlnet(self.unet, None, seed=0), adapter_of(adapter))
        fields = {"id": "s", "family": "stable-diffusion", "image_size": 128, "feature_extractor": "i", "digest": "d"}
        fields["num_parameters"] = sum(p.numel() for p in self.unet.parameters())
        card = BaseModelCard.model_validate(fields)
        self.planned: NetworkSize = network_size({"unet": unet_anatomy(self.unet.config)}, adapter_of(adapter), card)

    def halve(self) -> None:
        """Compute in bfloat16 from now on, as a run does."""
        self.precision = Precision("bf16", torch.device("cpu"))
        keep_frozen_in(self.unet, self.precision)

    def predicted(self, images: int) -> Tensor:
        side = SHAPE["sample_size"]
        text, controls = torch.zeros(images, 77, 96), torch.zeros(images, 3, 8 * side, 8 * side, dtype=torch.uint8)
        with self.precision.autocast():
            t = torch.zeros(images, dtype=torch.long)
            return denoiser_of(self.unet, self.net)(torch.randn(images, 4, side, side), t, (text, controls))

    def step(self, images: int) -> None:
        self.net.zero_grad(set_to_none=True)
        self.predicted(images).square().mean().backward()

    def kept(self, images: int) -> int:
        seen = {}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            seen[storage._cdata] = storage
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            output = self.predicted(images)
        assert output.requires_grad
        return sum(storage.nbytes() for storage in seen.values())

    def peak(self, images: int, *, again: bool) -> float:
        """What is planned of a step's gradients, activations and copies of weights."""
        assert self.planned.activations is not None
        moments = self.planned.activations(self.precision.name).moments(checkpointing=again)
        gradients, copies = 4 * self.planned.trained, 0 if self.precision.dtype is None else 2 * self.planned.cast
        sums = [images * kept + gradients * share + copies * (1 - share) for kept, share in moments]
        return max(*sums, gradients)


@pytest.mark.parametrize(
    ("shape", "adapter"),
    [(SHAPE, {"type": "full"}), (LAYOUT_OF_2, {"type": "lora", "targets": ATTENTION}), (SHAPE, DORA)],
    ids=["full", "lora", "dora"],
)
def test_what_a_pass_leaves_is_planned(shape: Shape, adapter: Shape) -> None:
    pair = Pair(shape, adapter)
    assert pair.planned.activations is not None
    parameters = list(pair.net.parameters())
    assert pair.planned.parameters == sum(p.numel() for p in parameters)
    assert pair.planned.trained == sum(p.numel() for p in parameters if p.requires_grad)
    assert pair.planned.activations("fp32").saved == pytest.approx(pair.kept(2) - pair.kept(1), rel=0.04)
    pair.halve()
    assert pair.planned.activations("bf16").saved == pytest.approx(pair.kept(2) - pair.kept(1), rel=0.04)


def test_a_steps_peak_is_planned() -> None:
    pair = Pair(SHAPE, {"type": "full"})

    def check(images: int, *, again: bool) -> None:
        told, peak = pair.peak(images, again=again), peak_of(lambda: pair.step(images))
        assert told == pytest.approx(peak, rel=0.1), (pair.precision, again, images)

    check(4, again=False)
    for network in (pair.unet, pair.net):
        checkpoint_activations(network)
    check(1, again=True)
    pair.halve()
    check(4, again=True)


def test_drawing_is_planned() -> None:
    pair = Pair(SHAPE, {"type": "full"})
    with torch.no_grad():
        peak = peak_of(lambda: pair.predicted(1))
    assert pair.planned.drawing == pytest.approx(peak, rel=0.05)
    assert pair.planned.drawing_budget == activation_bytes(pair.unet)


@pytest.mark.parametrize(
    "stated",
    [
        {"down_block_types": ["SimpleCrossAttnDownBlock2D"], "up_block_types": ["UpBlock2D"]},
        {**SHAPE, "transformer_layers_per_block": [1, 2, 10]},
        {**SHAPE, "resnet_time_scale_shift": "scale_shift"},
    ],
)
def test_of_a_unet_of_other_parts_nothing_is_claimed(stated: dict[str, Any]) -> None:
    assert unet_anatomy(stated) is None
