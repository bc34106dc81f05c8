"""C1 to C4: a ControlNet's step beside diffusers' script, in bf16 and by its defaults; needs both libraries of its."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

import torch

from benchmarks.gpu.bench import Bench, counted
from benchmarks.harness.blocks import Comparison
from benchmarks.harness.claims import Claim, Guard, faster
from benchmarks.harness.equality import same_gradient
from benchmarks.references.controlnet import Parts, PlainControlNet, Rows
from benchmarks.references.flags import as_public_trainers
from benchmarks.references.ours import OurRun
from benchmarks.references.random import SCALE, drawn, random_autoencoder
from difftune_core.data.controlled import ControlledSet
from difftune_core.data.latents import LatentSet
from difftune_core.diffusion.process import DDPM
from difftune_core.diffusion.schedule import NoiseSchedule
from difftune_core.families.controlnet.base_model import new_controlnet
from difftune_core.families.controlnet.batch import ControlledData

_TOKENS = 77
_PROMPTS = 8
_IMAGES = 64
_OF_FAMILY: dict[str, Any] = {
    "family": "stable-diffusion",
    "of_family": {"control": {"condition": "edge", "default_prompt": "an image", "prompt_dropout": 0.1}},
}


def controlnet(bench: Bench) -> list[Claim]:
    """Time both sides at both batches."""
    parts = networks(bench)
    small, large = bench.sizes.controlled
    claims = []
    for batch in dict.fromkeys((small, large)):
        compared, guard = against(bench, parts, batch, half=True)
        told = {"batch_size": batch}
        claims.append(faster("C1", compared, bar=bench.bar(at_least=2.0), guard=guard, details=told))
        if batch == large:
            claims.append(reached(bench, parts, compared, guard))
    compared, guard = against(bench, parts, small, half=False)
    claims.append(faster("C2", compared, bar=bench.bar(at_least=5.0), guard=guard, details={"batch_size": small}))
    return [*claims, asked_in_a_step(bench, parts)]


def networks(bench: Bench) -> Parts:
    """Make a Stable Diffusion of random weights."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    unet_class: Any = UNet2DConditionModel
    text_class: Any = CLIPTextModel
    with torch.device(bench.device):
        unet = drawn(unet_class(**bench.sizes.unet))
        text = text_class(CLIPTextConfig(vocab_size=49408, max_position_embeddings=_TOKENS, **bench.sizes.text))
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    signal = torch.cumprod(1 - betas, 0).sqrt().float()
    unet, autoencoder, text = (
        network.eval().requires_grad_(False)  # noqa: FBT003  # no name in the library
        for network in (unet, random_autoencoder(bench.sizes.autoencoder, bench.device), text)
    )
    return Parts(unet, autoencoder, text, signal, SCALE)


def against(bench: Bench, parts: Parts, batch: int, *, half: bool) -> tuple[Comparison, Guard]:
    """Time our step beside the script's."""
    run = ours(bench, parts, batch)
    plain = PlainControlNet(run.state.model, parts, rows(bench, batch), half=half)
    guard = guarded(bench, parts, batch)
    name = "diffusers' script, bf16" if half else "diffusers' script, fp32"
    sides = bench.side(name, plain.step, batch), bench.side("difftune", run.step, batch)
    return bench.alternate(*sides, within_s=30.0), guard


def ours(bench: Bench, parts: Parts, batch: int) -> OurRun:
    """Prepare our run; its UNet is a copy, since what is frozen is kept in the run's precision."""
    unet = deepcopy(parts.unet)
    data = ControlledData(_controlled(bench), None, 0, _process().to(bench.device), unet)
    model = drawn(new_controlnet(parts.unet, None, bench.device, seed=0))
    return OurRun.of(model, data, batch_size=batch, cache=bench.folder, beside=[unet], **_OF_FAMILY)


def rows(bench: Bench, batch: int) -> Rows:
    """Give a batch on the host, nothing of which has to be decoded."""
    side = bench.sizes.unet["sample_size"] * 8
    images, controls = (torch.rand(batch, 3, side, side) for _ in range(2))
    given = images * 2 - 1, controls, torch.randint(49408, (batch, _TOKENS))
    return Rows(*(part.pin_memory() if bench.on_gpu else part for part in given))


