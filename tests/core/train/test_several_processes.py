"""Training spread over processes: two of them on gloo against one, stops, resumes, and the death of one."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import load_file

from difftune_core.checkpoint.manifest import MODEL, RESUME, newest_whole
from difftune_core.checkpoint.state import new_state
from difftune_core.config.card import BaseModelCard
from difftune_core.config.resolution import resolve
from difftune_core.config.run import ResourcesConfig
from difftune_core.config.stored import read_stored
from difftune_core.config.transfer import TransferConfig, config_digest
from difftune_core.families.labelled import LabelledData
from difftune_core.hooks import MetricsEvent, ResumeEvent, TaskError
from difftune_core.networks.dit import DiT
from difftune_core.runtime.replica import Replica
from difftune_core.train.step import train_step
from tests.core.conftest import RecordingHooks, toy_config
from tests.core.runs import ToyFolders, toy_folders
from tests.core.train.test_loop import ADAPTERS
from worker.child import Child

STEPS = 5
CARD = BaseModelCard(id="toy", family="dit", image_size=32, feature_extractor="none", digest="toy")


@pytest.fixture
def toy(toy_model: DiT, tmp_path: Path) -> ToyFolders:
    return toy_folders(toy_model, tmp_path)


def config_of(
    toy: ToyFolders, processes: int, micro_batch: Literal["auto"] | int = "auto", **hyperparameters: object
) -> TransferConfig:
    given = {
        "max_steps": 1000,
        "batch_size": 4,
        "log_every_steps": 1,
        "checkpoint_every_steps": 1000,
        **hyperparameters,
    }
    config = toy.config(evaluation={"every_steps": None}, **given)
    return config.model_copy(update={"resources": ResourcesConfig(gpus=processes, micro_batch=micro_batch)})


def weights(toy: ToyFolders, out: str) -> dict[str, torch.Tensor]:
    folder = toy.root / out / "checkpoints" / f"step-{STEPS:08d}"
    return {f"{name}/{key}": t for name in (MODEL, RESUME) for key, t in load_file(folder / name).items()}


def digest(toy: ToyFolders, out: str, step: int = STEPS) -> str:
    folder = toy.root / out / "checkpoints" / f"step-{step:08d}"
    return hashlib.sha256(b"".join((folder / name).read_bytes() for name in (MODEL, RESUME))).hexdigest()


def measured(hooks: RecordingHooks) -> list[dict[str, float]]:
    told = [event for event in hooks.events if isinstance(event, MetricsEvent) and "train_loss" in event.values]
    assert [event.step for event in told] == list(range(1, STEPS + 1))
    return [event.values for event in told]


@pytest.mark.parametrize(
    "hyperparameters",
    [{}, {"recipe": "distillation", "adapter": {"type": "lora", "rank": 2}, "max_grad_norm": 0.3}],
    ids=["full", "distillation with lora"],
)
def test_two_processes_do_in_parts_what_one_does_at_once(toy: ToyFolders, hyperparameters: dict[str, object]) -> None:
    told = {}
    for processes in (1, 2):
        hooks = RecordingHooks(stop_at=STEPS)
        config = config_of(toy, processes, "auto" if processes == 1 else 1, **hyperparameters)
        stopped_after(toy, config, f"by {processes}", hooks)
        told[processes] = measured(hooks)
    for one, two in zip(told[1], told[2], strict=True):
        assert two == pytest.approx(one, rel=1e-5)
    one, two = weights(toy, "by 1"), weights(toy, "by 2")
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize("adapter", [{"type": "full"}, *ADAPTERS.values()], ids=["full", *ADAPTERS])
def test_every_step_uses_all_that_is_trained(
    toy_model: DiT, training_data: LabelledData, adapter: dict[str, object]
) -> None:
    """Or the processes would wait for a gradient that never comes."""
    config = toy_config(adapter=adapter)
    state = new_state(toy_model, config.method.hyperparameters)
    train_step(state, config, training_data)
    assert [name for name, parameter in state.trainable().items() if parameter.grad is None] == []


@pytest.mark.long
def test_stop_and_resume_gives_the_same_bytes(toy: ToyFolders) -> None:
    config = config_of(toy, 2)
    stopped_after(toy, config, "straight", RecordingHooks(stop_at=STEPS))
    stopped_after(toy, config, "cut", RecordingHooks(stop_at=2))
    hooks = RecordingHooks(stop_at=STEPS)
    stopped_after(toy, config, "cut", hooks)
    [resumed] = [event for event in hooks.events if isinstance(event, ResumeEvent)]
    assert (resumed.step, resumed.changed) == (2, []), "exactly"
    assert digest(toy, "cut") == digest(toy, "straight")


def test_another_number_of_processes_goes_on_but_not_exactly(toy: ToyFolders) -> None:
    two, one = (as_an_older_version_stored_it(config_of(toy, processes)) for processes in (2, 1))
    assert config_digest(one) == config_digest(two)
    stopped_after(toy, two, "out", RecordingHooks(stop_at=2))
    hooks = RecordingHooks(stop_at=3)
    stopped_after(toy, one, "out", hooks)
    [resumed] = [event for event in hooks.events if isinstance(event, ResumeEvent)]
    assert resumed.changed == ["processes"]


def as_an_older_version_stored_it(config: TransferConfig) -> TransferConfig:
    """With settings that are refused today: no process judges them again."""
    stored = config.model_dump(mode="json")
    stored["method"]["diff_tuning"]["hyperparameters"] |= {"psi": "snr", "tau": 2.0}
    read = read_stored(TransferConfig, stored)
    with pytest.raises(TaskError, match="tau"):
        resolve(read, CARD, num_threads=1)
    return read


def test_a_batch_that_cannot_be_split_is_refused_by_its_field() -> None:
    given = toy_config()
    with pytest.raises(TaskError, match="8 images cannot be split evenly over 3 GPUs") as caught:
        resolve(given.model_copy(update={"resources": ResourcesConfig(gpus=3)}), CARD, num_threads=1)
    assert caught.value.code == "batch_not_divisible"
    assert caught.value.param == "method.diff_tuning.hyperparameters.batch_size"
    fits = given.model_copy(update={"resources": ResourcesConfig(gpus=4)})
    assert resolve(fits, CARD, num_threads=1).resources.gpus == 4


def test_every_slot_is_of_one_process(toy_model: DiT) -> None:
    slots = [list(range(12))[Replica(toy_model, rank, 3).slots(12)] for rank in range(3)]
    assert slots == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


@pytest.mark.long
def test_the_death_of_one_ends_all_and_the_next_attempt_goes_on(toy: ToyFolders) -> None:
    """As the supervisor starts it: the outcome says which process died, nothing is left, and the bytes are the same."""
    config = config_of(toy, 2, checkpoint_every_steps=50)
    child = started(toy, config, "out")
    try:
        wait(lambda: list((toy.root / "out" / "checkpoints").glob("step-*")))
        os.kill(follower_of(child.pid), signal.SIGKILL)
        wait(child.exited)
    finally:
        status = child.end()
    assert child.outcome is not None
    assert (child.outcome.code, child.outcome.message) == ("killed", "The trainer's process 1 was killed by SIGKILL.")
    assert status == 1
    newest = newest_whole(toy.root / "out" / "checkpoints")
    assert newest is not None
    reached = newest[1].step
    hooks = RecordingHooks(stop_at=reached + STEPS)
    stopped_after(toy, config, "out", hooks)
    [resumed] = [event for event in hooks.events if isinstance(event, ResumeEvent)]
    assert (resumed.step, resumed.changed) == (reached, [])
    stopped_after(toy, config, "straight", RecordingHooks(stop_at=reached + STEPS))
    assert digest(toy, "out", reached + STEPS) == digest(toy, "straight", reached + STEPS)


def test_what_fails_in_all_of_them_is_named_by_the_first(toy: ToyFolders) -> None:
    config = config_of(toy, 2, learning_rate=1.0)
    with pytest.raises(TaskError, match="not finite") as caught:
        toy.train(config, "out", RecordingHooks(stop_at=200))
    assert caught.value.code == "diverged"


def stopped_after(toy: ToyFolders, config: TransferConfig, out: str, hooks: RecordingHooks) -> None:
    """Train until `hooks` stop it: what follows the last step takes longer than all of them."""
    outcome = toy.train(config, out, hooks)
    assert (outcome.code, outcome.step) == ("stopped", hooks.stop_at)


def started(toy: ToyFolders, config: TransferConfig, out: str) -> Child:
    (toy.root / out).mkdir(exist_ok=True)
    file = toy.root / f"{out}.json"
    file.write_text(config.model_dump_json(), encoding="utf-8")
    command = [sys.executable, "-m", "difftune_core", "train", str(file), "--data", str(toy.data)]
    command += ["--models", str(toy.models), "--cache", str(toy.root / "cache"), "--out", str(toy.root / out)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    return Child(command, environment=environment, folder=toy.root, log=toy.root / "log", keep_fds=[])


def follower_of(pid: int) -> int:
    """The other process of a trainer."""
    listed = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    [other] = [int(found) for line in listed for found in line]
    return other


def wait(what: Callable[[], object], timeout_s: float = 600.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)
