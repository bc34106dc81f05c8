"""The grids of a run's report: a class a column in a DiT's, a validation row a column in a ControlNet's."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import pytest
import torch

from difftune_core.config.evaluation import EvaluationConfig
from difftune_core.data.decoded import Images
from difftune_core.evaluate.grids import scale_for
from difftune_core.families.controlnet import page as of_controlnet
from difftune_core.families.controlnet.judge import ControlNetJudge
from difftune_core.families.dit import page as of_dit
from difftune_core.families.dit.judge import DiTJudge
from difftune_core.networks.dit import DiT

SIDE = 4
J = TypeVar("J")


def flat(levels: Any) -> np.ndarray:
    """An image of one grey for each level."""
    return np.broadcast_to(np.array(levels, np.uint8)[:, None, None, None], (len(levels), SIDE, SIDE, 3)).copy()


def levels_of(grid: dict[str, Any], columns: int) -> list[list[int]]:
    """What stands in each row of a grid."""
    step = (SIDE + 1) * scale_for(columns, SIDE)
    return np.asarray(grid["image"])[::step, ::step, 0].tolist()


def judge_of(kind: type[J], **fields: Any) -> J:
    judge = object.__new__(kind)
    for name, value in fields.items():
        object.__setattr__(judge, name, value)
    return judge


class DrawsLabels(DiTJudge):
    """Each image is as grey as its label says."""

    def draw(self, *args: Any, **_: Any) -> np.ndarray:
        return flat(args[1].tolist())


class DrawsRows(ControlNetJudge):
    """Each image is as grey as its row's number and what it is say."""

    @property
    def num_validation(self) -> int:
        return len(self.real)

    def draw(self, *args: Any, **_: Any) -> np.ndarray:
        return flat((100 + args[1]).tolist())

    def remembered(self, *args: Any, **_: Any) -> np.ndarray:
        return flat([200 + n for n in range(args[1])])

    def controls(self, count: int) -> np.ndarray:
        return flat(range(50, 50 + count))

    def annotate(self, images: np.ndarray) -> np.ndarray:
        return images + 20


@pytest.mark.parametrize(("drawn", "rows"), [(1000, 8), (24, 8), (23, 7), (2, 1)])
def test_a_dit_s_grids_have_eight_rows_at_most_and_a_class_a_column(toy_model: DiT, drawn: int, rows: int) -> None:
    classes = toy_model.config.num_classes
    labels = torch.arange(classes).repeat(3)
    held_out = Images(flat((10 + labels).tolist()), tuple(("", str(n)) for n in range(len(labels))), "", labels)
    config = EvaluationConfig.model_construct(num_images=drawn)
    source = flat(range(100, 100 + 8 * classes))
    judge = judge_of(DrawsLabels, device=torch.device("cpu"), source=source, config=config)
    names = [f"class {n}" for n in range(classes)]
    samples, real, null, base = of_dit.grids_of(toy_model, judge, held_out, names, lambda _: lambda _: None)
    assert levels_of(samples, classes) == [list(range(classes))] * rows
    assert levels_of(real, classes) == [list(range(10, 10 + classes))] * 3
    left = [level for row in levels_of(null, classes) for level in row][: classes * rows // 2]
    assert left == [toy_model.null_label] * (classes * rows // 2)
    assert levels_of(base, classes)[0] == [100 + n for n in range(min(classes, classes * rows // 2))]
    assert samples["columns"] == real["columns"] == names


def test_a_controlnet_s_grids_show_eight_rows_from_control_to_held_out_image() -> None:
    for number, shown in ((3, 3), (11, 8)):
        real, source = flat(range(150, 150 + number)), flat(range(number))
        judge = judge_of(DrawsRows, real=real, source_images=source)
        following, left = of_controlnet.grids_of(torch.nn.Identity(), judge, lambda _: lambda _: None)
        assert levels_of(following, shown) == [list(range(at, at + shown)) for at in (50, 100, 120, 150)]
        assert levels_of(left, shown) == [list(range(at, at + shown)) for at in (0, 200)]
        assert len(following["rows"]) == 4
