"""How much of what a tuned model draws is copied from its training images."""

from __future__ import annotations

from difftune_core.config.figures.figure import Chart, Figure, Metric

_FEWEST = 20

COPYING = (
    Metric(
        name="copying",
        needs=frozenset({"features", "images", "training"}),
        measured="at each evaluation of models that draw classes",
        how="Over the features of the first extractor, and over means of 16 x 16 fields of the pixels. Training images "
        "are at most 10,000, spread evenly; compared are at most 5,000 on each side, held-out ones in up to eight "
        "groups of as many",
        error="of FID its own; of shares over generated images and over groups of held-out ones",
        bias="FID as ever; with more training images than held-out ones a copy is seen only where its original is "
        "among those compared",
        figures=(
            Figure(
                key="train_fid",
                label="FID to training images",
                meaning="Fréchet distance between generated and training images: where it falls and FID on held-out "
                "images does not, the model copies",
                better="neither",
                unit="squared distance of features",
                shown=("curve",),
                chart=Chart(title="FID to training images", line="training images"),
            ),
            Figure(
                key="copies",
                label="Copies",
                meaning="Share of generated images whose nearest neighbour among the training images is nearer than "
                "that among as many held-out ones: 0.5 where nothing is copied, 1 where everything is",
                better="lower",
                unit="share",
                fewest=_FEWEST,
                shown=("tile", "card", "strip", "curve"),
                detail="0.5 is none, 1 is all",
                chart=Chart(title="Copies of training images", line="by features"),
            ),
            Figure(
                key="pixel_copies",
                label="Copies by pixels",
                meaning="The same share by distances of small pictures in place of features",
                better="lower",
                unit="share",
                fewest=_FEWEST,
                shown=("curve",),
            ),
        ),
    ),
)
