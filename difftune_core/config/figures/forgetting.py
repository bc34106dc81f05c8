"""What is left of the base model in a tuned one."""

from __future__ import annotations

from difftune_core.config.figures.figure import Chart, Figure, Metric

FORGETTING = (
    Metric(
        name="null_branch",
        needs=frozenset({"features", "base_model"}),
        measured="at each evaluation; of a ControlNet at the end",
        how="Over the features of the first extractor",
        error="none",
        bias="as FID: compare only at equal numbers of images",
        figures=(
            Figure(
                key="null_fid",
                label="Forgetting",
                meaning="Fréchet distance of what the tuned model draws under the null label to the base model's own "
                "images; the base model's own figure is where tuning starts",
                meaning_with_controls="Fréchet distance of the base model's images and what the same noise becomes "
                "under the default prompt beside an empty control; 0 for the base model itself",
                better="lower",
                unit="squared distance of features",
                group="forgetting",
                shown=("column", "tile", "card", "strip", "curve"),
                chart=Chart(title="Forgetting", line="null branch to source"),
                path=("forgetting", "null_fid"),
            ),
        ),
    ),
    Metric(
        name="empty_control",
        needs=frozenset({"images", "controls", "base_model"}),
        measured="at the end of a ControlNet run",
        error="none",
        bias="none",
        figures=(
            Figure(
                key="empty_control_mse",
                label="Drift",
                meaning="Mean squared difference of the base model's images and what the same noise becomes beside an "
                "empty control",
                better="lower",
                unit="squares of levels from 0 to 1",
                group="forgetting",
                is_along=False,
                path=("forgetting", "empty_control_mse"),
            ),
        ),
    ),
    Metric(
        name="retention",
        needs=frozenset({"base_model"}),
        measured="at each evaluation; of a ControlNet at the end",
        how="Each image is noised once, from a seed of its own; the report has all ten tenths",
        error="none; times and noise are the same for all models",
        bias="none",
        figures=(
            Figure(
                key="retention_loss",
                label="Retention loss",
                meaning="Mean squared error of the prediction on the base model's images in the tenth of the chain "
                "next to the data, where Diff-Tuning retains",
                better="lower",
                unit="squares of the network's output",
                group="forgetting",
                shown=("column", "curve"),  # no tile: the chart by t says more
                path=("forgetting", "retention_loss"),
            ),
        ),
    ),
    Metric(
        name="distance_of_weights",
        needs=frozenset({"base_model"}),
        measured="at each evaluation",
        how="Parameters that an adapter inserted count from their first values",
        error="none",
        bias="none",
        figures=(
            Figure(
                key="l2_from_base",
                label="L2 from base",
                meaning="Squared distance of the trained parameters from where they began, the paper's measure of "
                "forgetting",
                better="neither",
                unit="squares of parameters",
                group="forgetting",
                detail="squared, over all trained parameters; the paper's measure",
                chart=Chart(title="Distance from the base model's weights", line="squared L2"),
            ),
        ),
    ),
)