def guarded(bench: Bench, parts: Parts, batch: int) -> Guard:
    """Compare the gradient of a batch by the script's loss in float32 with ours; all weights are random, none zero."""
    run = ours(bench, parts, batch)
    plain = PlainControlNet(run.state.model, parts, rows(bench, batch), half=False)
    given = run.batch()
    text, controls = given.condition
    noised = given.noised

    def reference() -> torch.Tensor:
        return plain.loss(noised.x0, noised.t, noised.noise, text.float(), controls.float() / 255)

    as_public_trainers(tf32=False)
    return same_gradient(run.state.model, reference, run.loss(given), plain.model)


def reached(bench: Bench, parts: Parts, compared: Comparison, guard: Guard) -> Claim:
    """C3: the share of the device's products that our step reaches."""
    count, probed = _operations(bench, parts), bench.product_flops()
    own = compared.seconds["difftune"]
    told = {"operations_an_image": count, "probed_flops": probed, "images_a_second": 1 / own}
    means = "operations a second of UNet and ControlNet, as a share of those of a product of matrices in the same run"
    return Claim("C3", count / own / probed, means, bar=bench.bar(at_least=0.3), guard=guard, details=told)


def asked_in_a_step(bench: Bench, parts: Parts) -> Claim:
    """C4: how often a step asks autoencoder or text encoder."""
    calls: list[object] = []
    hooks = [
        network.register_forward_pre_hook(lambda *_: calls.append(None))
        for network in (parts.autoencoder.encoder, parts.text)
    ]
    run = ours(bench, parts, bench.sizes.controlled[0])
    run.step()
    asked = len(calls)
    parts.text(torch.zeros(1, 1, dtype=torch.long, device=bench.device))
    guard = Guard("a call would have been counted", held=len(calls) == asked + 1)
    for hook in hooks:
        hook.remove()
    return Claim("C4", asked, "calls of autoencoder and text encoder in a step", bar=bench.bar(at_most=0), guard=guard)


def _operations(bench: Bench, parts: Parts) -> int:
    """Count an image's operations in UNet and ControlNet, backward pass through the UNet's decoder among them."""
    from diffusers.models.controlnets.controlnet import ControlNetModel
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    net_class: Any = ControlNetModel
    unet_class: Any = UNet2DConditionModel
    with torch.device("meta"):
        unet = unet_class(**bench.sizes.unet).requires_grad_(requires_grad=False)
        net = net_class.from_config(dict(parts.unet.config) | {"conditioning_channels": 3}, load_weights=False)
        side = bench.sizes.unet["sample_size"]
        x, t = torch.empty(1, 4, side, side), torch.empty(1)
        text, control = torch.empty(1, _TOKENS, bench.sizes.text["hidden_size"]), torch.empty(1, 3, 8 * side, 8 * side)

    def forward() -> torch.Tensor:
        down, middle = net(x, t, encoder_hidden_states=text, controlnet_cond=control, return_dict=False)
        added = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        out: torch.Tensor = unet(x, t, encoder_hidden_states=text, return_dict=False, **added)[0]
        return out

    return counted(forward)[1]


def _controlled(bench: Bench) -> ControlledSet:
    side, width = bench.sizes.unet["sample_size"], bench.sizes.text["hidden_size"]
    shape = (1, _IMAGES, 4, side, side)
    mean, std = torch.randn(shape, device=bench.device).half(), torch.rand(shape, device=bench.device).half()
    labels = torch.zeros(_IMAGES, dtype=torch.long, device=bench.device)
    controls = torch.randint(0, 256, (_IMAGES, 3, 8 * side, 8 * side), dtype=torch.uint8, device=bench.device)
    text = torch.randn(_PROMPTS, _TOKENS, width).half()
    return ControlledSet(LatentSet(mean, std, labels, "random"), controls, text, torch.arange(_IMAGES) % _PROMPTS)


@cache
def _process() -> DDPM:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return DDPM(NoiseSchedule(betas))
