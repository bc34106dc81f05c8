from __future__ import annotations

import numpy as np
import pytest

from cli.demo.scenes import CONDITIONS, Scenes
from cli.demo.scenes.controls import SEGMENT_COLOURS
from difftune_core.families.controlnet.controls import blurred, compare_controls, ssim
from difftune_core.hooks import TaskError


def maps(condition: str, count: int = 3) -> np.ndarray:
    return np.stack([Scenes("a").picture(index).controls[condition] for index in range(count)])


def slow_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Window by window, from the paper's text."""
    at = np.arange(11) - 5
    window = np.exp(-(at[:, None] ** 2 + at[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    scores = []
    for i in range(a.shape[0] - 10):
        for j in range(a.shape[1] - 10):
            x, y = a[i : i + 11, j : j + 11], b[i : i + 11, j : j + 11]
            mx, my = (window * x).sum(), (window * y).sum()
            vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
            cov = (window * (x - mx) * (y - my)).sum()
            c1, c2 = 2.55**2, 7.65**2
            scores.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    return float(np.mean(scores))


def test_ssim_is_the_paper_s() -> None:
    rng = np.random.default_rng(1)
    a = rng.uniform(0, 255, (20, 24))
    b = np.clip(a + rng.normal(0, 40, a.shape), 0, 255)
    assert ssim(a, b) == pytest.approx(slow_ssim(a, b), rel=1e-9)
    assert ssim(a, b) == pytest.approx(ssim(b, a))
    assert ssim(a, a) == pytest.approx(1)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_control_agrees_with_itself_and_less_with_another(condition: str) -> None:
    given = maps(condition)
    itself, other = compare_controls(condition, given, given), compare_controls(condition, given, given[::-1].copy())
    best = 1 if itself.higher_is_better else 0
    assert itself.values[itself.metric] == pytest.approx(best)
    assert itself.per_image == pytest.approx([best] * 3)
    assert other.per_image[1] == pytest.approx(best)  # the middle one is itself
    for values in (other.per_image[[0, 2]], [other.values[other.metric]]):
        assert all((value < best) if itself.higher_is_better else (value > best) for value in values)
    assert other.values[other.metric] == pytest.approx(other.per_image.mean())


def test_lines_that_are_off_by_a_pixel_agree_in_part() -> None:
    given = maps("edge")
    near = compare_controls("edge", given, np.roll(given, 1, axis=2)).values["ssim"]
    far = compare_controls("edge", given, np.roll(given, 9, axis=2)).values["ssim"]
    assert far + 0.1 < near < 1
    pairs = zip(given[..., 0].astype(float), np.roll(given, 1, axis=2)[..., 0].astype(float), strict=True)
    sharp = [ssim(a, b) for a, b in pairs]
    assert near > np.mean(sharp) + 0.1


def test_blur_follows_the_size() -> None:
    dot = np.zeros((129, 129), np.uint8)
    dot[64, 64] = 255
    spread = blurred(dot)
    across = spread.sum(axis=0)
    variance = (across * (np.arange(129) - 64) ** 2).sum() / across.sum()
    assert np.sqrt(variance) == pytest.approx(129 / 64, rel=0.02)


def test_what_is_at_a_border_goes_on_behind_it() -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, 0] = 255
    inside = np.zeros((64, 192), np.uint8)
    inside[:, : 64 + 1] = 255  # the same with what is behind its left border
    assert np.allclose(blurred(stripes), blurred(inside)[:, 64:128])


def test_squared_errors_are_of_levels_in_the_unit_range() -> None:
    black, white = np.zeros((2, 16, 16, 3), np.uint8), np.full((2, 16, 16, 3), 255, np.uint8)
    assert compare_controls("depth", black, white).values == {"mse": 1.0}


def test_segmentation_by_hand() -> None:
    palette = SEGMENT_COLOURS
    given, drawn = np.zeros((1, 4, 4), int), np.zeros((1, 4, 4), int)
    given[0, :2], drawn[0, :1] = 1, 1  # class 1 fills 8 pixels, 4 of them found
    found = compare_controls("segmentation", palette[given], palette[drawn])
    assert found.values == {"pixel_accuracy": 0.75, "miou": pytest.approx((4 / 8 + 8 / 12) / 2)}
    noisy = np.clip(palette[drawn].astype(int) + 5, 0, 255).astype(np.uint8)
    assert compare_controls("segmentation", palette[given], noisy, palette).values == found.values
    assert compare_controls("segmentation", palette[given], noisy).values["pixel_accuracy"] == 0


def test_what_cannot_be_compared_is_named() -> None:
    given = maps("edge", 1)
    with pytest.raises(TaskError) as caught:
        compare_controls("scribble", given, given)
    assert caught.value.code == "condition_unknown"
    with pytest.raises(TaskError) as caught:
        compare_controls("edge", given[:0], given[:0])
    assert caught.value.code == "too_few_images"
    with pytest.raises(TaskError) as caught:
        compare_controls("edge", given[:, :8], given[:, :8])
    assert caught.value.code == "image_too_small"
