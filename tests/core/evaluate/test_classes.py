"""Of which classes images are drawn, and that a perfect model is then at no distance."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from difftune_core.config.evaluation import PRESETS, EvaluationConfig
from difftune_core.config.transfer import TransferConfig
from difftune_core.evaluate.classes import equal_labels, labels_like, labels_to_draw, spread_labels, told_of_classes
from difftune_core.evaluate.frechet import frechet_of_features

mixes = st.lists(st.integers(0, 40), min_size=2, max_size=12).filter(lambda counts: sum(counts) >= 2)


def of_counts(counts: list[int]) -> torch.Tensor:
    return torch.tensor([label for label, count in enumerate(counts) for _ in range(count)], dtype=torch.long)


@settings(deadline=None)
@given(mixes, st.integers(1, 300), st.integers(0, 3))
def test_every_class_gets_its_share_to_within_an_image(counts: list[int], num_images: int, seed: int) -> None:
    drawn = labels_like(of_counts(counts), num_images, num_classes=len(counts), seed=seed)
    found = Counter(drawn.tolist())
    assert len(drawn) == num_images
    for label, count in enumerate(counts):
        assert abs(found[label] - Fraction(count * num_images, sum(counts))) < 1
        assert count > 0 or found[label] == 0, "no image of a class that has none to be held against"
    assert torch.equal(drawn, labels_like(of_counts(counts), num_images, num_classes=len(counts), seed=seed))


def test_the_mix_is_even_over_the_whole() -> None:
    """So that a part of the images, as grids and the chain of forgetting show it, has it too."""
    drawn = labels_like(of_counts([270, 30]), 100, num_classes=2, seed=0)
    assert [int((drawn[part : part + 20] == 1).sum()) for part in range(0, 100, 20)] == [2] * 5
    assert labels_like(of_counts([4, 4, 4]), 9, num_classes=3, seed=0).tolist() == equal_labels(9, 3).tolist()


def test_fewer_images_than_classes_are_of_the_most_frequent_and_among_equals_by_seed() -> None:
    assert sorted(labels_like(of_counts([1, 9, 1, 9]), 2, num_classes=4, seed=0).tolist()) == [1, 3]
    chosen = {tuple(sorted(labels_like(of_counts([2] * 50), 5, num_classes=50, seed=s).tolist())) for s in range(4)}
    assert len(chosen) == 4
    assert all(len(set(labels)) == 5 for labels in chosen)
    assert equal_labels(2, 4).tolist() == [0, 1]
    assert labels_to_draw("as_validation", of_counts([]), 3, num_classes=2, seed=0).tolist() == [0, 1, 0]


def test_what_the_figures_leave_out_is_said() -> None:
    held_out = of_counts([9, 0, 1])
    told = told_of_classes(labels_like(held_out, 4, num_classes=3, seed=0), held_out, ["cat", "dog", "owl"])
    assert [line.partition(":")[0] for line in told] == [
        "No held-out image is of 'dog'",
        "num_images is too small to draw 'owl'",
    ]
    assert told_of_classes(equal_labels(6, 3), of_counts([1, 1, 1]), ["cat", "dog", "owl"]) == []


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 12), st.integers(2, 12), st.integers(1, 3))
def test_a_model_that_draws_the_held_out_images_themselves_is_at_no_distance(
    seed: int, few: int, factor: int, times: int
) -> None:
    """Class by class, in turn. By equal shares the same model is far away."""
    rng = np.random.default_rng(seed)
    labels = of_counts([few * factor, few])
    real = rng.normal(size=(len(labels), 3)) + 10 * labels.numpy()[:, None]
    near = drawn_by_turn(real, labels, labels_like(labels, times * len(labels), num_classes=2, seed=0))
    far = drawn_by_turn(real, labels, equal_labels(times * len(labels), 2))
    assert np.allclose(near.mean(0), real.mean(0))
    assert frechet_of_features(real, near) < 1.0
    assert frechet_of_features(real, far) > 2.0


def test_the_mix_of_the_reference_leaves_no_bias_where_equal_shares_do() -> None:
    """Two Gaussian classes, 270 to 30: the excess over images drawn at random from the reference's own distribution."""
    labels, distances = of_counts([270, 30]), {"as_validation": [], "equal": [], "at random": []}
    for seed in range(30):
        rng = np.random.default_rng(seed)
        real = gaussians(rng, labels)
        for rule in ("as_validation", "equal"):
            drawn = labels_to_draw(rule, labels, 300, num_classes=2, seed=seed)
            distances[rule].append(frechet_of_features(real, gaussians(rng, drawn)))
        drawn = torch.from_numpy((rng.random(300) < 0.1).astype(int))
        distances["at random"].append(frechet_of_features(real, gaussians(rng, drawn)))
    mean = {rule: float(np.mean(found)) for rule, found in distances.items()}
    error = {rule: float(np.std(found) / np.sqrt(len(found))) for rule, found in distances.items()}
    assert mean["as_validation"] <= mean["at random"] + 2 * error["at random"]
    assert mean["equal"] > mean["at random"] + 20 * error["at random"]


def test_the_default_is_the_held_out_mix_and_the_presets_are_as_published() -> None:
    assert TransferConfig(model="m").evaluation == EvaluationConfig(class_distribution="as_validation")
    assert {preset["class_distribution"] for preset in PRESETS.values()} == {"equal"}


def gaussians(rng: np.random.Generator, labels: torch.Tensor) -> np.ndarray:
    return rng.normal(size=(len(labels), 8)) + 2.0 * labels.numpy()[:, None]


def drawn_by_turn(real: np.ndarray, labels: torch.Tensor, wanted: torch.Tensor) -> np.ndarray:
    of_class = {label: real[(labels == label).numpy()] for label in set(labels.tolist())}
    seen: Counter[int] = Counter()
    images = []
    for label in wanted.tolist():
        images.append(of_class[label][seen[label] % len(of_class[label])])
        seen[label] += 1
    return np.stack(images)


def test_a_few_samples_show_classes_from_the_whole_table() -> None:
    assert spread_labels(4, 100).tolist() == [0, 25, 50, 75]
    assert spread_labels(3, 5).tolist() == [0, 1, 3]
    assert spread_labels(5, 5).tolist() == [0, 1, 2, 3, 4]
    assert spread_labels(5, 2).tolist() == [0, 1, 0, 1, 0]
