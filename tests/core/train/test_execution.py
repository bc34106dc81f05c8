"""How a step is carried out: in parts, in other precisions, without the host waiting, it is the same step."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from difftune_core.checkpoint.load import resume
from difftune_core.checkpoint.save import save_checkpoint
from difftune_core.checkpoint.state import TrainState, new_state
from difftune_core.config.run import ResourcesConfig
from difftune_core.config.transfer import TransferConfig
from difftune_core.families.labelled import LabelledData
from difftune_core.hooks import TaskError
from difftune_core.networks.dit import DiT
from difftune_core.runtime.execution import Execution, execution_of
from difftune_core.runtime.precision import Precision
from difftune_core.train.start import envelope_of
from difftune_core.train.step import StepResult, train_step
from tests.core.conftest import RecordingHooks, toy_config, written
from tests.core.synchronisations import Synchronisations
from tests.core.train.test_loop import IDENTITY, loop_of
from tests.core.train.test_step import RECIPES

CPU = torch.device("cpu")
BF16, FP16 = Precision("bf16", CPU), Precision("fp16", CPU)


def state_of(model: DiT, config: TransferConfig, execution: Execution | None = None, seed: int = 0) -> TrainState[DiT]:
    torch.set_num_threads(1)
    return new_state(deepcopy(model), config.method.hyperparameters, seed=seed, execution=execution)


def step_of(
    model: DiT, config: TransferConfig, data: LabelledData, execution: Execution | None = None
) -> tuple[Tensor, Tensor]:
    """Losses of a first step, and its gradient as one vector."""
    state = state_of(model, config, execution)
    losses = train_step(state, config, data).losses
    return losses, torch.cat([p.grad.flatten() for p in state.trainable().values() if p.grad is not None])


def of_recipe(recipe: str, data: LabelledData, model: DiT, **fields: Any) -> tuple[TransferConfig, LabelledData]:
    method, given = RECIPES[recipe]
    teacher = deepcopy(model).eval().requires_grad_(requires_grad=False) if recipe == "distillation" else None
    return toy_config(method, batch_size=16, **given, **fields), replace(data, teacher=teacher)


@pytest.mark.parametrize(
    ("recipe", "size"), [*((recipe, 6) for recipe in RECIPES), ("released", 1), ("distillation", 1), ("algorithm1", 16)]
)
def test_the_parts_of_a_step_add_up_to_it(recipe: str, size: int, toy_model: DiT, training_data: LabelledData) -> None:
    config, data = of_recipe(recipe, training_data, toy_model, max_grad_norm=0.5)
    losses, gradient = step_of(toy_model, config, data)
    found = step_of(toy_model, config, data, Execution(micro_batch=size))
    torch.testing.assert_close(found, (losses, gradient), rtol=1e-3, atol=1e-6)
    assert torch.nn.functional.cosine_similarity(found[1], gradient, dim=0) >= 0.9999
    if size == 16:
        assert torch.equal(found[1], gradient), "nothing is split"


@pytest.mark.parametrize("precision", [BF16, FP16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("recipe", ["algorithm1", "distillation"])
def test_half_precision_goes_down_the_same_gradient(
    recipe: str, precision: Precision, toy_model: DiT, training_data: LabelledData
) -> None:
    config, data = of_recipe(recipe, training_data, toy_model)
    losses, gradient = step_of(toy_model, config, data)
    halved, found = step_of(toy_model, config, data, Execution(precision, micro_batch=6))
    assert float(halved.mean()) == pytest.approx(float(losses.mean()), rel=0.01)
    assert torch.nn.functional.cosine_similarity(found, gradient, dim=0) >= 0.999
    assert float(found.norm()) == pytest.approx(float(gradient.norm()), rel=0.02)
    assert not torch.equal(found, gradient)


@pytest.mark.parametrize("execution", [Execution(BF16), Execution(FP16, micro_batch=3)], ids=["bf16", "fp16"])
def test_half_precision_resumes_to_the_byte(
    execution: Execution, toy_model: DiT, training_data: LabelledData, tmp_path: Path
) -> None:
    """With a gradient amid them that float16 cannot hold: it makes the scale smaller, and the step changes nothing."""
    config = toy_config(max_steps=6)
    ends = []
    for cut in (6, 3):
        state = state_of(toy_model, config, execution)
        for _ in range(cut):
            if state.scaler is not None and state.step == 1:
                state.scaler.update(2.0**40)
            train_step(state, config, training_data)
        folder = tmp_path / str(cut)
        save_checkpoint(state, folder, identity=IDENTITY, envelope={}, write_config=written)
        later = state_of(toy_model, config, execution)
        resume(later, folder, identity=IDENTITY, envelope={})
        while later.step < 6:
            train_step(later, config, training_data)
        ends.append({**later.resume_tensors(), **later.average_trainable()})
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())
    if execution.precision is FP16:
        assert float(ends[0]["scaler/updates"]) < 6
        assert float(ends[0]["scaler/scale"]) < 2.0**40


def test_weights_average_and_moments_stay_in_float32(toy_model: DiT, training_data: LabelledData) -> None:
    config = toy_config()
    state = state_of(toy_model, config, Execution(BF16))
    train_step(state, config, training_data)
    assert {tensor.dtype for tensor in state.resume_tensors().values()} == {torch.float32}
    assert all(p.grad is not None for p in state.trainable().values())


def test_what_was_used_is_in_the_envelope_where_it_is_not_what_it_used_to_be() -> None:
    config, plain = toy_config(batch_size=8), envelope_of(toy_config(), {})
    assert envelope_of(config, {}, Execution(micro_batch=8)) == plain
    assert envelope_of(config, {}, Execution(BF16, micro_batch=3)) == plain | {"precision": "bf16", "micro_batch": 3}
    two = config.model_copy(update={"resources": ResourcesConfig(gpus=2)})
    assert "micro_batch" not in envelope_of(two, {}, Execution(micro_batch=4)), "all that a process has"


def test_a_precision_that_the_device_lacks_is_refused_by_its_field() -> None:
    with pytest.raises(TaskError, match="fp16") as caught:
        execution_of(ResourcesConfig(precision="fp16"), CPU)
    assert (caught.value.code, caught.value.param) == ("precision_unavailable", "resources.precision")
    assert execution_of(ResourcesConfig(), CPU) == Execution()
    assert execution_of(ResourcesConfig(precision="bf16", micro_batch=2), CPU) == Execution(BF16, 2)


@pytest.mark.parametrize("recipe", ["algorithm1", "distillation"])
def test_no_step_waits_for_the_device_but_those_that_are_told(
    recipe: str, toy_model: DiT, training_data: LabelledData
) -> None:
    config, data = of_recipe(recipe, training_data, toy_model, log_every_steps=3, max_grad_norm=0.5)
    state = state_of(toy_model, config, Execution(BF16, micro_batch=6))
    counted = []
    for _ in range(3):
        with Synchronisations() as found:
            train_step(state, config, data)
        counted.append(found.names)
    assert counted[:2] == [[], []]
    assert counted[2], "and these would be noticed"


@pytest.mark.parametrize("looked_at", [{"log_every_steps": 5}, {"log_every_steps": 20, "checkpoint_every_steps": 5}])
def test_what_diverges_is_never_saved_and_named_by_its_step(
    looked_at: dict[str, Any], toy_model: DiT, training_data: LabelledData, tmp_path: Path
) -> None:
    """Also where nobody looks for some steps; what was trained up to then stays as it is."""
    config, before = toy_config(**looked_at), {}
    loop, _ = loop_of(config, toy_model, training_data, tmp_path, RecordingHooks())
    target = training_data.target
    broken = replace(training_data, target=replace(target, mean=target.mean / 0))

    def advance() -> StepResult:
        if loop.state.step == 2:
            before.update({name: p.detach().clone() for name, p in loop.state.trainable().items()})
        return train_step(loop.state, config, broken if loop.state.step == 2 else training_data)

    loop.advance = advance
    with pytest.raises(TaskError, match="at step 3") as caught:
        loop.run()
    assert (caught.value.code, loop.state.step) == ("diverged", 5)
    assert all(torch.equal(p, before[name]) for name, p in loop.state.trainable().items())
    assert not list(tmp_path.glob("step-*"))
