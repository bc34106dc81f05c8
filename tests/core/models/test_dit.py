from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from difftune_core.families.dit.export import PIPELINE_NULL_LABEL, to_diffusers
from difftune_core.families.dit.label_rows import told_of_rows, with_classes
from difftune_core.hooks import TaskError
from difftune_core.networks.dit import PRESETS, DiT, timestep_embedding
from difftune_core.networks.state import check_state


def test_xl_2_has_the_published_size() -> None:
    with torch.device("meta"):
        model = DiT(PRESETS["DiT-XL/2"])
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == 675.13


SIZES = {"S": (12, 384, 6, 33), "B": (12, 768, 12, 130), "L": (24, 1024, 16, 458), "XL": (28, 1152, 16, 675)}
"""Depth, width, heads and millions of parameters with patches of 2 (DiT, tables 1 and 4)."""


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("patch", [2, 4, 8])
def test_the_presets_are_the_twelve_published_ones(size: str, patch: int) -> None:
    depth, width, heads, millions = SIZES[size]
    config = PRESETS[f"DiT-{size}/{patch}"]
    assert (config.depth, config.hidden_size, config.num_heads, config.patch_size) == (depth, width, heads, patch)
    assert (config.input_size, config.in_channels, config.num_classes, config.learn_sigma) == (32, 4, 1000, True)
    with torch.device("meta"):
        parameters = sum(p.numel() for p in DiT(config).parameters())
    assert parameters / 1e6 == pytest.approx(millions, abs=1.5 if patch > 2 else 0.7)
    assert len(PRESETS) == 12


def test_new_model_predicts_zero() -> None:
    model = DiT(replace(PRESETS["DiT-S/8"], input_size=16))
    out = model(torch.randn(2, 4, 16, 16), torch.tensor([0.0, 999.0]), torch.tensor([0, 1000]))
    assert out.shape == (2, 8, 16, 16)
    assert not out.any()


def test_a_new_model_begins_as_the_paper_says() -> None:
    """Xavier's bounds for linear maps, normal(0.02) for embedders, and zero for every bias, gate and output."""
    torch.manual_seed(0)
    model = DiT(replace(PRESETS["DiT-S/8"], depth=1))
    named = {name: parameter.detach() for name, parameter in model.named_parameters()}
    assert all(not parameter.any() for name, parameter in named.items() if name.endswith("bias"))
    gates = [name for name in named if "adaLN" in name or "final_layer.linear" in name]
    assert len(gates) == 6
    assert not any(named[name].any() for name in gates)
    for name in ("y_embedder.embedding_table.weight", "t_embedder.mlp.0.weight", "t_embedder.mlp.2.weight"):
        assert float(named[name].std()) == pytest.approx(0.02, rel=0.02)
    for name in ("blocks.0.attn.qkv.weight", "blocks.0.mlp.fc1.weight", "x_embedder.proj.weight"):
        fan_out, fan_in = named[name].flatten(1).shape
        assert float(named[name].abs().max()) == pytest.approx(math.sqrt(6 / (fan_in + fan_out)), rel=0.01)


@pytest.mark.parametrize(("convention", "divisor"), [("original", 4), ("diffusers", 3)])
def test_timestep_frequencies_follow_their_convention(convention: str, divisor: int) -> None:
    t, dim = 17.0, 8
    expected = [math.exp(-math.log(10000) * i / divisor) * t for i in range(4)]
    found = timestep_embedding(torch.tensor([t]), dim, convention)[0]
    wanted = torch.tensor([*map(math.cos, expected), *map(math.sin, expected)])
    assert torch.allclose(found, wanted, atol=1e-5)


def test_export_is_the_same_function_as_diffusers_transformer(toy_model: DiT) -> None:
    state = toy_model.state_dict()
    model = DiT(replace(toy_model.config, timestep_frequencies="diffusers"))
    model.load_state_dict(state)
    x, t, y = torch.randn(4, 4, 8, 8), torch.tensor([0, 10, 500, 999]), torch.tensor([0, 1, 2, 3])
    theirs = y.where(y != model.null_label, torch.tensor(PIPELINE_NULL_LABEL))
    with torch.no_grad():
        ours = model(x, t.float(), y)
        exported = to_diffusers(model)(x, timestep=t, class_labels=theirs).sample
    assert torch.allclose(ours, exported, atol=1e-5)
    assert ours.abs().max() > 0.1


@pytest.mark.parametrize("rows", ["reuse_rows", "mean", "null"])
def test_transfer_keeps_everything_but_class_rows(toy_model: DiT, rows: str) -> None:
    source = toy_model.y_embedder.embedding_table.weight.detach()
    model = with_classes(toy_model, 5, rows)
    table = model.y_embedder.embedding_table.weight.detach()
    expected = {"reuse_rows": source[[0, 1, 2, 0, 1]], "mean": source[:3].mean(0), "null": source[3]}[rows]
    assert torch.equal(table[:5], expected.expand(5, -1))
    assert torch.equal(table[5], source[3])
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([3.0, 900.0])
    with torch.no_grad():
        assert torch.equal(model(x, t, torch.tensor([5, 5])), toy_model(x, t, torch.tensor([3, 3])))
    assert not model.pos_embed.requires_grad


def test_a_report_can_tell_what_became_of_the_rows() -> None:
    assert told_of_rows(10, 52, "reuse_rows").endswith("started as the base model's rows 0 to 9.")
    assert told_of_rows(60, 52, "reuse_rows").endswith("rows 0 to 51, from class 52 on from row 0 again.")
    assert told_of_rows(10, 52, "mean").endswith("the mean of the base model's 52.")
    assert told_of_rows(10, 52, "null").endswith("the base model's null row.")


def test_transfer_refuses_more_classes_than_a_pipeline_can_name(toy_model: DiT) -> None:
    with pytest.raises(TaskError, match="1001 classes"):
        with_classes(toy_model, 1001, "mean")


def test_weights_that_do_not_fit_are_refused_by_name(toy_model: DiT) -> None:
    state = toy_model.state_dict()
    del state["blocks.0.mlp.fc1.bias"]
    state["extra"] = torch.zeros(1)
    with pytest.raises(TaskError, match=r"missing \['blocks.0.mlp.fc1.bias'\], unexpected \['extra'\]"):
        check_state(state, toy_model)


def test_weights_with_nan_are_refused(toy_model: DiT) -> None:
    state = {name: tensor.clone() for name, tensor in toy_model.state_dict().items()}
    state["final_layer.linear.bias"][0] = torch.nan
    with pytest.raises(TaskError, match=r"final_layer\.linear\.bias") as caught:
        check_state(state, toy_model)
    assert caught.value.code == "not_finite"
