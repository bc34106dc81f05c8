"""Judging a tuned model: target quality against held-out images, forgetting against the base model's own images."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int, UInt8

from difftune_core.config.evaluation import EvaluationConfig
from difftune_core.config.sampling import Guidance
from difftune_core.data.latents import LatentSet
from difftune_core.diffusion.reverse import Sampling
from difftune_core.evaluate.classes import TOLD, equal_labels, labels_to_draw
from difftune_core.evaluate.compare import DEFAULT_METRICS
from difftune_core.evaluate.features import FeatureExtractor
from difftune_core.evaluate.forgetting import retention_loss_by_t
from difftune_core.evaluate.frechet import frechet_distance, moments_of
from difftune_core.evaluate.quality import Features, quality, real_against_real
from difftune_core.families.dit.draw import sample_latents
from difftune_core.files import build_once
from difftune_core.interruption import Progress, after
from difftune_core.models.autoencoder import Autoencoder
from difftune_core.models.dit import DiT
from difftune_core.models.registry import BaseModel
from difftune_core.runtime.caches import array_digest, place_of

_FORMAT = 3
Labels = Int[torch.Tensor, " k"]


@dataclass(frozen=True)
class Judge:
    """Everything that stays the same over the evaluations of a run."""

    base: BaseModel
    config: EvaluationConfig
    extractor: FeatureExtractor
    autoencoder: Autoencoder
    real: UInt8[np.ndarray, "n s s 3"]
    """Held-out target images."""
    real_labels: Int[torch.Tensor, " n"]
    real_digest: str
    source: UInt8[np.ndarray, "m s s 3"]
    """The base model's images, sampled for judging alone."""
    source_latents: LatentSet
    cache: Path
    device: torch.device
    other_extractors: tuple[FeatureExtractor, ...] = ()
    """Those whose Frechet distance is measured beside FID."""

    @cached_property
    def real_features(self) -> Features:
        """Of the held-out images, by extractor; computed once."""
        return self.all_features(self.real)

    @cached_property
    def base_model(self) -> DiT:
        """The pre-trained model, loaded when it is first asked for."""
        return self.base.load_dit(self.device).eval()

    @property
    def sampling(self) -> Sampling:
        """How target images are drawn."""
        return Sampling.of(self.config)

    @property
    def other_guidance(self) -> list[Guidance]:
        """Guidances to be judged beside the main one."""
        return [name for name in dict.fromkeys(self.config.other_guidance) if name != self.config.guidance]

    @property
    def base_guidance(self) -> list[Guidance]:
        """The same for the base model, whose null branch is the source's own: `domain` is `cfg` to it."""
        own: dict[Guidance, Guidance] = {"domain": "cfg"}
        main = own.get(self.config.guidance, self.config.guidance)
        names = dict.fromkeys(own.get(name, name) for name in self.other_guidance)
        return [name for name in names if name != main]

    @property
    def images_an_evaluation(self) -> int:
        """Images that `judge` draws: as many for forgetting as for quality."""
        return 2 * self.config.num_images

    @property
    def images_of_references(self) -> int:
        """Images that `references` draws where they are not cached."""
        return self.images_an_evaluation + self.config.num_images * len(self.base_guidance)

    def recipe(self) -> dict[str, Any]:
        """How every figure was made."""
        others = {extractor.id: extractor.digest for extractor in self.other_extractors}
        further = [name for name in self.config.metrics if name not in DEFAULT_METRICS]
        return {
            "feature_extractor": self.extractor.id,
            "feature_extractor_digest": self.extractor.digest,
            "num_generated": self.config.num_images,
            "num_real": len(self.real),
            "reference_set_digest": self.real_digest,
            "sampling": asdict(self.sampling),
            "weights": "ema",
            "class_distribution": TOLD[self.config.class_distribution],
        } | {name: found for name, found in (("other_feature_extractors", others), ("metrics", further)) if found}

    def features(self, images: UInt8[np.ndarray, "k s s 3"]) -> Float32[np.ndarray, "k d"]:
        """Features of images by the main extractor."""
        return self.extractor(images)

    def all_features(self, images: UInt8[np.ndarray, "k s s 3"]) -> Features:
        """Features of images by every extractor."""
        return {extractor.id: extractor(images) for extractor in (self.extractor, *self.other_extractors)}

    def labels(self, model: DiT) -> Labels:
        """Of the images by which a tuned model is judged."""
        return labels_to_draw(
            self.config.class_distribution,
            self.real_labels,
            self.config.num_images,
            num_classes=model.config.num_classes,
            seed=self.config.seed,
        )

    def compared(self, images: UInt8[np.ndarray, "k s s 3"]) -> dict[str, Any]:
        """Quality of images against the held-out ones."""
        return quality(self.real_features, self.all_features(images), self.config.metrics, images=(self.real, images))

    def judge(
        self, model: DiT, step: int, progress: Progress, *, labels: Labels | None = None
    ) -> tuple[dict[str, Any], UInt8[np.ndarray, "k s s 3"]]:
        """One evaluation of `model`, and its images. `progress` hears how many of `images_an_evaluation` are done."""
        begin = time.monotonic()
        images = self.draw(model, self.labels(model) if labels is None else labels, progress)
        figures = self.compared(images)
        forgetting = self._forgetting(model, after(self.config.num_images, progress))
        return {"step": step, **figures, "forgetting": forgetting, "seconds": time.monotonic() - begin}, images

    def judge_guidance(
        self, model: DiT, names: list[Guidance], progress: Progress, *, labels: Labels | None = None
    ) -> dict[str, dict[str, Any]]:
        """Quality under other guidances, from the seeds and labels of the main one; `num_images` are drawn for each."""
        found: dict[str, dict[str, Any]] = {}
        labels = self.labels(model) if labels is None else labels
        for name in names:
            heard = after(len(found) * self.config.num_images, progress)
            images = self.draw(model, labels, heard, guidance=name)
            found[name] = self.compared(images)
        return found

    def references(self, progress: Progress) -> dict[str, Any]:
        """Ceiling and floor beside which a figure can be read; made once per data set and base model."""
        inputs = {
            "format": _FORMAT,
            "base": self.base.card.digest,
            "recipe": self.recipe(),
            "metrics": self.config.metrics,
            "extractors": [extractor.contents for extractor in (self.extractor, *self.other_extractors)],
            "held_out": array_digest(self.real),
            "source": array_digest(self.source),
            "source_latents": self.source_latents.digest,
            "other_guidance": self.base_guidance,
        }
        place = place_of(self.cache, "references", inputs)
        folder = build_once(place, lambda aside: self._build(aside, progress))
        loaded: dict[str, Any] = json.loads((folder / "references.json").read_text(encoding="utf-8"))
        return loaded

    def _build(self, folder: Path, progress: Progress) -> None:
        # The base model's classes are others than the held-out images', which have no say in their shares.
        own = equal_labels(self.config.num_images, self.base_model.config.num_classes)
        entry, images = self.judge(self.base_model, 0, progress, labels=own)
        if self.base_guidance:
            heard = after(self.images_an_evaluation, progress)
            entry["other_guidance"] = self.judge_guidance(self.base_model, self.base_guidance, heard, labels=own)
        settings = self.config
        mean, _ = self.autoencoder.encode(self.real)
        rebuilt = self.autoencoder.decode(mean.float())
        references = {
            "base_model": entry,
            "real_vs_real": real_against_real(
                self.real_features, self.real, settings.metrics, count=settings.num_images, seed=settings.seed
            ),
            "autoencoder_floor": self.compared(rebuilt),
        }
        (folder / "references.json").write_text(json.dumps(references), encoding="utf-8")
        np.save(folder / "base_images.npy", images, allow_pickle=False)

    def draw(
        self,
        model: DiT,
        labels: torch.Tensor,
        progress: Progress | None = None,
        *,
        guidance: Guidance | None = None,
    ) -> UInt8[np.ndarray, "k s s 3"]:
        """Images of these labels, drawn as this judge draws, or under another guidance."""
        sampling = replace(self.sampling, guidance=guidance or self.sampling.guidance)
        source = self.base_model if sampling.guidance == "domain" else None
        return self.autoencoder.decode(sample_latents(model, labels, sampling, source=source, progress=progress))

    def _forgetting(self, model: DiT, progress: Progress) -> dict[str, Any]:
        """Distance of the null branch's images to the base model's, and the loss on them by t."""
        null = torch.full((self.config.num_images,), model.null_label)
        images = self.draw(model, null, progress)
        source = self.features(self.source)
        losses = retention_loss_by_t(model, self.source_latents, self.base.process(), seed=self.config.seed)
        return {
            "null_fid": frechet_distance(moments_of(self.features(images)), moments_of(source)),
            "num_source": len(self.source),
            "retention_loss": losses[0],
            "retention_loss_by_t": losses,
        }
