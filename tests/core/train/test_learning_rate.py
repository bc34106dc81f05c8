"""The learning rate by the step: what stands in formulas elsewhere is checked by value here."""

from __future__ import annotations

from pathlib import Path

import pytest

from difftune_core.families.labelled import LabelledData
from difftune_core.hooks import MetricsEvent
from difftune_core.networks.dit import DiT
from difftune_core.train.learning_rate import learning_rate_at
from tests.core.conftest import RecordingHooks, toy_config
from tests.core.train.test_loop import loop_of, stop_and_resume

WARMING = [0.25, 0.5, 0.75, 1.0]


def rates(steps: int = 12, **given: object) -> list[float]:
    config = toy_config(max_steps=steps, learning_rate=1.0, **given)
    return [learning_rate_at(step, config.method.hyperparameters) for step in range(steps)]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, [1.0] * 12),
        ({"warmup_steps": 4}, [*WARMING, *[1.0] * 8]),
        ({"warmup_steps": 4, "lr_schedule": "linear"}, [*WARMING, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        (
            {"warmup_steps": 4, "lr_schedule": "linear", "min_learning_rate": 0.2},
            [*WARMING, 1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3],
        ),
        (
            {"warmup_steps": 4, "lr_schedule": "cosine", "min_learning_rate": 0.2},
            [*WARMING, 1, 0.96955, 0.88284, 0.75307, 0.6, 0.44693, 0.31716, 0.23045],
        ),
    ],
)
def test_the_rate_rises_and_falls_as_the_schedule_says(given: dict[str, object], wanted: list[float]) -> None:
    assert rates(**given) == pytest.approx(wanted, abs=1e-5)


def test_a_resumed_run_falls_on_where_it_was(toy_model: DiT, training_data: LabelledData, tmp_path: Path) -> None:
    schedule = {"lr_schedule": "cosine", "warmup_steps": 3, "min_learning_rate": 1e-4}
    stop_and_resume(toy_config(max_steps=6, **schedule), 4, toy_model, training_data, tmp_path)


def test_the_metrics_tell_the_rate_of_their_step(toy_model: DiT, training_data: LabelledData, tmp_path: Path) -> None:
    config = toy_config(max_steps=4, lr_schedule="linear", log_every_steps=2)
    loop, _ = loop_of(config, toy_model, training_data, tmp_path, hooks := RecordingHooks())
    loop.run()
    told = {e.step: e.values["learning_rate"] for e in hooks.events if isinstance(e, MetricsEvent)}
    assert told == pytest.approx({2: 0.75e-3, 4: 0.25e-3})
    assert loop.state.optimizer.param_groups[0]["lr"] == told[4]
