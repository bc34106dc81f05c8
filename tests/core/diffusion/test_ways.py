"""How passes of sampling are made: what is done to make them fast or small changes images by rounding alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import difftune_core
from difftune_core.adapters.select import adapt
from difftune_core.config.adapter import VisualPrompt
from difftune_core.config.sampling import SAMPLERS, ProcessName
from difftune_core.diffusion.reverse import Sampling
from difftune_core.families.dit.draw import AtOneTime, Ways, sample_latents
from difftune_core.networks.dit import PRESETS, DiT, DiTConfig
from difftune_core.networks.dit_costs import activation_bytes
from difftune_core.runtime.at_once import images_at_once
from difftune_core.runtime.precision import Precision
from tests.core.conftest import CONFIG
from tests.core.goldens import open_model

CPU = torch.device("cpu")
LABELS = torch.tensor([0, 2, 3, 1, 0])  # 3 is the null label
APART, JOINT = Ways(is_joint=False, batch=128), Ways(is_joint=True, batch=128)
GUIDED = {
    "cfg": {},
    "domain": {"guidance": "domain"},
    "none": {"guidance": "none"},
    "in an interval": {"guidance_interval": (0.2, 0.7)},
    "of three channels": {"guided_channels": 3},
}
CASES: list[tuple[ProcessName, str]] = [(process, sampler) for process in SAMPLERS for sampler in SAMPLERS[process]]


def drawn(model: DiT, ways: Ways, **given: Any) -> Tensor:
    sampling = Sampling(**{"num_inference_steps": 3, "guidance_scale": 2.0, **given})
    source = open_model(replace(model.config, num_classes=4)) if sampling.guidance == "domain" else None
    return sample_latents(model, LABELS, sampling, source=source, ways=ways)


@pytest.mark.parametrize(("process", "sampler"), CASES)
def test_both_branches_in_one_pass_give_the_same_images(process: ProcessName, sampler: str) -> None:
    model = open_model(replace(CONFIG, process=process)).eval()
    assert torch.allclose(drawn(model, JOINT, sampler=sampler), drawn(model, APART, sampler=sampler), atol=2e-5)


@pytest.mark.parametrize("guided", GUIDED)
def test_they_do_so_however_guidance_is_set(toy_model: DiT, guided: str) -> None:
    given = GUIDED[guided]
    assert torch.allclose(drawn(toy_model, JOINT, **given), drawn(toy_model, APART, **given), atol=2e-5)


@pytest.mark.parametrize("ways", [APART, JOINT], ids=["apart", "joint"])
def test_how_many_are_drawn_together_changes_nothing(toy_model: DiT, ways: Ways) -> None:
    whole = drawn(toy_model, ways)
    for batch in (1, 2, 3):
        assert torch.allclose(drawn(toy_model, replace(ways, batch=batch)), whole, atol=2e-5)


@pytest.mark.parametrize("is_prompted", [False, True], ids=["plain", "with an adapter that has blocks of its own"])
def test_blocks_are_told_once_for_each_label(toy_model: DiT, *, is_prompted: bool) -> None:
    if is_prompted:
        adapt(toy_model, VisualPrompt(type="vpt", num_tokens=2, zero_gate=False))
    told: list[int] = []
    first: Any = toy_model.blocks[0]
    first.adaLN_modulation.register_forward_hook(lambda _module, given, _out: told.append(len(given[0])))
    x, t = torch.randn(5, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.full((5,), 7.0)
    with torch.no_grad():
        assert torch.allclose(AtOneTime(toy_model)(x, t, LABELS), toy_model(x, t, LABELS), atol=1e-5)
    assert told == [4, 5]


def test_a_cpu_draws_as_before(toy_model: DiT) -> None:
    """What lies in its caches is what it would draw now, bit for bit: the networks of this package change nothing."""
    weights = Path(difftune_core.__file__).parent / "weights"
    bundled = DiTConfig(**json.loads((weights / "tiny-dit" / "dit" / "config.json").read_text(encoding="utf-8")))
    assert images_at_once(activation_bytes(bundled), CPU, most=256) == 256
    assert Ways.of(toy_model) == APART
    assert torch.equal(drawn(toy_model, Ways.of(toy_model)), drawn(toy_model, APART))


def test_large_networks_take_fewer_images_at_once() -> None:
    small, large = PRESETS["DiT-XL/2"], replace(PRESETS["DiT-XL/2"], input_size=64)
    counts = [images_at_once(activation_bytes(config), CPU, most=128) for config in (small, large)]
    assert counts == [32, 8]
    assert images_at_once(2**40, CPU, most=128) == 1


def test_in_half_precision_the_network_alone_is_halved(toy_model: DiT) -> None:
    seen: set[torch.dtype] = set()
    toy_model.final_layer.linear.register_forward_hook(lambda _module, _given, out: seen.add(out.dtype))
    whole = drawn(toy_model, JOINT)
    with Precision("bf16", CPU).autocast():
        halved = drawn(toy_model, JOINT)
    assert seen == {torch.float32, torch.bfloat16}
    assert halved.dtype == torch.float32
    assert 0 < (halved - whole).abs().max() < 0.02 * whole.abs().max()
