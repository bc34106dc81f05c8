"""Length and learning rate of a run: what goes together, and what epochs become."""

from __future__ import annotations

from typing import Any

import pytest

from difftune_core.config.card import BaseModelCard, Defaults
from difftune_core.config.course import as_stored, closed, is_open, steps_of
from difftune_core.config.resolution import resolve
from difftune_core.config.stored import read_stored
from difftune_core.config.transfer import TransferConfig, config_digest
from difftune_core.hooks import TaskError

TRAINING = {"max_steps": 50, "batch_size": 8, "learning_rate": 3e-4}
CARD = BaseModelCard(
    id="toy", family="dit", image_size=32, feature_extractor="none", digest="d", defaults={"training": TRAINING}
)


def resolved(num_images: int | None = None, **hyperparameters: object) -> TransferConfig:
    method = {"type": "diff_tuning", "diff_tuning": {"hyperparameters": hyperparameters}}
    config = TransferConfig.model_validate({"model": "toy", "method": method})
    return resolve(config, CARD, num_threads=1, num_images=num_images)


@pytest.mark.parametrize(
    ("epochs", "images", "batch", "steps"),
    [(1.0, 80, 8, 10), (1.0, 81, 8, 11), (2.5, 80, 8, 25), (0.1, 30, 1, 3), (1.0, 2, 8, 1)],
)
def test_epochs_are_steps_of_whole_batches(epochs: float, images: int, batch: int, steps: int) -> None:
    assert steps_of(epochs, images, batch) == steps


def test_what_follows_from_the_length_waits_for_it() -> None:
    waiting = resolved(epochs=2)
    assert is_open(waiting)
    assert "max_steps" not in as_stored(waiting)["method"]["diff_tuning"]["hyperparameters"]
    found = closed(read_stored(TransferConfig, as_stored(waiting)), 100)
    assert found == resolved(100, epochs=2)
    in_steps, given = resolved(max_steps=25).method.hyperparameters, found.method.hyperparameters
    assert given.model_copy(update={"epochs": None}) == in_steps


def test_a_closed_config_may_be_submitted_again_for_as_many_images() -> None:
    once = resolved(100, epochs=2)
    assert resolve(once, CARD, num_threads=1, num_images=100) == once
    for other in (None, 200):
        with pytest.raises(TaskError, match="state epochs or max_steps, not both") as refused:
            resolve(once, CARD, num_threads=1, num_images=other)
        assert refused.value.param == "method.diff_tuning.hyperparameters.epochs"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"max_steps": 10, "epochs": 1}, "epochs"),
        ({"min_learning_rate": 1e-6}, "min_learning_rate"),
        ({"min_learning_rate": 1e-3, "lr_schedule": "cosine"}, "min_learning_rate"),
        ({"warmup_steps": 50, "lr_schedule": "linear"}, "warmup_steps"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(given: dict[str, Any], field: str) -> None:
    with pytest.raises(TaskError) as refused:
        resolved(**given)
    assert (refused.value.code, refused.value.param) == (
        "invalid_option",
        f"method.diff_tuning.hyperparameters.{field}",
    )


@pytest.mark.parametrize(("images", "steps", "warmup"), [(112, 14, 13), (100, 13, 1), (8, 1, 0)])
def test_a_warm_up_that_leaves_nothing_of_the_epochs_becomes_a_tenth(images: int, steps: int, warmup: int) -> None:
    waiting = resolved(epochs=1, lr_schedule="cosine", warmup_steps=13)
    given = closed(waiting, images).method.hyperparameters
    assert (given.max_steps, given.warmup_steps) == (steps, warmup)


def test_so_does_a_cards_own_in_a_short_run() -> None:
    card = CARD.model_copy(update={"defaults": Defaults(training={**TRAINING, "warmup_steps": 20})})
    asked = {"lr_schedule": "linear", "max_steps": 12}
    method = {"type": "diff_tuning", "diff_tuning": {"hyperparameters": asked}}
    config = TransferConfig.model_validate({"model": "toy", "method": method})
    assert resolve(config, card, num_threads=1).method.hyperparameters.warmup_steps == 1
    method = {"type": "diff_tuning", "diff_tuning": {"hyperparameters": {"max_steps": 12}}}
    constant = TransferConfig.model_validate({"model": "toy", "method": method})
    assert resolve(constant, card, num_threads=1).method.hyperparameters.warmup_steps == 20, "as it was"


def test_the_defaults_are_in_no_digest() -> None:
    stated = resolved(lr_schedule="constant", min_learning_rate=0.0)
    assert config_digest(stated) == config_digest(resolved())
    assert config_digest(resolved(lr_schedule="cosine")) != config_digest(resolved())


def test_only_epochs_wait_for_a_number_of_images() -> None:
    assert not is_open(TransferConfig(model="tiny-dit")), "neither is stated: the default of steps holds"
