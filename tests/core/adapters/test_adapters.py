from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from difftune_core.adapters.difffit import ScaledLinear
from difftune_core.adapters.merge import merged
from difftune_core.adapters.select import adapt
from difftune_core.config.adapter import DIT_LINEAR_LAYERS, Adapter
from difftune_core.evaluate.forgetting import l2_from_base
from difftune_core.hooks import TaskError
from difftune_core.networks.dit import DiT, DiTConfig
from difftune_core.runtime.rng import generator

MERGEABLE = {
    "lora": {"type": "lora"},
    "lora 16": {"type": "lora", "rank": 4, "alpha": 16, "targets": ["attn.qkv", "mlp.fc2", "blocks.0.mlp.fc1"]},
    "dora": {"type": "lora", "use_dora": True},
    "difffit": {"type": "difffit"},
    "difffit 1": {"type": "difffit", "last_block": 1},
    "bitfit": {"type": "bitfit"},
}
UNMERGEABLE = {
    "parallel": {"type": "adaptformer", "bottleneck": 4},
    "sequential": {"type": "adaptformer", "bottleneck": 4, "mode": "sequential"},
    "vpt": {"type": "vpt", "num_tokens": 3},
    "vpt as published": {"type": "vpt", "num_tokens": 3, "zero_gate": False},
}
ADAPTERS = MERGEABLE | UNMERGEABLE
LABELS = "y_embedder.embedding_table.weight"


def parsed(fields: dict[str, object]) -> Adapter:
    adapter: Adapter = TypeAdapter(Adapter).validate_python(fields)
    return adapter


def predict(model: DiT) -> Tensor:
    stream = generator("input")
    x, t, y = torch.randn(4, 4, 8, 8, generator=stream), torch.tensor([0.0, 10, 500, 999]), torch.arange(4)
    with torch.no_grad():
        out: Tensor = model.eval()(x, t, y)
    return out


def moved(model: DiT) -> DiT:
    """As after training: every trainable parameter is another one."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator("moved", name))
            parameter.data += 0.1 * noise
    return model


@pytest.mark.parametrize("kind", sorted(set(ADAPTERS) - {"vpt as published"}))
def test_tuning_starts_at_the_base_model_exactly(kind: str, toy_model: DiT) -> None:
    before = predict(toy_model)
    assert torch.equal(predict(adapt(deepcopy(toy_model), parsed(ADAPTERS[kind]))), before)
    assert before.abs().max() > 0.1


def test_published_prompts_disturb_the_start(toy_model: DiT) -> None:
    before = predict(toy_model)
    assert not torch.allclose(predict(adapt(toy_model, parsed(ADAPTERS["vpt as published"]))), before, atol=1e-4)


@pytest.mark.parametrize("kind", sorted(ADAPTERS))
def test_every_trained_parameter_matters_and_nothing_else_is_trained(kind: str, toy_model: DiT) -> None:
    model = moved(adapt(toy_model, parsed(ADAPTERS[kind]))).train()
    frozen = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    out = model(torch.randn(4, 4, 8, 8), torch.tensor([1.0, 10, 500, 999]), torch.arange(4))
    out.square().sum().backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert LABELS in trained
    assert len(trained) > 1
    assert "pos_embed" not in trained
    useless = [name for name, p in trained.items() if p.grad is None or not p.grad.any()]
    assert not useless
    assert all(p.grad is None for name, p in model.named_parameters() if name in frozen)


@pytest.mark.parametrize("kind", sorted(MERGEABLE))
def test_merged_is_the_same_function_in_plain_weights(kind: str, toy_model: DiT) -> None:
    base = predict(toy_model)
    names = toy_model.state_dict().keys()
    model = moved(adapt(toy_model, parsed(MERGEABLE[kind])))
    after = predict(model)
    plain = merged(model)
    assert list(plain.state_dict()) == list(names) or set(plain.state_dict()) == set(names)
    assert all(type(module).__module__ != "peft.tuners.lora.layer" for module in plain.modules())
    assert torch.allclose(predict(plain), after, atol=1e-5)
    assert torch.equal(predict(model), after), "merging leaves the adapted model as it was"
    assert not torch.allclose(after, base, atol=1e-2)


@pytest.mark.parametrize("kind", sorted(UNMERGEABLE))
def test_what_cannot_be_merged_says_so(kind: str, toy_model: DiT) -> None:
    adapter = parsed(UNMERGEABLE[kind])
    assert not adapter.mergeable
    with pytest.raises(TaskError) as caught:
        merged(adapt(toy_model, adapter))
    assert caught.value.code == "adapter_not_mergeable"


@pytest.mark.parametrize("kind", sorted(ADAPTERS))
def test_first_values_follow_from_the_seed(kind: str, toy_model: DiT) -> None:
    models = [adapt(deepcopy(toy_model), parsed(ADAPTERS[kind]), seed=seed) for seed in (5, 5, 6)]
    states = [model.state_dict() for model in models]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    differing = any(not torch.equal(states[0][name], states[2][name]) for name in states[0])
    assert differing == (not kind.startswith(("difffit", "bitfit")))


def test_a_target_without_a_layer_is_refused_by_name(toy_model: DiT) -> None:
    with pytest.raises(TaskError, match=r"named kv, blocks\.2\.mlp\.fc1$") as caught:
        adapt(toy_model, parsed({"type": "lora", "targets": ["attn.qkv", "kv", "blocks.2.mlp.fc1"]}))
    assert caught.value.code == "adapter_matches_nothing"
    assert caught.value.param == "adapter.targets"


def test_the_layers_known_at_submission_are_those_of_a_dit() -> None:
    model = DiT(DiTConfig(input_size=2, hidden_size=8, depth=1, num_heads=1, num_classes=1))
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    assert sorted(DIT_LINEAR_LAYERS) == sorted(layers)


def test_a_target_ends_at_a_dot(toy_model: DiT) -> None:
    model = adapt(toy_model, parsed({"type": "lora", "targets": ["proj"]}))
    adapted = [name for name, module in model.named_modules() if hasattr(module, "lora_A")]
    assert adapted == ["blocks.0.attn.proj", "blocks.1.attn.proj"], "not the patch embedding, which is a convolution"


def test_scale_factors_stop_at_the_last_block(toy_model: DiT) -> None:
    model = adapt(toy_model, parsed({"type": "difffit", "last_block": 1}))
    scaled = [name for name, module in model.named_modules() if isinstance(module, ScaledLinear)]
    assert scaled == ["blocks.0.attn.qkv", "blocks.0.attn.proj", "blocks.0.mlp.fc2"]


def test_l2_is_the_squared_distance_over_what_is_trained(toy_model: DiT) -> None:
    start = adapt(deepcopy(toy_model), parsed({"type": "bitfit"}))
    model = adapt(toy_model, parsed({"type": "bitfit"}))
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert l2_from_base(trained, start.named_parameters()) == 0
    trained["blocks.0.attn.qkv.bias"].data[:2] += 3.0
    model.blocks[0].attn.qkv.weight.data += 1.0  # not trained: does not count
    assert l2_from_base(trained, start.named_parameters()) == pytest.approx(18.0, rel=1e-5)
