from __future__ import annotations

import hashlib
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from difftune_core.checkpoint.load import resume
from difftune_core.checkpoint.manifest import ADAPTER, MODEL, RESUME, checkpoint_name, newest_whole
from difftune_core.checkpoint.state import TrainState, new_state
from difftune_core.config.reports.evaluation import Evaluation
from difftune_core.config.transfer import TransferConfig
from difftune_core.families.batch import make_batch
from difftune_core.families.labelled import LabelledData
from difftune_core.hooks import CheckpointEvent, LogEvent, MetricsEvent, TaskError
from difftune_core.networks.dit import DiT
from difftune_core.train.loop import Loop
from difftune_core.train.start import take_up
from difftune_core.train.step import train_step
from tests.core.conftest import RecordingHooks, toy_config, written

ADAPTERS: dict[str, dict[str, object]] = {
    "lora": {"type": "lora", "rank": 2},
    "dora": {"type": "lora", "rank": 2, "use_dora": True},
    "difffit": {"type": "difffit", "last_block": 1},
    "bitfit": {"type": "bitfit"},
    "adaptformer": {"type": "adaptformer", "bottleneck": 4},
    "vpt": {"type": "vpt", "num_tokens": 3},
}
IDENTITY = {"base_model": "toy", "config": "c", "training_data": "d"}


def loop_of(
    config: TransferConfig, model: DiT, data: LabelledData, out: Path, hooks: RecordingHooks
) -> tuple[Loop, list[str] | None]:
    torch.set_num_threads(1)
    state = new_state(deepcopy(model), config.method.hyperparameters)
    resumed = resume(state, out, identity=IDENTITY, envelope={"torch": "x"}).changed
    loop = Loop(
        config,
        state,
        advance=lambda: train_step(state, config, data),
        hooks=hooks,
        checkpoints=out,
        identity=IDENTITY,
        envelope={"torch": "x"},
        evaluate=lambda: evaluated(state),
        write_config=written,
    )
    return loop, resumed


def evaluated(state: TrainState) -> None:
    state.history.evaluations.append(Evaluation(step=state.step))


def digest(folder: Path) -> str:
    files = [folder / name for name in (MODEL, RESUME, ADAPTER)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files if file.exists())).hexdigest()


@pytest.mark.parametrize("method", ["supervised", "diff_tuning"])
@pytest.mark.parametrize("cut", [1, 7, 19])
def test_stop_and_resume_gives_the_same_bytes(
    method: str, cut: int, toy_model: DiT, training_data: LabelledData, tmp_path: Path
) -> None:
    stop_and_resume(toy_config(method), cut, toy_model, training_data, tmp_path)


@pytest.mark.parametrize("method", ["supervised", "diff_tuning"])
@pytest.mark.parametrize("kind", sorted(ADAPTERS))
def test_every_adapter_resumes_to_the_byte(
    kind: str, method: str, toy_model: DiT, training_data: LabelledData, tmp_path: Path
) -> None:
    stop_and_resume(toy_config(method, adapter=ADAPTERS[kind]), 7, toy_model, training_data, tmp_path)


def stop_and_resume(config: TransferConfig, cut: int, toy_model: DiT, data: LabelledData, tmp_path: Path) -> None:
    whole, _ = loop_of(config, toy_model, data, tmp_path / "a", RecordingHooks())
    assert whole.run() is None

    first, resumed = loop_of(config, toy_model, data, tmp_path / "b", RecordingHooks(stop_at=cut))
    assert resumed is None
    assert first.run() == "stop"
    hooks = RecordingHooks()
    second, resumed = loop_of(config, toy_model, data, tmp_path / "b", hooks)
    assert resumed == []
    assert second.state.step == cut
    assert second.run() is None
    steps = [event.step for event in hooks.events if isinstance(event, MetricsEvent)]
    last = config.method.hyperparameters.max_steps
    assert steps == list(range(cut + 1, last + 1)), "it went on, it did not start again"
    assert digest(tmp_path / "a" / checkpoint_name(last)) == digest(tmp_path / "b" / checkpoint_name(last))


@pytest.mark.parametrize("threads", [1, 2])
def test_two_runs_give_the_same_bytes(
    threads: int, toy_model: DiT, training_data: LabelledData, tmp_path: Path
) -> None:
    """For one count of threads; another may round in other ways, so a resume tells of it."""
    digests = set()
    for name in ("a", "b"):
        loop, _ = loop_of(toy_config(max_steps=3), toy_model, training_data, tmp_path / name, RecordingHooks())
        torch.set_num_threads(threads)
        assert loop.run() is None
        digests.add(digest(tmp_path / name / "step-00000003"))
    assert len(digests) == 1


def test_what_was_measured_before_a_resume_can_be_told_again(
    toy_model: DiT, training_data: LabelledData, tmp_path: Path
) -> None:
    config, hooks = toy_config(), RecordingHooks(stop_at=7)
    first, _ = loop_of(config, toy_model, training_data, tmp_path, hooks)
    first.run()
    second, _ = loop_of(config, toy_model, training_data, tmp_path, RecordingHooks())
    told = {event.step: event.values for event in hooks.events if isinstance(event, MetricsEvent)}
    assert second.state.history.newest(100) == told
    assert list(second.state.history.newest(2)) == [6, 7]


