from __future__ import annotations

import hashlib

import numpy as np
import pytest

from cli.demo.scenes import Scenes
from difftune_core.config.conditions import all_conditions
from difftune_core.data.conditions import annotator
from difftune_core.hooks import TaskError


def square(side: int = 64) -> np.ndarray:
    image = np.full((side, side, 3), 40, np.uint8)
    image[16:48, 16:48] = (220, 180, 60)
    return image


def near(lines: np.ndarray) -> np.ndarray:
    h, w = lines.shape
    padded = np.pad(lines, 1)
    return np.logical_or.reduce([padded[i : i + h, j : j + w] for i in range(3) for j in range(3)])


@pytest.mark.parametrize("condition", ["edge", "sketch"])
def test_lines_are_white_on_black_and_lie_on_the_border(condition: str) -> None:
    control = annotator(condition)(square())
    assert control.dtype == np.uint8
    assert control.shape == (64, 64, 3)
    assert set(np.unique(control)) == {0, 255}
    rows, columns = np.nonzero(control[..., 0])
    off = np.maximum(np.abs(rows - 31.5), np.abs(columns - 31.5)) - 16
    assert np.abs(off).max() <= (1 if condition == "edge" else 3.5)
    assert not annotator(condition)(np.full((20, 30, 3), 90, np.uint8)).any()


def test_a_sketch_is_thicker_than_edges_and_leaves_out_what_is_small() -> None:
    image = square()
    image[4:7, 4:7] = 200
    sketch, edge = annotator("sketch")(image)[..., 0], annotator("edge")(image)[..., 0]
    assert sketch.sum() > 1.7 * edge[10:54, 10:54].sum()
    assert edge[:10, :10].any()
    assert not sketch[:10, :10].any()


def test_a_border_that_only_one_channel_shows_is_an_edge() -> None:
    image = np.full((32, 32, 3), 90, np.uint8)
    image[:, 16:, 2] = 255
    assert annotator("edge")(image)[..., 0].sum() >= 255 * 28


def test_lines_are_these_bytes() -> None:
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (48, 80, 3), dtype=np.uint8) // 3 + np.pad(square(48), ((0, 0), (0, 32), (0, 0))) // 2
    digests = {name: hashlib.sha256(annotator(name)(image).tobytes()).hexdigest()[:16] for name in ("edge", "sketch")}
    assert digests == {"edge": "0e675e8933c758d3", "sketch": "9fb9556a381c9df4"}


@pytest.mark.parametrize("world", ["a", "b"])
def test_canny_finds_the_true_edges_of_scenes(world: str) -> None:
    scores = []
    for index in range(30):
        picture = Scenes(world).picture(index)
        true, found = picture.controls["edge"][..., 0] > 0, annotator("edge")(picture.image)[..., 0] > 0
        scores.append([(found & near(true)).sum() / found.sum(), (true & near(found)).sum() / true.sum()])
    precision, recall = np.mean(scores, axis=0)
    assert precision > 0.94
    assert recall > 0.9


def test_unknown_conditions_and_missing_networks_are_named() -> None:
    with pytest.raises(TaskError, match=r"'scribble'.*edge, sketch, depth") as caught:
        annotator("scribble")
    assert (caught.value.code, caught.value.param) == ("condition_unknown", "condition")
    for condition in (name for name, found in all_conditions().items() if not found.is_computed):
        with pytest.raises(TaskError, match=condition) as caught:
            annotator(condition)
        assert caught.value.code == "annotator_not_found"
