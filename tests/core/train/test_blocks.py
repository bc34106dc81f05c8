"""Blocks that are computed anew or compiled, and the average on the host: the same step, and what cannot be is told."""

from __future__ import annotations

import os
from copy import deepcopy
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from torch import Tensor

from difftune_core.checkpoint.load import resume
from difftune_core.checkpoint.save import save_checkpoint
from difftune_core.checkpoint.state import TrainState, new_state
from difftune_core.config.run import ResourcesConfig
from difftune_core.families.batch import make_batch
from difftune_core.families.labelled import LabelledData
from difftune_core.hooks import LogEvent, TaskError
from difftune_core.networks.dit import DiT
from difftune_core.runtime import blocks
from difftune_core.runtime.execution import Execution
from difftune_core.train.blocks import prepare_blocks
from difftune_core.train.step import backward, train_step
from tests.core.conftest import RecordingHooks, toy_config, written
from tests.core.train.test_loop import ADAPTERS, IDENTITY

CONFIG = toy_config(max_steps=4)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled code is kept in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))


def prepared(
    model: DiT, data: LabelledData, hooks: RecordingHooks, adapter: Any = None, **resources: Any
) -> TrainState:
    torch.set_num_threads(1)
    config = toy_config(**({"adapter": adapter} if adapter else {}))
    config = config.model_copy(update={"resources": ResourcesConfig(**resources)})
    state = new_state(deepcopy(model), config.method.hyperparameters)
    prepare_blocks(state, (), config=config, data=data, hooks=hooks, cache=Path())
    return state


