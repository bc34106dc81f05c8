"""Judging what a run trains: the part of the story that is the same for every family.

An evaluation judges the average while training goes on; the result is what is delivered in the end; references are
what figures are read beside. Shapes: n held-out images, k drawn ones, s pixels a side.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float32
from torch import nn

from difftune_core.config.evaluation import EvaluationConfig
from difftune_core.config.reports.evaluation import Evaluation
from difftune_core.data.pixels import ImageRows, Made, parts_of
from difftune_core.diffusion.reverse import Sampling
from difftune_core.evaluate.compare import DEFAULT_METRICS
from difftune_core.evaluate.drawn import on_disk
from difftune_core.evaluate.extractor import FeatureExtractor
from difftune_core.evaluate.quality import Features, look_at_images, quality, real_against_real
from difftune_core.interruption import Progress
from difftune_core.runtime.precision import FP32, Precision

Model = TypeVar("Model", bound=nn.Module)
AT_ONCE = 256
"""Images that are looked at together: a multiple of every batch, so that figures are those of all images at once."""


@dataclass(frozen=True, kw_only=True)
class Judge(ABC, Generic[Model]):
    """Everything that stays the same over the evaluations of a run."""

    config: EvaluationConfig
    extractors: tuple[FeatureExtractor, ...]
    """The main one first; of the others the Frechet distance is measured beside FID."""
    real: ImageRows
    """Held-out images."""
    real_digest: str
    device: torch.device
    precision: Precision = FP32
    """What networks compute in that draw; decoders and extractors compute in float32."""

    @property
    @abstractmethod
    def num_images(self) -> int:
        """Images that are drawn for quality."""

    @property
    @abstractmethod
    def images_an_evaluation(self) -> int:
        """Images that `figures` draws."""

    @property
    @abstractmethod
    def images_of_references(self) -> int:
        """Images that `references` draws."""

    @property
    @abstractmethod
    def images_of_the_result(self) -> int:
        """Images that `figures_of_the_result` draws."""

    @abstractmethod
    def figures(self, model: Model, progress: Progress) -> dict[str, Any]:
        """Measure one evaluation; `progress` hears how many of `images_an_evaluation` are done."""

    @abstractmethod
    def figures_of_the_result(self, model: Model, progress: Progress) -> dict[str, Any]:
        """Measure what is measured of the delivered model alone."""

    @abstractmethod
    def references(self, progress: Progress) -> dict[str, Any]:
        """Measure what the figures are to be read beside, as `base_model`, `real_vs_real` and `autoencoder_floor`."""

    def rest(self) -> None:
        """Let go of networks that only judging needs, until they are next asked for: training may need the memory."""
        for extractor in self.extractors:
            extractor.release()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # blocks of the sizes of sampling are none of the sizes of a step

    def judge(self, model: Model, step: int, progress: Progress) -> Evaluation:
        """Make one evaluation: step, figures and how long it took."""
        begin = time.monotonic()
        figures = self.figures(model, progress)
        return Evaluation.model_validate({"step": step, **figures, "seconds": time.monotonic() - begin})

    @property
    def sampling(self) -> Sampling:
        """How images are drawn."""
        return Sampling.of(self.config)

    @cached_property
    def real_features(self) -> Features:
        """Features of the held-out images by extractor, computed once."""
        return self.features(self.real)

    def features(self, images: ImageRows) -> Features:
        """Compute features of images by every extractor."""
        found: dict[str, list[Any]] = {extractor.id: [] for extractor in self.extractors}
        for part in parts_of(images, AT_ONCE):
            for extractor in self.extractors:
                found[extractor.id].append(extractor(part))
        return {id_: np.concatenate(parts) for id_, parts in found.items()}

    def main_features(self, images: ImageRows) -> Float32[np.ndarray, "k d"]:
        """Compute features of images by the main extractor alone."""
        return np.concatenate([self.extractors[0](part) for part in parts_of(images, AT_ONCE)])

    def quality_of(self, images: ImageRows) -> dict[str, Any]:
        """Compare images with the held-out ones; those that are made when they are asked for are made once."""
        if isinstance(images, Made) and look_at_images(self.config.metrics):
            images = on_disk(images, AT_ONCE)
        return quality(self.real_features, self.features(images), self.config.metrics, images=(self.real, images))

    def quality_of_real(self) -> dict[str, Any]:
        """Compare a part of the held-out images with the others."""
        settings = self.config
        return real_against_real(
            self.real_features, self.real, settings.metrics, count=self.num_images, seed=settings.seed
        )

    def recipe(self) -> dict[str, Any]:
        """Say how every figure was made."""
        others = {extractor.id: extractor.digest for extractor in self.extractors[1:]}
        further = [name for name in self.config.metrics if name not in DEFAULT_METRICS]
        return {
            "feature_extractor": self.extractors[0].id,
            "feature_extractor_digest": self.extractors[0].digest,
            "num_generated": self.num_images,
            "num_real": len(self.real),
            "reference_set_digest": self.real_digest,
            "sampling": asdict(self.sampling),
            **self.own_recipe(),
        } | {name: found for name, found in (("other_feature_extractors", others), ("metrics", further)) if found}

    def own_recipe(self) -> dict[str, Any]:
        """Say what only this family's figures depend on."""
        return {}
