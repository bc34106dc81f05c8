"""What ControlNets are judged by: agreement of images with their controls and captions, and when it came."""

from __future__ import annotations

from functools import partial

from difftune_core.config.figures.figure import Chart, Figure, Metric

_OVER_IMAGES = "over images"
_agreement = partial(Figure, group="agreement", shown=("tile", "card", "strip", "curve"))
_of_controls = partial(_agreement, limit="autoencoder_floor")

AGREEMENT = (
    Metric(
        name="structural_similarity",
        needs=frozenset({"controls"}),
        measured="at each evaluation of a ControlNet of edge or sketch",
        how="Wang et al. 2004, window of 11 x 11; the blur's sigma is 1/64 of the shorter side",
        error=_OVER_IMAGES,
        bias="none",
        figures=(
            _of_controls(
                key="ssim",
                label="SSIM",
                meaning="Structural similarity of the control that was given and the one drawn anew from the result, "
                "both blurred",
                better="higher",
                chart=Chart(title="SSIM with held-out controls", line="SSIM"),
            ),
        ),
    ),
    Metric(
        name="squared_difference",
        needs=frozenset({"controls"}),
        measured="at each evaluation of a ControlNet of depth or normal",
        error=_OVER_IMAGES,
        bias="none",
        figures=(
            _of_controls(
                key="mse",
                label="MSE",
                meaning="Mean squared difference of the control that was given and the one drawn anew from the result",
                better="lower",
                unit="squares of levels from 0 to 1",
                chart=Chart(title="MSE to held-out controls", line="MSE"),
            ),
        ),
    ),
    Metric(
        name="class_agreement",
        needs=frozenset({"controls"}),
        measured="at each evaluation of a ControlNet of segmentation",
        how="With a palette each pixel goes to the nearest colour's class",
        error="over images, of the accuracy; none of mIoU",
        bias="none",
        figures=(
            _of_controls(
                key="pixel_accuracy",
                label="Pixel accuracy",
                meaning="Share of the control's pixels that have the same class when drawn anew from the result",
                better="higher",
                unit="share",
                chart=Chart(title="Pixel accuracy on held-out controls", line="accuracy"),
            ),
            _of_controls(
                key="miou",
                label="mIoU",
                meaning="Mean overlap of the classes of both controls",
                better="higher",
                unit="share",
                shown=("tile", "strip", "curve"),
                chart=Chart(title="mIoU with held-out controls", line="mIoU"),
            ),
        ),
    ),
    Metric(
        name="caption_agreement",
        needs=frozenset({"images", "captions"}),
        measured="at each evaluation of a ControlNet with `clip_model`",
        how="Pixels and captions are prepared as the model's own folder says, with PIL; captions as they are, "
        "without “A photo depicts”; what is longer than the model takes (77 tokens) is cut, and counted in the "
        "report",
        error=_OVER_IMAGES,
        bias="none; only scores of the same CLIP model can be compared",
        figures=(
            _agreement(
                key="clip_score",
                label="CLIP score",
                meaning="100 max(cos, 0) of an image's and its caption's CLIP features, the mean over validation rows "
                "(the scale of torchmetrics; Hessel et al. 2021 take 2.5 for 100)",
                better="higher",
                unit="of 100",
                chart=Chart(title="CLIP score with held-out captions", line="CLIP score"),
            ),
        ),
    ),
    Metric(
        name="sudden_convergence",
        needs=frozenset({"controls"}),
        measured="at the end of a ControlNet run, from all its evaluations",
        how="A level added to a parabola of the step, where it explains more than noise does and is half of the "
        "curve's range",
        error="95 % of the steps found again in simulated noise",
        bias="late by up to `every_steps`",
        figures=(
            Figure(
                key="convergence_step",
                label="Sudden convergence",
                meaning="The step from which results follow their controls, of the runs in which the rule finds one",
                better="lower",
                unit="steps",
                group="run",
                is_along=False,
                shown=("strip",),
                path=("convergence", "step"),
            ),
        ),
    ),
)