def test_a_resume_without_the_moments_would_be_noticed(
    toy_model: DiT, training_data: LabelledData, tmp_path: Path
) -> None:
    """Negative control for the test above."""
    config = toy_config()
    whole, _ = loop_of(config, toy_model, training_data, tmp_path / "a", RecordingHooks())
    whole.run()
    first, _ = loop_of(config, toy_model, training_data, tmp_path / "b", RecordingHooks(stop_at=10))
    first.run()
    second, _ = loop_of(config, toy_model, training_data, tmp_path / "b", RecordingHooks())
    second.state.optimizer.state.clear()
    second.run()
    assert digest(tmp_path / "a" / "step-00000020") != digest(tmp_path / "b" / "step-00000020")


def test_a_torn_checkpoint_is_passed_over(toy_model: DiT, training_data: LabelledData, tmp_path: Path) -> None:
    config = toy_config(checkpoint_every_steps=5)
    loop, _ = loop_of(config, toy_model, training_data, tmp_path, RecordingHooks())
    loop.run()
    kept = sorted(path.name for path in tmp_path.glob("step-*"))
    assert kept == ["step-00000015", "step-00000020"]
    newest = tmp_path / kept[-1] / RESUME
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    newest.write_bytes(data)
    found = newest_whole(tmp_path)
    assert found is not None
    assert found[0].name == "step-00000015"
    state = new_state(deepcopy(toy_model), config.method.hyperparameters)
    resumed = resume(state, tmp_path, identity=IDENTITY, envelope={"torch": "x"})
    assert (state.step, resumed.changed, resumed.damaged) == (15, [], ["step-00000020"])


def test_a_checkpoint_of_another_run_is_refused(toy_model: DiT, training_data: LabelledData, tmp_path: Path) -> None:
    config = toy_config()
    loop, _ = loop_of(config, toy_model, training_data, tmp_path, RecordingHooks(stop_at=3))
    loop.run()
    state = new_state(toy_model, config.method.hyperparameters)
    with pytest.raises(TaskError, match="training_data"):
        resume(state, tmp_path, identity={**IDENTITY, "training_data": "other"}, envelope={})


def test_a_changed_envelope_is_told(toy_model: DiT, training_data: LabelledData, tmp_path: Path) -> None:
    config = toy_config()
    loop, _ = loop_of(config, toy_model, training_data, tmp_path, RecordingHooks(stop_at=3))
    loop.run()
    state = new_state(toy_model, config.method.hyperparameters)
    assert resume(state, tmp_path, identity=IDENTITY, envelope={"torch": "y"}).changed == ["torch"]


def test_tau_zero_is_supervised_to_the_bit(toy_model: DiT, training_data: LabelledData) -> None:
    losses = []
    for config in (toy_config("supervised"), toy_config("diff_tuning", tau=0.0)):
        state = new_state(deepcopy(toy_model), config.method.hyperparameters)
        losses.append(torch.stack([train_step(state, config, training_data).losses for _ in range(10)]))
    assert torch.equal(*losses)


def test_a_retention_slot_has_the_null_label_and_a_retention_image(training_data: LabelledData) -> None:
    config = toy_config(batch_size=256, label_dropout=0.0)
    batch = make_batch(config, training_data, step=4)
    assert (batch.condition[~batch.is_target] == training_data.null_label).all()
    assert (batch.condition[batch.is_target] != training_data.null_label).all()
    plain = make_batch(toy_config("supervised", batch_size=256, label_dropout=0.0), training_data, step=4)
    same = (batch.noised.x0 == plain.noised.x0).flatten(1).all(1)
    assert torch.equal(same, batch.is_target), "paired: target slots hold the same image in both methods"
    assert torch.equal(batch.noised.noise, plain.noised.noise)


def test_divergence_stops_before_the_update(toy_model: DiT, training_data: LabelledData) -> None:
    config = toy_config()
    state = new_state(toy_model, config.method.hyperparameters)
    with torch.no_grad():
        toy_model.final_layer.linear.bias.fill_(torch.inf)
    before = toy_model.blocks[0].mlp.fc1.weight.detach().clone()
    with pytest.raises(TaskError, match="step 1") as caught:
        train_step(state, config, training_data)
    assert caught.value.code == "diverged"
    assert torch.equal(toy_model.blocks[0].mlp.fc1.weight, before)


def test_checkpoints_come_when_due_and_the_last_says_so(
    toy_model: DiT, training_data: LabelledData, tmp_path: Path
) -> None:
    hooks = RecordingHooks()
    loop, _ = loop_of(toy_config(checkpoint_every_steps=8), toy_model, training_data, tmp_path, hooks)
    loop.run()
    told = [e for e in hooks.events if isinstance(e, CheckpointEvent)]
    assert [(e.step, e.is_last) for e in told] == [(8, False), (16, False), (20, True)]
    seen = {e.step: e.values["target_images"] for e in hooks.events if isinstance(e, MetricsEvent)}
    assert [e.target_images for e in told] == [seen[e.step] for e in told]


def test_who_goes_on_from_an_older_checkpoint_says_which_was_damaged(
    toy_model: DiT, training_data: LabelledData, tmp_path: Path
) -> None:
    config = toy_config(checkpoint_every_steps=5)
    whole, _ = loop_of(config, toy_model, training_data, tmp_path, RecordingHooks())
    whole.run()
    (tmp_path / "step-00000020" / MODEL).write_bytes(b"torn")
    state = new_state(deepcopy(toy_model), config.method.hyperparameters)
    hooks = RecordingHooks()
    loop = replace(whole, state=state, hooks=hooks)
    take_up(loop)
    [warned] = [event for event in hooks.events if isinstance(event, LogEvent)]
    assert (warned.level, warned.message) == ("warn", "damaged and passed over: step-00000020")
    assert (state.step, state.target_images) == (15, sum_of_target_images(whole, 15))


def sum_of_target_images(loop: Loop, step: int) -> float:
    return dict(loop.state.history.curves["target_images"])[step]
