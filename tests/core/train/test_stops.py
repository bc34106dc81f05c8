"""A stop while a run judges itself loses no step and changes nothing."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from difftune_core.diffusion.reverse import Sampling
from difftune_core.families.dit.draw import sample_latents
from difftune_core.hooks import PhaseEvent, ProgressEvent
from difftune_core.interruption import Stopped, interruptible
from difftune_core.networks.dit import DiT
from tests.core.conftest import RecordingHooks
from tests.core.cuts import CuttingHooks, in_references, outcome_of, saved_step, within
from tests.core.runs import ToyFolders, toy_folders

JUDGED = {"every_steps": 2, "best_metric": "l2_from_base", "deliver": "best"}


@pytest.fixture
def toy(toy_model: DiT, tmp_path: Path) -> ToyFolders:
    return toy_folders(toy_model, tmp_path)


def test_a_stop_while_judging_or_exporting_saves_the_step_and_changes_nothing(toy: ToyFolders) -> None:
    config = toy.config(evaluation=JUDGED, log_every_steps=1, checkpoint_every_steps=None)
    cuts = [
        (within("drawing_base_model_images"), 2),
        (within("evaluating"), 2),
        (within("evaluating", occurrence=2), 4),  # the step's own evaluation is the first
        (in_references(4), 4),
        (within("exporting"), 4),
    ]
    for number, (moment, step) in enumerate(cuts):
        hooks = CuttingHooks(moment)
        outcome = toy.train(config, "cut", hooks)
        assert (number, outcome.code, outcome.step) == (number, "paused", step)
        assert saved_step(toy.root / "cut") == step
        resumed = [event.step for event in hooks.events if event.type == "resume"]
        assert resumed == ([cuts[number - 1][1]] if number else [])
    assert toy.train(config, "cut", RecordingHooks()).code == "succeeded"
    assert toy.train(config, "once", RecordingHooks()).code == "succeeded"
    assert outcome_of(toy.root / "cut") == outcome_of(toy.root / "once")


def test_an_evaluation_that_fails_does_not_cost_the_steps_before_it(
    toy: ToyFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("difftune_core.evaluate.judge.quality", fails)
    with pytest.raises(MemoryError):
        toy.train(toy.config(evaluation=JUDGED, checkpoint_every_steps=None), "failed", RecordingHooks())
    assert saved_step(toy.root / "failed") == 2


class Asking(RecordingHooks):
    """Asks for a stop at once."""

    def stop_requested(self) -> str:  # type: ignore[override]  # one of the kinds
        return "stop"


def test_sampling_ends_with_the_denoising_step_in_which_a_stop_is_asked_for(toy_model: DiT) -> None:
    passes: list[int] = []
    toy_model.register_forward_hook(lambda *_: passes.append(1))
    labels = torch.full((4,), toy_model.null_label)
    with interruptible(Asking()), pytest.raises(Stopped):
        sample_latents(toy_model, labels, Sampling(num_inference_steps=10))
    assert len(passes) == 1
    sample_latents(toy_model, labels, Sampling(num_inference_steps=10))
    assert len(passes) == 11, "outside of a run nobody asks"


def test_every_denoising_step_is_a_sign_of_life(toy: ToyFolders) -> None:
    hooks = RecordingHooks()
    steps = {"num_images": 4, "num_inference_steps": 5}
    toy.train(toy.config(evaluation={**steps, "every_steps": None}, retention_set={**steps}), "told", hooks)
    told = [event for event in hooks.events if isinstance(event, ProgressEvent) and event.phase != "training"]
    entered = [event.phase for event in hooks.events if isinstance(event, PhaseEvent)]
    drawn = ["building_retention_set", "drawing_base_model_images", "evaluating"]
    assert [phase for phase in entered if phase in drawn][:3] == drawn
    assert "exporting" in entered
    for phase, least in zip(drawn, (5, 2, 5), strict=True):  # the judge's images are drawn with the card's steps
        assert sum(event.phase == phase for event in told) >= least, phase
    assert all(first != second for first, second in pairwise(told))
    assert all(event.done <= event.total for event in told)
