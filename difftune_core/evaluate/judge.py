"""Judging what a run trains: the part of the story that is the same for every family.

An evaluation judges the average while training goes on; the result is what is delivered in the end; references are
what figures are read beside. Shapes: n held-out images, k drawn ones, s pixels a side.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float32
from torch import nn

from difftune_core.config.evaluation import EvaluationConfig
from difftune_core.config.reports.evaluation import Evaluation
from difftune_core.data.pixels import ImageRows, Made, Pixels, chosen, parts_of
from difftune_core.diffusion.reverse import Sampling
from difftune_core.evaluate.compare import DEFAULT_METRICS
from difftune_core.evaluate.copying import Seen, copying, repeated, small_pictures, spread_rows
from difftune_core.evaluate.drawn import on_disk
from difftune_core.evaluate.extractor import FeatureExtractor
from difftune_core.evaluate.quality import Features, look_at_images, quality, real_against_real
from difftune_core.evaluate.together import AT_ONCE, Together
from difftune_core.evaluate.training_images import TrainingImages
from difftune_core.interruption import Progress
from difftune_core.runtime.precision import FP32, Precision

Model = TypeVar("Model", bound=nn.Module)


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
    together: Together = field(default_factory=Together)
    """The processes that draw the average's images with this one."""
    training: TrainingImages | None = None
    """Images that the model is trained on, of which copies are looked for; None looks for none."""

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
        """Measure what figures are read beside: `base_model`, `real_vs_real`, `autoencoder_floor`, `training_set`."""

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

    def features(self, images: ImageRows, pictures: list[Float32[np.ndarray, "_ p"]] | None = None) -> Features:
        """Compute features of images by every extractor; small pictures of them are appended where a list is given."""
        found: dict[str, list[Any]] = {extractor.id: [] for extractor in self.extractors}
        for part in parts_of(images, AT_ONCE):
            if pictures is not None:
                pictures.append(small_pictures(part))
            for extractor in self.extractors:
                found[extractor.id].append(extractor(part))
        return {id_: np.concatenate(parts) for id_, parts in found.items()}

    def main_features(self, images: ImageRows) -> Float32[np.ndarray, "k d"]:
        """Compute features of images by the main extractor alone."""
        return np.concatenate([self.extractors[0](part) for part in parts_of(images, AT_ONCE)])

    def quality_of(self, images: ImageRows, *, is_tuned: bool = False) -> dict[str, Any]:
        """Compare images with the held-out ones; those that are made when they are asked for are made once.

        Args:
            images: to be judged.
            is_tuned: whether the model that is trained drew them, so that they may be copies of training images.
        """
        if isinstance(images, Made) and look_at_images(self.config.metrics):
            images = on_disk(images, AT_ONCE)
        pictures: list[Any] = []
        looks_for_copies = is_tuned and self.training is not None
        features = self.features(images, pictures if looks_for_copies else None)
        found = quality(self.real_features, features, self.config.metrics, images=(self.real, images))
        if not looks_for_copies:
            return found
        copied = self._copying(Seen(features[self.extractors[0].id], np.concatenate(pictures)))
        warnings = [*found.get("warnings", []), *copied.get("warnings", [])]
        return found | copied | ({"warnings": warnings} if warnings else {})

    def training_set(self) -> dict[str, Any]:
        """Judge the training images in place of samples, as the reference `training_set`: a perfect copier's figures.

        Nothing where the judge has none.
        """
        if self.training is None:
            return {}
        of_training = [self._seen[0], *map(self.training.seen, self.extractors[1:])]
        drawn = [repeated(seen, self.num_images, seed=self.config.seed) for seen in of_training]
        features = {extractor.id: each.features for extractor, each in zip(self.extractors, drawn, strict=True)}
        metrics = [name for name in self.config.metrics if not look_at_images([name])]
        found = quality(self.real_features, features, metrics)
        copied = {name: value for name, value in self._copying(drawn[0]).items() if name != "warnings"}
        return {"training_set": found | copied}

    def _copying(self, drawn: Seen) -> dict[str, Any]:
        assert self.training is not None, "asked for beside training images alone"
        training, held_out = self._seen
        return copying(training, held_out, drawn, seed=self.config.seed, total=len(self.training))

    @cached_property
    def _seen(self) -> tuple[Seen, Seen]:
        """Training images and held-out ones as copies are looked for among them; made once."""
        assert self.training is not None, "asked for beside training images alone"
        rows = spread_rows(len(self.real))
        pictures = [small_pictures(part) for part in parts_of(chosen(self.real, rows.tolist()), AT_ONCE)]
        features = self.real_features[self.extractors[0].id][rows]
        return self.training.seen(self.extractors[0]), Seen(features, np.concatenate(pictures))

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
            **(self.real.crop.told() if isinstance(self.real, Pixels) else {}),
            "sampling": self.sampling.told(),
            **self.own_recipe(),
        } | {name: found for name, found in (("other_feature_extractors", others), ("metrics", further)) if found}

    def own_recipe(self) -> dict[str, Any]:
        """Say what only this family's figures depend on."""
        return {}
