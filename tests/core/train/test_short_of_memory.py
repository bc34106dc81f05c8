"""A step that memory is too short for is taken anew with half as many images at once, and the run says so."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from difftune_core.checkpoint.state import new_state
from difftune_core.families.labelled import LabelledData
from difftune_core.networks.dit import DiT
from difftune_core.train.step import train_step
from tests.core.conftest import RecordingHooks, toy_config
from tests.core.train.test_execution import loop_of

CONFIG = toy_config(batch_size=16, max_steps=2, log_every_steps=1)


class Small:
    """A device on which so many images fit at once."""

    def __init__(self, model: DiT, most: int) -> None:
        self.seen: list[int] = []
        self._most = most
        model.register_forward_pre_hook(self._look)

    def _look(self, _: Any, given: tuple[torch.Tensor, ...]) -> None:
        self.seen.append(len(given[0]))
        if len(given[0]) > self._most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_the_step_is_that_of_the_whole_batch(toy_model: DiT, training_data: LabelledData) -> None:
    whole = new_state(deepcopy(toy_model), CONFIG.method.hyperparameters)
    train_step(whole, CONFIG, training_data)
    short, device = new_state(toy_model, CONFIG.method.hyperparameters), Small(toy_model, 8)
    result = train_step(short, CONFIG, training_data)
    assert (result.halved_to, device.seen, short.step) == (8, [16, 8, 8], 1)
    for one, other in zip(short.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-3)
    assert train_step(short, CONFIG, training_data).halved_to is None
    assert device.seen[3:] == [8, 8]


def test_it_is_halved_once(toy_model: DiT, training_data: LabelledData) -> None:
    state, device = new_state(toy_model, CONFIG.method.hyperparameters), Small(toy_model, 4)
    with pytest.raises(torch.OutOfMemoryError):
        train_step(state, CONFIG, training_data)
    assert (device.seen, state.step) == ([16, 8], 0)


def test_another_error_is_no_lack_of_memory(toy_model: DiT, training_data: LabelledData) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("shapes differ")

    toy_model.register_forward_pre_hook(fail)
    state = new_state(toy_model, CONFIG.method.hyperparameters)
    with pytest.raises(RuntimeError, match="shapes differ"):
        train_step(state, CONFIG, training_data)
    assert not state.was_halved


def test_the_run_says_so_and_its_checkpoints_too(toy_model: DiT, training_data: LabelledData, tmp_path: Path) -> None:
    hooks = RecordingHooks()
    loop, _ = loop_of(CONFIG, toy_model, training_data, tmp_path, hooks)
    Small(loop.state.model, 8)
    loop.run()
    told = [event for event in hooks.events if event.type == "log" and event.data.get("code") == "micro_batch_halved"]
    assert [event.data["micro_batch"] for event in told] == [8]
    assert "at step 1" in told[0].message
    assert loop.envelope["micro_batch"] == 8
