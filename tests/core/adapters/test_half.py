"""In half precision an adapter's base model is kept once, in half of the memory; what is trained is float32."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from difftune_core.adapters.merge import merged
from difftune_core.checkpoint.load import resume
from difftune_core.checkpoint.manifest import MODEL, RESUME, checkpoint_name
from difftune_core.checkpoint.save import save_checkpoint
from difftune_core.checkpoint.state import TrainState, new_state
from difftune_core.families.dit.base_model import _frozen
from difftune_core.families.labelled import LabelledData
from difftune_core.networks.dit import DiT
from difftune_core.runtime.execution import Execution
from difftune_core.runtime.precision import Precision
from difftune_core.train.step import train_step
from tests.core.adapters.test_adapters import ADAPTERS
from tests.core.conftest import toy_config, written
from tests.core.train.test_loop import IDENTITY

BF16 = Execution(Precision("bf16", torch.device("cpu")))
SHOWN = (
    torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)),
    torch.tensor([9.0, 900.0]),
    torch.tensor([0, 1]),
)


def state_of(kind: str, model: DiT, execution: Execution) -> TrainState[DiT]:
    torch.set_num_threads(1)
    return new_state(deepcopy(model), toy_config(adapter=ADAPTERS[kind]).method.hyperparameters, execution=execution)


def trained(state: TrainState[DiT], kind: str, data: LabelledData, steps: int) -> Tensor:
    """Losses of some steps."""
    config = toy_config(adapter=ADAPTERS[kind], learning_rate=1e-2)
    return torch.stack([train_step(state, config, data).losses for _ in range(steps)])


def size(tensors: dict[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())


@pytest.mark.parametrize("kind", sorted(ADAPTERS))
def test_the_base_is_kept_once_and_in_half_and_trains_as_autocast_does(
    kind: str, toy_model: DiT, training_data: LabelledData
) -> None:
    state = state_of(kind, toy_model, BF16)
    frozen = {name: p for name, p in state.model.named_parameters() if not p.requires_grad}
    layers = {name for name in frozen if name.endswith("weight")}
    assert {frozen[name].dtype for name in layers} == {torch.bfloat16}
    average = dict(state.average.named_parameters())
    assert all(average[name] is p for name, p in frozen.items())
    assert not _frozen(state.model).keys() & layers, "a base model that others draw from does not share it"
    whole = state_of(kind, toy_model, Execution())
    whole.execution = BF16
    torch.testing.assert_close(
        trained(state, kind, training_data, 3), trained(whole, kind, training_data, 3), rtol=1e-2, atol=0
    )
    assert {p.dtype for p in state.trainable().values()} == {torch.float32}
    if kind != "dora":  # whose norms are those of the weights as they are kept
        assert all(torch.equal(p, whole.trainable()[name]) for name, p in state.trainable().items())


@pytest.mark.parametrize("kind", sorted(ADAPTERS))
def test_a_checkpoint_is_of_float32_and_resumes_to_the_byte(
    kind: str, toy_model: DiT, training_data: LabelledData, tmp_path: Path
) -> None:
    state = state_of(kind, toy_model, BF16)
    trained(state, kind, training_data, 2)
    save_checkpoint(state, tmp_path, identity=IDENTITY, envelope={}, write_config=written)
    folder = tmp_path / checkpoint_name(2)
    delivered, kept = load_file(folder / MODEL), load_file(folder / RESUME)
    assert {tensor.dtype for tensor in [*delivered.values(), *kept.values()]} == {torch.float32}
    assert size(kept) == 4 * size(state.trainable()), "weights, average and two moments of what is trained"
    if state.adapter.mergeable:
        plain = merged(state.average)
        assert plain.computes_in is None
        torch.testing.assert_close(plain(*SHOWN), state.average(*SHOWN), rtol=0.05, atol=0.02)
    later = state_of(kind, toy_model, BF16)
    resume(later, tmp_path, identity=IDENTITY, envelope={})
    trained(state, kind, training_data, 2)
    trained(later, kind, training_data, 2)
    found = later.resume_tensors()
    assert all(torch.equal(tensor, found[name]) for name, tensor in state.resume_tensors().items())


def test_what_lora_adds_is_not_lost_in_the_rounding_of_the_base(toy_model: DiT) -> None:
    state = state_of("lora", toy_model, BF16)
    layer = state.average.blocks[0].attn.qkv
    base = layer.get_base_layer().weight.float()
    nn.init.constant_(layer.lora_B["default"].weight, 1e-6)
    update = layer.lora_B["default"].weight @ layer.lora_A["default"].weight * layer.scaling["default"]
    found = merged(state.average).blocks[0].attn.qkv.weight - base
    assert float(update.abs().max()) < 1e-4
    torch.testing.assert_close(found, update, rtol=0.2, atol=1e-8)


def test_full_tuning_keeps_float32(toy_model: DiT, training_data: LabelledData) -> None:
    state = new_state(toy_model, toy_config().method.hyperparameters, execution=BF16)
    train_step(state, toy_config(), training_data)
    assert {p.dtype for p in state.model.parameters()} == {torch.float32}
