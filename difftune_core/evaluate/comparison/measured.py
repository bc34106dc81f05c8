"""What is read from a run's evaluation, and under which name a comparison shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from difftune_core.evaluate.comparison.runs import FinishedRun

Evaluation = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """A number of an evaluation."""

    key: str
    label: str
    meaning: str
    path: tuple[str, ...]
    lower_is_better: bool | None = True
    """None: neither."""

    def of(self, evaluation: Evaluation) -> float | None:
        """Its value, None where the evaluation has none."""
        value: Any = evaluation
        for name in self.path:
            value = value.get(name) if isinstance(value, dict) else None
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


_SHARES = {
    "precision": "Share of generated images that lie among the held-out ones",
    "recall": "Share of held-out images that lie among the generated ones",
    "density": "How many held-out neighbourhoods a generated image lies in",
    "coverage": "Share of held-out images with a generated one near by",
}
OF_CONTROLS = (
    Figure(
        "ssim",
        "SSIM",
        "Structural similarity of the controls that were given and those drawn anew from the results.",
        ("ssim",),
        lower_is_better=False,
    ),
    Figure("mse", "MSE", "Mean squared difference of the controls that were given and those drawn anew.", ("mse",)),
    Figure(
        "pixel_accuracy",
        "Pixel accuracy",
        "Share of the controls' pixels that have the same class when drawn anew.",
        ("pixel_accuracy",),
        lower_is_better=False,
    ),
    Figure("miou", "mIoU", "Mean overlap of the classes of both controls.", ("miou",), lower_is_better=False),
    Figure(
        "clip_score",
        "CLIP score",
        "100 max(cos, 0) of images and captions.",
        ("clip_score",),
        lower_is_better=False,
    ),
    Figure(
        "convergence_step",
        "Sudden convergence",
        "The step from which results follow their controls, of the runs in which the rule finds one.",
        ("convergence", "step"),
    ),
)
"""What ControlNets are judged by besides."""
FIGURES = (
    *OF_CONTROLS,
    Figure("fid", "FID", "Fréchet distance of generated to held-out images.", ("fid",)),
    Figure("kid", "KID", "Squared maximum mean discrepancy of the same images.", ("kid",)),
    Figure("fid_infinity", "FID∞", "FID extrapolated to endlessly many images.", ("fid_infinity",)),
    *(
        Figure(name, name.capitalize(), f"{meaning}; higher is better.", (name,), lower_is_better=False)
        for name, meaning in _SHARES.items()
    ),
    Figure(
        "null_fid",
        "Forgetting",
        "Fréchet distance of what is drawn under the null label to the base model's own images.",
        ("forgetting", "null_fid"),
    ),
    Figure(
        "empty_control_mse",
        "Drift",
        "Mean squared difference of the base model's images and what the same noise becomes beside an empty control.",
        ("forgetting", "empty_control_mse"),
    ),
    Figure(
        "retention_loss",
        "Retention loss",
        "Error of the predicted noise on the base model's images in the tenth of the chain next to the data.",
        ("forgetting", "retention_loss"),
    ),
    Figure(
        "l2_from_base",
        "Distance from the base",
        "Squared L2 distance of the trained parameters from where they started.",
        ("l2_from_base",),
        lower_is_better=None,
    ),
)
_OF_CONTROLNETS = {
    "null_fid": "Fréchet distance of the base model's images and what the same noise becomes beside an empty control."
}


def figures_in(runs: Sequence[FinishedRun]) -> list[Figure]:
    """The figures that any of the runs has, those under other guidances and in other features among them."""
    ends = [run.result for run in runs]
    extractors = {name: None for run in runs for name in run.report["recipe"].get("other_feature_extractors") or {}}
    names = {name: None for end in ends for name in end.get("other_guidance") or {}}
    others = [
        Figure(
            f"fid_{name}",
            f"FID, {'no guidance' if name == 'none' else f'{name} guidance'}",
            f"As FID, but sampled with guidance {name!r}.",
            ("other_guidance", name, "fid"),
        )
        for name in names
    ]
    others += [
        Figure(f"fd_{name}", f"FD {name}", f"Fréchet distance over the features of {name}.", (f"fd_{name}",))
        for name in extractors
    ]
    first = [figure.key for figure in FIGURES].index("fid") + 1
    known = [*FIGURES[:first], *others, *FIGURES[first:]]
    if any(run.controlled for run in runs):
        known = [replace(figure, meaning=_OF_CONTROLNETS.get(figure.key, figure.meaning)) for figure in known]
    return [figure for figure in known if any(figure.of(end) is not None for end in ends)]
