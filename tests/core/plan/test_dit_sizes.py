"""What is planned of a DiT is held to what autograd keeps of it; nothing is computed, shapes alone are followed."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, replace
from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter
from torch._subclasses.fake_tensor import FakeTensorMode

from difftune_core.adapters.select import adapt
from difftune_core.config.adapter import Adapter, FullTuning
from difftune_core.config.run import PrecisionName
from difftune_core.families.dit.sizes import DiTAnatomy, activations, network_size
from difftune_core.networks.dit import PRESETS, DiT, DiTConfig
from difftune_core.runtime.blocks import checkpoint_activations

SMALL = replace(PRESETS["DiT-S/2"], depth=2)
SIZES = {
    "S/4": replace(PRESETS["DiT-S/4"], depth=2),
    "XL/2 at 512 pixels": replace(PRESETS["DiT-XL/2"], input_size=64, depth=3),
}
ADAPTERS: list[dict[str, Any]] = [
    {"type": "lora"},
    {"type": "lora", "targets": ["mlp.fc1", "blocks.1.mlp.fc2"], "rank": 16},
    {"type": "lora", "use_dora": True},
    {"type": "difffit", "last_block": 1},
    {"type": "bitfit"},
    {"type": "adaptformer"},
    {"type": "vpt"},
    {"type": "vpt", "zero_gate": False},
]


def adapter_of(given: dict[str, Any]) -> Adapter:
    found: Adapter = TypeAdapter(Adapter).validate_python(given)
    return found


def kept(model: DiT, precision: PrecisionName = "fp32") -> int:
    """Bytes that an image more leaves for the backward pass: weights, and copies of them, are there once."""
    return _kept(model, 2, precision) - _kept(model, 1, precision)


def _kept(model: DiT, images: int, precision: PrecisionName) -> int:
    config, seen = model.config, {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        seen[storage._cdata] = storage  # held, so that no other takes its number
        return tensor

    x = torch.randn(images, config.in_channels, config.input_size, config.input_size)
    half = torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), half:
        output = model(x, torch.zeros(images), torch.zeros(images, dtype=torch.int64))
    assert output.requires_grad
    return sum(storage.nbytes() for storage in seen.values())


def anatomy_of(config: DiTConfig) -> DiTAnatomy:
    return DiTAnatomy.model_validate(asdict(config))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("config", SIZES.values(), ids=SIZES)
def test_activations_are_those_that_autograd_keeps(config: DiTConfig, precision: PrecisionName) -> None:
    planned = activations(anatomy_of(config), FullTuning(), precision)
    with FakeTensorMode():
        model = DiT(config)
        assert kept(model, precision) == pytest.approx(planned.saved, rel=0.04)
        checkpoint_activations(model)
        assert kept(model, precision) == pytest.approx(planned.inputs, rel=0.1)


@pytest.mark.parametrize("given", ADAPTERS, ids=lambda given: "-".join(map(str, given.values())))
def test_adapters_are_planned_by_what_they_keep_and_train(given: dict[str, Any]) -> None:
    adapter = adapter_of(given)
    model = adapt(DiT(SMALL), adapter)
    planned = network_size(asdict(SMALL), adapter, None)
    assert planned.activations is not None
    for precision in get_args(PrecisionName)[:2]:
        assert kept(model, precision) == pytest.approx(planned.activations(precision).saved, rel=0.1), precision
    assert planned.parameters == sum(p.numel() for p in model.parameters())
    assert planned.trained == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_what_is_kept_of_shapes_is_kept_of_tensors() -> None:
    with FakeTensorMode():
        followed = kept(DiT(SMALL))
    assert followed == kept(DiT(SMALL))


def test_the_published_model_has_its_published_parameters() -> None:
    size = network_size(asdict(PRESETS["DiT-XL/2"]), FullTuning(), None)
    assert (size.parameters, size.trained) == (675_129_632, 675_129_632 - 256 * 1152)
