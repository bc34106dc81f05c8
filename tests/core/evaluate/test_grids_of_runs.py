"""The grids of a run's report: a class a column in a DiT's, a validation row a column in a ControlNet's."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch

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


def test_a_dit_s_grids_have_eight_rows_and_a_class_a_column(toy_model: DiT) -> None:
    classes = toy_model.config.num_classes
    labels = torch.arange(classes).repeat(3)
    held_out = Images(flat((10 + labels).tolist()), tuple(("", str(n)) for n in range(len(labels))), "", labels)
    judge = judge_of(DrawsLabels, device=torch.device("cpu"), source=flat(range(100, 100 + 8 * classes)))
    names = [f"class {n}" for n in range(classes)]
    samples, real, null, base = of_dit.grids_of(toy_model, judge, held_out, names, lambda _: lambda _: None)
    assert levels_of(samples, classes) == [list(range(classes))] * 8
    assert levels_of(real, classes) == [list(range(10, 10 + classes))] * 3
    assert levels_of(null, classes) == [[toy_model.null_label] * classes] * 4
    assert levels_of(base, classes) == np.arange(100, 100 + 4 * classes).reshape(4, classes).tolist()
    assert samples["columns"] == real["columns"] == names


def test_a_controlnet_s_grids_show_eight_rows_from_control_to_held_out_image() -> None:
    for number, shown in ((3, 3), (11, 8)):
        real, source = flat(range(150, 150 + number)), flat(range(number))
        judge = judge_of(DrawsRows, real=real, source_images=source)
        following, left = of_controlnet.grids_of(torch.nn.Identity(), judge, lambda _: lambda _: None)
        assert levels_of(following, shown) == [list(range(at, at + shown)) for at in (50, 100, 120, 150)]
        assert levels_of(left, shown) == [list(range(at, at + shown)) for at in (0, 200)]
        assert len(following["rows"]) == 4
