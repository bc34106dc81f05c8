from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difftune_core.evaluate import neighbours
from difftune_core.evaluate.compare import compare
from difftune_core.evaluate.neighbours import Share, density_coverage, manifold, precision_recall
from difftune_core.evaluate.quality import quality
from difftune_core.hooks import TaskError


def cloud(seed: int, n: int, d: int = 4, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)) * scale + shift


def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.linalg.norm(x[:, None] - y[None], axis=-1)


def radii(x: np.ndarray, k: int) -> np.ndarray:
    return np.sort(distances(x, x), axis=1)[:, k]  # the first is the image itself


def by_definition(real: np.ndarray, fake: np.ndarray, k: int) -> tuple[float, float, float, float]:
    """Precision, recall, density, coverage, formula by formula."""
    of_real, of_fake = radii(real, k), radii(fake, k)
    in_real, in_fake = distances(fake, real) <= of_real, distances(real, fake) <= of_fake
    return in_real.any(1).mean(), in_fake.any(1).mean(), in_real.sum(1).mean() / k, in_real.any(0).mean()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(100, 170), st.integers(100, 170), st.integers(1, 12), st.integers(1, 6))
def test_equal_their_definitions(seed: int, n: int, m: int, d: int, k: int) -> None:
    real, fake = cloud(seed, n, d), cloud(seed + 1, m, d, 0.4, 0.8)
    precision, recall = precision_recall(real + 50, fake + 50, k=k)
    density, coverage = density_coverage(real + 50, fake + 50, k=k)
    found = (precision.value, recall.value, density.value, coverage.value)
    assert found == pytest.approx(by_definition(real, fake, k), abs=1e-12)
    assert (precision.count, recall.count, coverage.count) == (m, n, n)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = cloud(1, 230), cloud(2, 310, shift=0.5)
    whole = (*precision_recall(real, fake), *density_coverage(real, fake))
    monkeypatch.setattr(neighbours, "_CHUNK_ENTRIES", 1000)
    pieces = (*precision_recall(real, fake), *density_coverage(real, fake))
    assert [(p.value, p.se) for p in pieces] == [pytest.approx((w.value, w.se), abs=1e-12) for w in whole]


def test_equal_sets_have_all_of_each_other_also_where_images_repeat() -> None:
    x = np.repeat(cloud(1, 60, 40) + 1e3, 5, axis=0)  # each image five times: radii of 0
    precision, recall = precision_recall(x, x)
    assert (precision.value, recall.value) == (1, 1)
    assert density_coverage(x, x)[1].value == 1


def test_sets_far_apart_have_nothing_of_each_other() -> None:
    real, fake = cloud(1, 150), cloud(2, 120, shift=100)
    shares = [*precision_recall(real, fake), *density_coverage(real, fake)]
    assert [share.value for share in shares] == [0, 0, 0, 0]
    low, high = shares[0].interval
    assert low == 0
    assert high == pytest.approx(1.959964**2 / (120 + 1.959964**2))  # Wilson's, where a jackknife sees no spread


def test_one_of_two_modes_is_precise_and_has_half_the_recall() -> None:
    real = np.concatenate([cloud(1, 300), cloud(2, 300, shift=100)])
    fake = cloud(3, 400)
    precision, recall = precision_recall(real, fake)
    _, coverage = density_coverage(real, fake)
    assert precision.value > 0.9
    assert recall.value == pytest.approx(0.5, abs=0.05)
    assert coverage.value == pytest.approx(0.5, abs=0.05)
    backwards = precision_recall(fake, real)
    assert (backwards[0].value, backwards[1].value) == (recall.value, precision.value)


def test_radii_without_a_group_are_those_of_the_rest() -> None:
    x = cloud(5, 143, 3)
    made = manifold(x, 4)
    for g in range(20):
        rest = made.group_of != g
        wanted = radii(made.features[rest], 4) ** 2
        assert made.radii_without[g][rest] == pytest.approx(wanted, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("n", "m", "d", "shift"), [(150, 200, 4, 0.5), (200, 150, 8, 0.3)])
def test_errors_are_on_the_safe_side_of_the_spread_over_fresh_samples(n: int, m: int, d: int, shift: float) -> None:
    draws = []
    for seed in range(60):
        real, fake = cloud(seed, n, d), cloud(seed + 9999, m, d, shift, 0.8)
        draws.append([*precision_recall(real, fake), *density_coverage(real, fake)])
    spread = np.std([[share.value for share in draw] for draw in draws], axis=0, ddof=1)
    error = np.sqrt(np.mean([[share.se**2 for share in draw] for draw in draws], axis=0))
    assert (error > 0.9 * spread).all()
    assert (error < 2.2 * spread).all()


def test_intervals_of_shares_stay_between_0_and_1() -> None:
    assert Share(0.99, 0.02, "", 100).interval[1] == 1
    low, high = Share(0.5, 0.001, "", 100).interval
    assert (low, high) == (pytest.approx(0.4038, abs=1e-4), pytest.approx(0.5962, abs=1e-4))
    assert Share(0.5, 0.2, "", 100).interval == (pytest.approx(0.108, abs=1e-3), pytest.approx(0.892, abs=1e-3))


@pytest.mark.parametrize("of", [precision_recall, density_coverage])
def test_bad_input_is_named(of: object) -> None:
    assert callable(of)
    with pytest.raises(TaskError, match=r"at least 100 images on each side: .*too high"):
        of(cloud(0, 99), cloud(1, 500))
    broken = cloud(0, 120)
    broken[7, 2] = np.nan
    with pytest.raises(TaskError, match="NaN or infinity") as caught:
        of(broken, cloud(1, 120))
    assert caught.value.code == "not_finite"


def test_a_comparison_has_what_was_asked_for() -> None:
    real, fake = cloud(0, 150), cloud(1, 120, shift=0.2)
    default = compare(real, fake)
    assert {"fid", "kid"} <= default.keys()
    assert not any("precision" in name or "infinity" in name for name in default)
    result = compare(real, fake, metrics=("precision_recall", "density_coverage"))
    assert json.loads(json.dumps(result)) == result
    assert "fid" not in result
    for name in ("precision", "recall", "density", "coverage"):
        low, high = result[f"{name}_interval"]
        assert low <= result[name] <= high
        assert result[f"{name}_se_method"].startswith("jackknife over 20 groups")
    few = compare(real[:50], fake, metrics=("fid", "precision_recall"))
    assert (few["precision"], few["recall_interval"]) == (None, None)
    assert "shares come out too high" in few["warnings"][0]


def test_features_that_tell_no_image_from_another_give_no_figures() -> None:
    """All distances would be those of a perfect model."""
    dead = np.full((150, 4), 3.0, np.float32)
    dead[100:] *= 1 + 1e-7  # as another batch size rounds it
    with pytest.raises(TaskError) as caught:
        compare(dead, dead[:120], metrics=("precision_recall",))
    assert caught.value.code == "no_spread"
    result = quality({"a": dead, "b": dead}, {"a": dead[:120], "b": dead[:120]}, ("density_coverage",))
    assert (result["fid"], result["kid"], result["fd_b"]) == (None, None, None)
    assert [warning for warning in result["warnings"] if "same features" in warning] == result["warnings"]
    assert compare(cloud(0, 150), dead)["fid"] > 0, "a model that draws one image is judged"
