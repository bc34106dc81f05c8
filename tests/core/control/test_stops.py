"""As `tests/core/train/test_stops.py`, of ControlNets."""

from __future__ import annotations

from tests.core.conftest import RecordingHooks
from tests.core.control.toy import ToyRuns
from tests.core.cuts import CuttingHooks, in_references, outcome_of, saved_step, within


def test_a_stop_while_judging_or_exporting_saves_the_step_and_changes_nothing(toy_runs: ToyRuns) -> None:
    own = {"every_steps": 2, "num_images": 3}  # as many as no other test's, whose images would be in the cache
    config = toy_runs.config("supervised", evaluation=own)
    cuts = [
        (within("drawing_base_model_images"), 2),
        (within("evaluating"), 2),
        (within("evaluating", occurrence=2), 4),
        (in_references(4), 4),
        (within("exporting"), 4),
    ]
    for number, (moment, step) in enumerate(cuts):
        outcome = toy_runs.train(config, "cut", CuttingHooks(moment))
        assert (number, outcome.code, outcome.step) == (number, "paused", step)
        assert saved_step(toy_runs.root / "cut") == step
    assert toy_runs.train(config, "cut", RecordingHooks()).code == "succeeded"
    assert toy_runs.train(config, "once", RecordingHooks()).code == "succeeded"
    assert outcome_of(toy_runs.root / "cut") == outcome_of(toy_runs.root / "once")
