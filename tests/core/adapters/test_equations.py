"""Every adapter and each of its variants against its published equation, with trained values that are not the first."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # its usual name

from difftune_core.adapters.initial import by_fan_in, uniform
from difftune_core.adapters.select import adapt
from difftune_core.checkpoint.state import new_state
from difftune_core.families.labelled import LabelledData
from difftune_core.networks.dit import DiT, DiTBlock
from difftune_core.runtime.rng import generator
from difftune_core.train.step import train_step
from tests.core.adapters.test_adapters import ADAPTERS, moved, parsed
from tests.core.conftest import toy_config

WIDTH, HEADS = 32, 2


def tokens(count: int = 5) -> Tensor:
    return torch.randn(2, count, WIDTH, generator=generator("tokens"))


def adapted(model: DiT, **fields: Any) -> tuple[DiTBlock, DiTBlock]:
    """The first block as it was, and adapted and moved."""
    before = deepcopy(model.blocks[0])
    after = moved(adapt(model, parsed(fields))).blocks[0]
    assert isinstance(before, DiTBlock)
    assert isinstance(after, DiTBlock)
    return before, after


@pytest.mark.parametrize("mode", ["parallel", "sequential"])
def test_adaptformer(toy_model: DiT, mode: str) -> None:
    """MLP(x) + s up(relu(down(x))), or of MLP(x) in place of x (Chen et al. 2022, eq. 2 and the ablation of 4.4)."""
    before, after = adapted(toy_model, type="adaptformer", bottleneck=4, scale=0.7, mode=mode)
    mlp: Any = after.mlp
    x = tokens()
    out = before.mlp(x)
    inner = F.relu((x if mode == "parallel" else out) @ mlp.down.weight.T + mlp.down.bias)
    expected = out + 0.7 * (inner @ mlp.up.weight.T + mlp.up.bias)
    torch.testing.assert_close(mlp(x), expected)
    assert not torch.allclose(expected, out, atol=1e-3)


@pytest.mark.parametrize("zero_gate", [True, False])
def test_visual_prompts(toy_model: DiT, zero_gate: bool) -> None:
    """Tokens attend to [prompts; tokens] in one softmax (Jia et al. 2022), or gated in two (Zhang et al. 2023)."""
    before, after = adapted(toy_model, type="vpt", num_tokens=3, zero_gate=zero_gate)
    attention: Any = after.attn
    x, prompts = tokens(), tokens(3) + 1
    both = torch.cat([prompts, x], dim=1)
    q, k, v = (part.unflatten(2, (HEADS, -1)).transpose(1, 2) for part in before.attn.qkv(both).chunk(3, dim=2))
    scores = q[:, :, 3:] @ k.transpose(2, 3) / (WIDTH // HEADS) ** 0.5
    if zero_gate:
        added = attention.gate.tanh() * (scores[..., :3].softmax(-1) @ v[:, :, :3])
        mixed = scores[..., 3:].softmax(-1) @ v[:, :, 3:] + added
    else:
        assert attention.gate is None
        mixed = scores.softmax(-1) @ v
    expected = before.attn.proj(mixed.transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention.with_prompts(x, prompts), expected, rtol=1e-4, atol=1e-5)


def layers(model: DiT, *, use_dora: bool) -> tuple[nn.Linear, Any]:
    before, after = adapted(model, type="lora", rank=2, alpha=6.0, use_dora=use_dora)
    return before.attn.qkv, after.attn.qkv


def update(layer: Any) -> Tensor:
    found: Tensor = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    return found * (6.0 / 2)


def test_lora(toy_model: DiT) -> None:
    """W + (alpha / r) B A (Hu et al. 2022)."""
    plain, layer = layers(toy_model, use_dora=False)
    x = tokens()
    assert not any("magnitude" in name for name, _ in layer.named_parameters())
    torch.testing.assert_close(layer(x), x @ (plain.weight + update(layer)).T + plain.bias, rtol=1e-4, atol=1e-5)


def test_dora(toy_model: DiT) -> None:
    """m (W + (alpha / r) B A) / ||W + (alpha / r) B A||, the norm of each output's row (Liu et al. 2024, eq. 5)."""
    plain, layer = layers(toy_model, use_dora=True)
    x, tuned = tokens(), plain.weight + update(layer)
    length = layer.lora_magnitude_vector["default"].weight
    expected = x @ (length[:, None] * tuned / tuned.norm(dim=1, keepdim=True)).T + plain.bias
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(length, plain.weight.norm(dim=1), atol=1e-3), "trained apart from the direction"


def test_difffit(toy_model: DiT) -> None:
    """gamma (W x + b), twice on the attention's output: its own factor and the branch's (Xie et al. 2023)."""
    before, after = adapted(toy_model, type="difffit", last_block=1)
    x = tokens()
    for name, count in (("attn.qkv", 1), ("attn.proj", 2)):
        plain, layer = before.get_submodule(name), after.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        scales: Any = layer.scales
        assert scales.shape == (count, layer.out_features)
        expected = scales.prod(0) * (x @ plain.weight.T + layer.bias)
        torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_first_values_have_their_law_and_are_of_their_place() -> None:
    """Uniform in [-b, b] with b = 1 / sqrt(inputs); another seed or name gives others."""
    weight = torch.empty(500, 64)
    first = by_fan_in(weight, seed=0, name="one")
    assert first.abs().max() <= 1 / 8
    assert float(first.std()) == pytest.approx(1 / 8 / 3**0.5, rel=0.02)
    assert float(first.mean()) == pytest.approx(0, abs=2e-3)
    assert torch.equal(first, uniform(weight, 1 / 8, seed=0, name="one"))
    for other in (by_fan_in(weight, seed=1, name="one"), by_fan_in(weight, seed=0, name="other")):
        assert abs(float(torch.corrcoef(torch.stack([first.flatten(), other.flatten()]))[0, 1])) < 0.02


@pytest.mark.parametrize("kind", ["lora", "dora", "parallel", "vpt"])
def test_two_layers_of_one_shape_do_not_start_alike(kind: str, toy_model: DiT) -> None:
    state = adapt(toy_model, parsed(ADAPTERS[kind])).state_dict()
    own = ("lora_A", "mlp.down.weight", "prompts")
    names = [name for name in state if name.startswith("blocks.0.") and any(part in name for part in own)]
    assert names
    for name in names:
        assert not torch.equal(state[name], state[name.replace("blocks.0.", "blocks.1.")]), name


VARIANTS = [("lora", "dora"), ("parallel", "sequential"), ("vpt", "vpt as published"), ("difffit", "difffit 1")]


@pytest.mark.parametrize(("one", "other"), VARIANTS)
def test_variants_are_other_models_after_a_few_steps(
    one: str, other: str, toy_model: DiT, training_data: LabelledData
) -> None:
    outputs = []
    x, t, y = torch.randn(2, 4, 8, 8, generator=generator("x")), torch.tensor([10.0, 900.0]), torch.tensor([0, 1])
    for kind in (one, other):
        config = toy_config(adapter=ADAPTERS[kind], learning_rate=1e-2)
        state = new_state(deepcopy(toy_model), config.method.hyperparameters, seed=config.seed)
        for _ in range(3):
            train_step(state, config, training_data)
        with torch.no_grad():
            outputs.append(state.model(x, t, y))
    assert (outputs[0] - outputs[1]).abs().max() > 1e-4
