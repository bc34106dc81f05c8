"""Every row of the study, fixed before the first was run; `PLAN.md` says what they are to decide and how."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any, Literal

from difftune_core.config.sampling import Guidance

Weighting = Literal["none", "p2", "psi"]
Retention = Literal["none", "released", "decaying"]
WEIGHTINGS: tuple[Weighting, ...] = ("none", "p2", "psi")
RETENTIONS: tuple[Retention, ...] = ("none", "released", "decaying")
SHORT_AVERAGE = 200
"""Time constant of the short weight average, in steps."""
BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run of the study."""

    study: Literal["A", "B", "N"]
    target: str
    method: str
    """Name of the method in tables."""
    method_config: tuple[tuple[str, Any], ...]
    """What of the method's settings differs between rows."""
    seed: int
    """Draws the training images and all randomness."""
    images_per_class: int
    steps: int
    """Most steps of the run."""
    every_steps: int
    handovers: tuple[float, ...] = ()
    """Shares of the chain that the base model ends, measured at each evaluation."""
    guidances: tuple[Guidance, ...] = ()
    """Measured beside CFG where each average's FID is lowest."""
    noise_scale: float = 1.0
    """Scale of the Noise Awareness Guidance that is measured beside each guidance there; 1 measures none."""
    long_average: bool = False
    """Whether the average over 0.42 of the run is judged beside the short one."""
    until: float | None = None
    """Ends once it has gone so many times as far as to its lowest FID; None goes on to the last step."""

    @cached_property
    def name(self) -> str:
        """Name that tells the row from all others."""
        return f"{self.study}/{self.target}-{self.images_per_class}/{self.method}/{self.seed}"

    @property
    def config(self) -> dict[str, Any]:
        """The transfer config."""
        settings = dict(self.method_config)
        kind = settings.pop("type", "diff_tuning")
        hyperparameters = {
            "max_steps": self.steps,
            "batch_size": BATCH,
            "learning_rate": 1e-3,
            "checkpoint_every_steps": self.steps,
            **settings,
        }
        return {
            "model": "tiny-dit",
            "seed": self.seed,
            "method": {"type": kind, kind: {"hyperparameters": hyperparameters}},
            "evaluation": {"num_images": 250, "num_inference_steps": 10, "guidance_scale": 1.5},
            "num_threads": 1,
        }

    def told(self) -> dict[str, Any]:
        """Return what the row's record says of it."""
        later = set() if self.noise_scale != 1 else {"noise_scale"}  # which the first rows did not have
        told = {name: value for name, value in asdict(self).items() if name not in later}
        return {**told, "method_config": dict(self.method_config)}


def _cell(weighting: Weighting, retention: Retention) -> dict[str, Any]:
    """A cell of the factorial, all by one recipe, so that nothing else differs."""
    share = 0.0 if retention == "none" else 0.2
    decay = "linear" if retention == "decaying" else "none"
    return {"recipe": "weighted", "recipe_settings": {"weighting": weighting, "share": share, "decay": decay}}


def factorial(target: str, images_per_class: int, seeds: range) -> list[Row]:
    """Study A on one target, seed by seed."""
    return [
        Row(
            study="A",
            target=target,
            method=f"{weighting}+{retention}",
            method_config=tuple(_cell(weighting, retention).items()),
            seed=seed,
            images_per_class=images_per_class,
            steps=3000,
            every_steps=250,
            guidances=("none", "domain"),
            long_average=True,
        )
        for seed, weighting, retention in product(seeds, WEIGHTINGS, RETENTIONS)
    ]


METHODS_OF_B: dict[str, dict[str, Any]] = {
    "plain": {"type": "supervised"},
    "psi": {"components": "reconsolidation"},
    "released": {"recipe": "released"},
}
LENGTHS = {2: (2000, 100), 10: (5000, 250), 50: (12_000, 600)}
"""The most steps, and the steps between evaluations, by the number of images of each class."""


def by_images(images_per_class: int, seeds: range) -> list[Row]:
    """Study B with one number of images, seed by seed."""
    steps, every = LENGTHS[images_per_class]
    return [
        Row(
            study="B",
            target="digits",
            method=name,
            method_config=tuple(settings.items()),
            seed=seed,
            images_per_class=images_per_class,
            steps=steps,
            every_steps=every,
            handovers=(0.1, 0.2, 0.3, 0.4),
            until=2.0,
        )
        for seed in seeds
        for name, settings in METHODS_OF_B.items()
    ]


def aware_of_noise(seeds: range) -> list[Row]:
    """Study N: cells of A on the digits that are trained without time in a tenth of the target's slots."""
    cells = [row for row in factorial("digits", 10, seeds) if not row.method.endswith("decaying")]
    return [
        replace(
            row,
            study="N",
            method_config=(*row.method_config, ("time_dropout", 0.1)),
            noise_scale=1.5,
            long_average=False,
        )
        for row in cells
    ]


PLAN: tuple[Row, ...] = (
    *by_images(2, range(3)),
    *by_images(10, range(3)),
    *factorial("digits", 10, range(5)),
    *factorial("greek", 4, range(3)),
    *by_images(50, range(3)),
    *aware_of_noise(range(3)),
)
"""All rows, in the order in which they are run."""
