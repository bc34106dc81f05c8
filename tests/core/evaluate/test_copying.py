"""Copies of training images: shares that are known, and what a judge makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from difftune_core.config.evaluation import EvaluationConfig, check_measured
from difftune_core.config.reports.evaluation import Evaluation
from difftune_core.evaluate import training_images
from difftune_core.evaluate.best import best_evaluation
from difftune_core.evaluate.copying import Seen, copying, repeated, share_of_copies, small_pictures, spread_rows
from difftune_core.evaluate.features import load_extractor
from difftune_core.evaluate.training_images import TrainingImages, look_at
from difftune_core.families.dit.judge import DiTJudge
from difftune_core.train.report import COPYING, copying_event

BUNDLED = Path(training_images.__file__).parents[1] / "weights"
STREAM = np.random.default_rng(0)


def points(count: int, dim: int = 8) -> np.ndarray:
    return STREAM.normal(size=(count, dim)).astype(np.float32)


def seen(features: np.ndarray) -> Seen:
    return Seen(features, features[:, :4])


def test_images_of_the_same_law_as_both_sets_are_nearer_to_either_half_of_the_time() -> None:
    found = share_of_copies(points(100), points(900), points(4000))
    assert found is not None
    assert abs(found.value - 0.5) < 4 * found.se
    assert found.se < 0.05


@pytest.mark.parametrize("copied", [0.0, 0.4, 1.0])
def test_a_share_of_copies_among_others_lies_as_far_from_one_half_to_one(copied: float) -> None:
    training, count = points(50), 4000
    drawn = points(count)
    drawn[: int(copied * count)] = training[np.arange(int(copied * count)) % 50] + 0.01 * points(int(copied * count))
    found = share_of_copies(training, points(800), drawn)
    assert found is not None
    assert found.value == pytest.approx(0.5 + copied / 2, abs=0.05)


def test_equal_distances_count_half_and_the_number_of_training_images_does_not_matter() -> None:
    both = points(60)
    assert share_of_copies(both, both, points(200)).value == pytest.approx(0.5)
    many = share_of_copies(points(2000), points(100), points(4000))
    assert abs(many.value - 0.5) < 4 * many.se


def test_too_few_images_have_no_share() -> None:
    assert share_of_copies(points(19), points(100), points(100)) is None
    assert share_of_copies(points(100), points(100), points(19)) is None
    found = copying(seen(points(19)), seen(points(100)), seen(points(100)))
    assert found["copies"] is None
    assert found["train_fid"] is not None


def test_a_perfect_copier_is_all_copies_and_has_no_distance_to_what_it_copies() -> None:
    training, held_out = seen(points(40)), seen(points(400))
    drawn = repeated(training, 400)
    found = copying(training, held_out, drawn, total=40)
    assert (found["copies"], found["pixel_copies"], found["num_train"]) == (1.0, 1.0, 40)
    assert found["train_fid"] < 0.1
    assert found["warnings"][0].startswith("copying has begun: 100 % of the generated images")
    assert np.unique(drawn.features, axis=0, return_counts=True)[1].tolist() == [10] * 40
    assert "warnings" not in copying(training, held_out, seen(points(400)))


def test_small_pictures_are_means_of_fields() -> None:
    images = STREAM.integers(0, 256, (2, 48, 48, 3), dtype=np.uint8)
    wanted = images.reshape(2, 16, 3, 16, 3, 3).mean(axis=(2, 4)).reshape(2, -1) / 255
    assert np.allclose(small_pictures(images), wanted, atol=1e-6)
    uneven = small_pictures(np.full((1, 21, 21, 3), 51, np.uint8))
    assert np.allclose(uneven, 0.2)
    assert small_pictures(images[:, :8, :8]).shape == (2, 8 * 8 * 3)


def test_of_many_training_images_a_bounded_number_is_looked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert spread_rows(50_000).tolist() == list(range(0, 50_000, 5))
    extractor, looked = load_extractor(BUNDLED / "tiny-features", torch.device("cpu")), []
    monkeypatch.setattr(training_images, "look_at", lambda *given: (looked.append(given), look_at(*given))[1])
    images = STREAM.integers(0, 256, (300, 32, 32, 3), dtype=np.uint8)
    first, again = (TrainingImages(images, tmp_path).seen(extractor) for _ in range(2))
    assert len(looked) == 1, "of a second job none"
    assert np.array_equal(first.features, again.features)
    assert np.array_equal(first.pictures, small_pictures(images))
    other = TrainingImages(images[::-1], tmp_path).seen(extractor)
    assert len(looked) == 2, "other images are looked at anew"
    assert np.array_equal(other.pictures, first.pictures[::-1])


def entry(step: int, copies: float, low: float) -> Evaluation:
    return Evaluation.model_validate({"step": step, "fid": 9.0, "copies": copies, "copies_interval": [low, copies]})


def test_the_warning_comes_once_where_copying_begins() -> None:
    entries = [entry(10, 0.52, 0.46), entry(20, 0.7, 0.64), entry(30, 0.9, 0.86)]
    assert copying_event(entries[:1]) is None
    warning = copying_event(entries[:2])
    assert warning is not None
    assert warning.data == {"code": COPYING, "step": 20, "copies": 0.7}
    assert copying_event(entries) is None
    assert copying_event([Evaluation(step=1)]) is None, "of a family that does not look for copies"


def test_the_best_checkpoint_and_the_end_of_training_may_go_by_copies() -> None:
    config = EvaluationConfig(best_metric="copies", every_steps=10, deliver="best", early_stopping={"patience": 2})
    check_measured(config)
    best = best_evaluation([entry(10, 0.8, 0.7), entry(20, 0.6, 0.5)], "copies")
    assert best is not None
    assert best.step == 20


def test_a_judge_looks_for_copies_in_what_is_tuned_alone_and_changes_no_other_figure(tmp_path: Path) -> None:
    images = STREAM.integers(0, 256, (200, 32, 32, 3), dtype=np.uint8)
    training, held_out, drawn = images[:40], images[40:140], np.concatenate([images[:30], images[140:]])
    judge = object.__new__(DiTJudge)
    parts = {
        "config": EvaluationConfig(num_images=90),
        "extractors": (load_extractor(BUNDLED / "tiny-features", torch.device("cpu")),),
        "real": held_out,
        "training": TrainingImages(training, tmp_path),
    }
    for name, part in parts.items():
        object.__setattr__(judge, name, part)
    plain, tuned = judge.quality_of(drawn), judge.quality_of(drawn, is_tuned=True)
    assert {name: tuned[name] for name in plain if name != "warnings"} == {
        name: value for name, value in plain.items() if name != "warnings"
    }
    assert tuned["copies"] == pytest.approx((30 + 60 / 2) / 90, abs=0.15)
    copier = judge.training_set()["training_set"]
    assert (copier["copies"], copier["num_fake"]) == (1.0, 90)
    assert copier["train_fid"] < tuned["train_fid"]
    object.__setattr__(judge, "training", None)
    assert judge.training_set() == {}
    assert "copies" not in judge.quality_of(drawn, is_tuned=True)
