"""What the parts of the page read from the report's dict: the result, the references, the names of figures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from difftune_core.config.figures import find_figure
from difftune_core.evaluate.best import Entry, figure

Report = dict[str, Any]

REFERENCES = {
    "base_model": "Base model, not tuned",
    "real_vs_real": "Real against real",
    "autoencoder_floor": "Autoencoder alone",
}

_OF_AGREEMENT = frozenset({"ssim", "mse", "pixel_accuracy", "miou"})
_NO_COVARIANCE = "no full covariance"  # of `compare` and `quality`


@dataclass(frozen=True)
class Measure:
    """A figure of an evaluation."""

    key: str
    title: str
    meaning: str
    always: bool = False
    """Whether it has its column also where no evaluation has it."""
    of_images: bool = True
    """Whether it judges images against held-out ones, so that references have it too."""


_OF_CONTROLS = (
    Measure(
        "ssim",
        "SSIM",
        "Structural similarity of the control that was given and the one drawn anew from the result, both blurred; "
        "higher is better.",
    ),
    Measure(
        "mse",
        "MSE",
        "Mean squared difference of the control that was given and the one drawn anew from the result.",
    ),
    Measure(
        "pixel_accuracy",
        "Pixel accuracy",
        "Share of the control's pixels that have the same class when drawn anew from the result; higher is better.",
    ),
    Measure("miou", "mIoU", "Mean overlap of the classes of both controls; higher is better."),
    Measure(
        "clip_score",
        "CLIP score",
        "100 max(cos, 0) of an image's and its caption's CLIP features, the mean over validation rows (the scale "
        "of torchmetrics; Hessel et al. 2021 take 2.5 for 100); higher is better.",
    ),
)
_MEASURES = (
    *_OF_CONTROLS,
    Measure(
        "fid",
        "FID",
        "Fréchet distance between Gaussians fitted to the features of generated and held-out images. It is biased "
        "upwards with few images: compare at equal counts only.",
        always=True,
    ),
    Measure(
        "kid",
        "KID",
        "Squared maximum mean discrepancy of the same features with a cubic kernel; unbiased, may fall below 0.",
        always=True,
    ),
    Measure(
        "fid_infinity",
        "FID∞",
        "FID extrapolated to endlessly many images, which takes its bias away (Chong and Forsyth 2020).",
    ),
    Measure("precision", "Precision", "Share of generated images that lie among the held-out ones; higher is better."),
    Measure("recall", "Recall", "Share of held-out images that lie among the generated ones; higher is better."),
    Measure("density", "Density", "How many held-out neighbourhoods a generated image lies in; higher is better."),
    Measure("coverage", "Coverage", "Share of held-out images with a generated one near by; higher is better."),
)
_FORGETTING = (
    Measure(
        "null_fid",
        "Forgetting",
        "Fréchet distance of what the tuned model draws under the null label to the base model's own images; the base "
        "model's own figure is where tuning starts.",
        always=True,
        of_images=False,
    ),
    Measure(
        "empty_control_mse",
        "Drift",
        "Mean squared difference of the base model's images and what the same noise becomes beside an empty control.",
        of_images=False,
    ),
    Measure(
        "retention_loss",
        "Retention loss",
        "Mean squared error of the prediction on the base model's images in the tenth of the chain next to the data, "
        "where Diff-Tuning retains.",
        always=True,
        of_images=False,
    ),
    Measure(
        "l2_from_base",
        "L2 from base",
        "Squared distance of the trained parameters from where they began, the paper's measure of forgetting.",
        of_images=False,
    ),
)
_UNDER_AN_EMPTY_CONTROL = (
    "Fréchet distance of the base model's images and what the same noise becomes under the default prompt beside an "
    "empty control; 0 for the base model itself."
)


def title_of(metric: str) -> str:
    """A figure's name as the page writes it."""
    found = find_figure(metric)
    return metric if found is None else found.label


def measures(report: Report) -> list[Measure]:
    """The figures that this report has, in the page's order."""
    entries = [*report.get("evaluations", []), *report.get("references", {}).values()]
    others = report.get("recipe", {}).get("other_feature_extractors", {})
    further = [Measure(f"fd_{id_}", f"FD {id_}", f"Fréchet distance over the features of {id_}.") for id_ in others]
    known = [*_MEASURES, *further, *_FORGETTING]
    if is_controlled(report):
        known = [replace(m, meaning=_UNDER_AN_EMPTY_CONTROL) if m.key == "null_fid" else m for m in known]
    return [m for m in known if m.always or any(has(entry, m.key) for entry in entries)]


def is_controlled(report: Report) -> bool:
    """Whether the run trained a ControlNet."""
    return bool(report.get("job", {}).get("control"))


def limit_of(key: str) -> str:
    """The reference that says how good a figure can become.

    Held-out images agree with their own controls by definition; what the autoencoder leaves of that can be reached.
    """
    return "autoencoder_floor" if key in _OF_AGREEMENT else "real_vs_real"


def is_of_few(entry: Entry, key: str) -> bool:
    """Whether the entry warns that this Fréchet distance is of too few images for its features."""
    said = [text for text in entry.get("warnings", []) if _NO_COVARIANCE in text]
    if key == "fid":
        return any(not text.startswith("fd_") for text in said)
    return any(text.startswith(f"{key}: ") for text in said)


def result_of(report: Report) -> Entry:
    """The evaluation of what is delivered, which is the last one unless the report names another step."""
    evaluations = report.get("evaluations", [])
    named = [entry for entry in evaluations if entry["step"] == report.get("delivered_step")]
    return dict((named or evaluations)[-1]) if evaluations else {}


def base_figure(report: Report, key: str) -> float | None:
    """The base model's own figure, as a reference or beside the result."""
    found = figure(report.get("references", {}).get("base_model", {}), key)
    return figure(result_of(report), f"{key}_base") if found is None else found


def has(entry: Entry, key: str) -> bool:
    """Whether the figure was asked for, with or without a value."""
    return key in entry or key in entry.get("forgetting", {})
