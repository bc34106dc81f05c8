"""Quality of generated images: distances and shares between their features and those of held-out images."""

from __future__ import annotations

from difftune_core.config.figures.figure import Chart, Figure, Metric

_COMPUTED = "difftune_core.evaluate.compare"
_SHARE_ERROR = "jackknife over 20 groups of images on each side, radii taken anew"
_FEWEST_OF_SHARES = 100


def _share(key: str, meaning: str, unit: str = "share") -> Figure:
    label = key.capitalize()
    return Figure(
        key=key,
        label=label,
        meaning=meaning,
        better="higher",
        unit=unit,
        fewest=_FEWEST_OF_SHARES,
        chart=Chart(title=label, line=key),
    )


QUALITY = (
    Metric(
        name="fid",
        needs=frozenset({"features"}),
        measured="at each evaluation; of a ControlNet at the end",
        how="Heusel et al. 2017; in float64 by `eigh` or SVD",
        error="infinitesimal jackknife from two images per feature on, below that a jackknife over 20 groups",
        bias="too high by about c/N, with c of each model's own: compare only at equal N. With fewer images than "
        "features it is far too high, and says so",
        compute=f"{_COMPUTED}:fid",
        is_default=True,
        figures=(
            Figure(
                key="fid",
                label="FID",
                meaning="Fréchet distance between Gaussians fitted to the features of generated and held-out images. "
                "It is biased upwards with few images: compare at equal counts only",
                better="lower",
                unit="squared distance of features",
                fewest=3,  # KID's error leaves one out; FID waits for it
                shown=("column", "tile", "card", "strip", "curve"),
                headline="FID on held-out images",
                chart=Chart(title="FID on held-out images", line="FID"),
            ),
        ),
    ),
    Metric(
        name="kid",
        needs=frozenset({"features"}),
        measured="at each evaluation; of a ControlNet at the end",
        how="Bińkowski et al. 2018",
        error="spread of disjoint blocks of 1000; jackknife over images where there are fewer than two blocks",
        bias="none; it may be below 0",
        compute=f"{_COMPUTED}:kid",
        is_default=True,
        figures=(
            Figure(
                key="kid",
                label="KID",
                meaning="Squared maximum mean discrepancy of the same features with a cubic kernel; "
                "unbiased, may fall below 0",
                better="lower",
                fewest=3,
                shown=("column", "tile", "card", "curve"),
                headline="KID on held-out images",
                has_reference_lines=False,
            ),
        ),
    ),
    Metric(
        name="held_out_loss",
        needs=frozenset(),
        measured="at each evaluation",
        how="At most 128 images, spread evenly over all that are held out, and so few that it takes at most a fifth of "
        "the passes of drawing; each is noised once in each tenth of t, from the same draws in every evaluation. The "
        "report has all ten tenths; the base model's own are without a label, of a Stable Diffusion without a control",
        error="none; times and noise are the same for all models",
        bias="none; of another process or prediction it is another quantity",
        figures=(
            Figure(
                key="held_out_loss",
                label="Held-out loss",
                meaning="Mean squared error of the prediction on held-out images under their own class, or caption and "
                "control, over all t",
                better="lower",
                unit="squares of the network's output",
                shown=("curve",),
                chart=Chart(title="Held-out loss", line="held-out images"),
            ),
        ),
    ),
    Metric(
        name="fid_infinity",
        needs=frozenset({"features"}),
        measured="as FID, where `metrics` names it",
        how="The line through FID over 1/N; `fid_bias` is its slope: what FID has too much at this N",
        error="FID's own, joined with the scatter about the line",
        bias="small; refused below 4 images per feature (8,192 for Inception, 4,096 for DINOv2 ViT-L/14), where FID is "
        "no line in 1/N",
        compute=f"{_COMPUTED}:fid_infinity",
        figures=(
            Figure(
                key="fid_infinity",
                label="FID∞",
                meaning="FID extrapolated to endlessly many images, which takes its bias away (Chong and Forsyth 2020)",
                better="lower",
                unit="squared distance of features",
                chart=Chart(title="FID∞ on held-out images", line="FID∞"),
            ),
        ),
    ),
    Metric(
        name="precision_recall",
        needs=frozenset({"features"}),
        measured="as FID, where `metrics` names it",
        how="Balls to the 3rd neighbour (Kynkäänniemi et al. 2019)",
        error=_SHARE_ERROR,
        bias="grows or falls with N and with both numbers: compare only at equal ones. Refused below 100 images, where "
        "shares come out too high",
        compute=f"{_COMPUTED}:shares_inside",
        figures=(
            _share("precision", "Share of generated images that lie among the held-out ones"),
            _share("recall", "Share of held-out images that lie among the generated ones"),
        ),
    ),
    Metric(
        name="density_coverage",
        needs=frozenset({"features"}),
        measured="as FID, where `metrics` names it",
        how="Images per real ball over k, and share of real balls that hold an image; k = 5 (Naeem et al. 2020)",
        error=_SHARE_ERROR,
        bias="as precision and recall, less open to real outliers",
        compute=f"{_COMPUTED}:shares_of_balls",
        figures=(
            _share("density", "How many held-out neighbourhoods a generated image lies in", unit=""),
            _share("coverage", "Share of held-out images with a generated one near by"),
        ),
    ),
)