def gradient_of(state: TrainState, data: LabelledData) -> tuple[Tensor, int]:
    """Of a first step, and the bytes that were remembered for its backward pass."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        backward(state, make_batch(CONFIG, data, 0), CONFIG.method, data)
    return torch.cat([p.grad.flatten() for p in state.trainable().values() if p.grad is not None]), sum(kept.values())


def warnings_in(hooks: RecordingHooks) -> list[tuple[Any, ...]]:
    return [(e.level, *e.data.values()) for e in hooks.events if isinstance(e, LogEvent)]


@pytest.mark.parametrize("kind", [None, *ADAPTERS])
def test_blocks_that_are_computed_anew_give_the_same_gradient(
    kind: str | None, toy_model: DiT, training_data: LabelledData
) -> None:
    hooks, adapter = RecordingHooks(), ADAPTERS[kind] if kind else None
    plain, remembered = gradient_of(prepared(toy_model, training_data, hooks, adapter), training_data)
    state = prepared(toy_model, training_data, hooks, adapter, activation_checkpointing="on")
    found, kept = gradient_of(state, training_data)
    assert torch.equal(found, plain)
    assert kept < 0.7 * remembered
    assert not hooks.events


@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_a_compiled_block_is_one_graph_and_the_same_function(
    toy_model: DiT, training_data: LabelledData, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs: list[Any] = []

    def backend(graph: Any, _inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(blocks, "BACKEND", backend)
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # checks of arguments are no part of a graph
    hooks = RecordingHooks()
    plain, _ = gradient_of(prepared(toy_model, training_data, hooks), training_data)
    state = prepared(toy_model, training_data, hooks, compile="on")
    found, _ = gradient_of(state, training_data)
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-6)
    assert len(graphs) == 1, "both blocks are one graph, without a break"
    assert state.execution == Execution(compiled=True)
    assert not any(name.endswith("_orig_mod") for name in state.model.state_dict())
    assert not hooks.events
    with torch.no_grad():
        drawn = state.average(*inputs_of(toy_model))
        torch.testing.assert_close(drawn, toy_model(*inputs_of(toy_model)), rtol=1e-4, atol=1e-6)
    assert len(graphs) == 2, "the average draws by compiled blocks too"


@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_a_run_goes_on_without_what_cannot_be_compiled(
    toy_model: DiT, training_data: LabelledData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def backend(_graph: Any, _inputs: Any) -> Any:
        raise RuntimeError("no compiler was found")

    monkeypatch.setattr(blocks, "BACKEND", backend)
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # checks of arguments are no part of a graph
    hooks = RecordingHooks()
    state = prepared(toy_model, training_data, hooks, compile="on")
    assert warnings_in(hooks) == [("warn", "compile_failed", "resources.compile")]
    assert "no compiler was found" in hooks.events[0].model_dump_json()
    assert state.execution == Execution()
    plain, _ = gradient_of(prepared(toy_model, training_data, hooks), training_data)
    assert torch.equal(gradient_of(state, training_data)[0], plain)


def test_what_has_no_blocks_is_told(
    toy_model: DiT, training_data: LabelledData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DiT, "_repeated_blocks", ())
    monkeypatch.setattr(DiT, "_supports_gradient_checkpointing", False, raising=False)
    hooks = RecordingHooks()
    prepared(toy_model, training_data, hooks, compile="on", activation_checkpointing="on")
    assert warnings_in(hooks) == [
        ("warn", "no_blocks", "resources.activation_checkpointing"),
        ("warn", "no_blocks", "resources.compile"),
    ]


def resumed_at_two(execution: Execution, model: DiT, data: LabelledData, folder: Path) -> TrainState:
    """Four steps, stopped after two."""
    state = new_state(deepcopy(model), CONFIG.method.hyperparameters, execution=execution)
    for _ in range(2):
        train_step(state, CONFIG, data)
    save_checkpoint(state, folder, identity=IDENTITY, envelope={}, write_config=written)
    later = new_state(deepcopy(model), CONFIG.method.hyperparameters, execution=execution)
    resume(later, folder, identity=IDENTITY, envelope={})
    for _ in range(2):
        train_step(later, CONFIG, data)
    return later


def test_the_average_is_the_same_on_the_host(toy_model: DiT, training_data: LabelledData, tmp_path: Path) -> None:
    found = []
    for on_host in (False, True):
        execution = Execution(average_on_host=on_host)
        state = resumed_at_two(execution, toy_model, training_data, tmp_path / str(on_host))
        with state.average_on_device():
            found.append({name: tensor.clone() for name, tensor in state.average.state_dict().items()})
        state.end()
    assert all(torch.equal(tensor, found[1][name]) for name, tensor in found[0].items())


def test_moments_in_8_bits_need_a_package(toy_model: DiT, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torchao.optim", None)
    with pytest.raises(TaskError, match="optim8bit") as caught:
        new_state(toy_model, CONFIG.method.hyperparameters, execution=Execution(optimizer_state="8bit"))
    assert (caught.value.code, caught.value.param) == ("optimizer_unavailable", "resources.optimizer_state")


@pytest.mark.filterwarnings("default")
def test_moments_in_8_bits_resume_to_the_byte_and_in_either_kind(
    toy_model: DiT, training_data: LabelledData, tmp_path: Path
) -> None:
    pytest.importorskip("torchao.optim")
    eight, full = Execution(optimizer_state="8bit"), Execution()
    straight = new_state(deepcopy(toy_model), CONFIG.method.hyperparameters, execution=eight)
    for _ in range(4):
        train_step(straight, CONFIG, training_data)
    cut = resumed_at_two(eight, toy_model, training_data, tmp_path / "8bit")
    wanted, found = straight.resume_tensors(), cut.resume_tensors()
    assert all(torch.equal(tensor, found[name]) for name, tensor in wanted.items())
    assert any(tensor.dtype == torch.uint8 for tensor in wanted.values())
    plain = resumed_at_two(full, toy_model, training_data, tmp_path / "fp32")
    for kind, other in ((eight, "fp32"), (full, "8bit")):
        state = new_state(deepcopy(toy_model), CONFIG.method.hyperparameters, execution=kind)
        resume(state, tmp_path / other, identity=IDENTITY, envelope={})
        for _ in range(2):
            train_step(state, CONFIG, training_data)
        for name, parameter in plain.trainable().items():
            torch.testing.assert_close(state.trainable()[name], parameter, rtol=0, atol=2e-3)


def inputs_of(model: DiT) -> tuple[Tensor, Tensor, Tensor]:
    side = model.config.input_size
    return torch.ones(2, model.config.in_channels, side, side), torch.zeros(2), torch.zeros(2, dtype=torch.int64)


def test_a_block_that_cannot_be_compiled_draws_as_it_is(toy_model: DiT, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)

    def broken(_graph: Any, _inputs: Any) -> Any:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(blocks, "BACKEND", broken)
    network = deepcopy(toy_model)
    blocks.compile_for_drawing(network)
    given = inputs_of(toy_model)
    with torch.no_grad():
        assert torch.equal(network(*given), toy_model(*given))


@pytest.mark.parametrize("stated", [None, "theirs"])
def test_compiled_code_is_kept_where_it_is_said_unless_somebody_said_before(
    monkeypatch: pytest.MonkeyPatch, stated: str | None
) -> None:
    monkeypatch.setattr(blocks, "_STATED", stated)
    monkeypatch.setenv(blocks._CACHE, "before")
    blocks.keep_compiled_in(Path("ours"))
    assert os.environ[blocks._CACHE] == ("ours" if stated is None else "before")
