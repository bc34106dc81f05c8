"""Judging a tuned DiT: target quality against held-out images, forgetting against the base model's own images."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8

from difftune_core.config.sampling import Guidance
from difftune_core.data.latents import Latents, LatentSet
from difftune_core.data.pixels import Made, pixels_digest
from difftune_core.diffusion.process import Process
from difftune_core.evaluate.classes import TOLD, equal_labels, labels_to_draw
from difftune_core.evaluate.forgetting import LOSS_BATCH, loss_by_t
from difftune_core.evaluate.frechet import Moments, frechet_distance, moments_of
from difftune_core.evaluate.held_out import held_out_loss, measured_rows
from difftune_core.evaluate.judge import Judge
from difftune_core.evaluate.references import cached_references
from difftune_core.families.dit.base_model import DiTModel
from difftune_core.families.dit.draw import sample_latents
from difftune_core.interruption import Progress, after
from difftune_core.networks.autoencoder import Autoencoder
from difftune_core.networks.dit import DiT
from difftune_core.networks.dit_costs import activation_bytes
from difftune_core.runtime.at_once import images_at_once

_FORMAT = 3
_OF_TUNED: dict[str, Any] = {"handover": 0.0, "noise_guidance_scale": 1.0}
"""Settings for images of the tuned model alone, at what does nothing: references do not depend on them."""
Labels = Int[torch.Tensor, " k"]
Pixels = UInt8[np.ndarray, "k s s 3"]


@dataclass(frozen=True, kw_only=True)
class DiTJudge(Judge[DiT]):
    """Draws classes, and judges each evaluation in full."""

    base: DiTModel
    autoencoder: Autoencoder
    real_labels: Int[torch.Tensor, " n"]
    source: UInt8[np.ndarray, "m s s 3"]
    """The base model's images, sampled for judging alone."""
    source_latents: Latents
    source_digest: str = ""
    source_recipe: dict[str, Any] = field(default_factory=dict)
    """What the recipe says of the base model's images."""
    cache: Path

    @cached_property
    def base_model(self) -> DiT:
        """The pre-trained model, loaded when it is asked for."""
        return self.base.load_dit(self.device).eval()

    def rest(self) -> None:
        """Let go of the base model and the autoencoder too."""
        self.autoencoder.release()
        vars(self).pop("base_model", None)
        super().rest()

    @property
    def num_images(self) -> int:
        """Images that are drawn for quality."""
        return self.config.num_images

    @property
    def other_guidance(self) -> list[Guidance]:
        """Guidances to be judged beside the main one."""
        return [name for name in dict.fromkeys(self.config.other_guidance) if name != self.config.guidance]

    @property
    def base_guidance(self) -> list[Guidance]:
        """The guidance of the base model, whose null branch is the source's own: `domain` is `cfg` to it."""
        own: dict[Guidance, Guidance] = {"domain": "cfg"}
        main = own.get(self.config.guidance, self.config.guidance)
        names = dict.fromkeys(own.get(name, name) for name in self.other_guidance)
        return [name for name in names if name != main]

    @property
    def images_an_evaluation(self) -> int:
        """Images that `figures` draws: as many for forgetting as for quality."""
        return 2 * self.num_images

    @property
    def images_of_references(self) -> int:
        """Images that `references` draws where they are not cached."""
        return self.images_an_evaluation + self.num_images * len(self.base_guidance)

    @property
    def images_of_the_result(self) -> int:
        """Images under other guidances."""
        return self.num_images * len(self.other_guidance)

    def own_recipe(self) -> dict[str, Any]:
        """Say of which classes images are drawn."""
        return {"weights": "ema", "class_distribution": TOLD[self.config.class_distribution], **self.source_recipe}

    def labels(self, model: DiT) -> Labels:
        """Choose the labels of the images by which a tuned model is judged."""
        return labels_to_draw(
            self.config.class_distribution,
            self.real_labels,
            self.num_images,
            num_classes=model.config.num_classes,
            seed=self.config.seed,
        )

    def figures(self, model: DiT, progress: Progress) -> dict[str, Any]:
        """Measure quality, forgetting, and the loss on held-out images under their own classes."""
        figures = self._figures(model, self.labels(model), progress, is_tuned=True)
        return figures | self._held_out_loss(model, self._held_out.labels)

    def _figures(self, model: DiT, labels: Labels, progress: Progress, *, is_tuned: bool = False) -> dict[str, Any]:
        quality = self.quality_of(self.drawn(model, labels, progress), is_tuned=is_tuned)
        return {**quality, "forgetting": self._forgetting(model, after(self.num_images, progress))}

    @cached_property
    def _held_out(self) -> LatentSet:
        """The held-out images whose loss is measured."""
        rows = measured_rows(len(self.real), self.images_an_evaluation, self.config)
        mean, std = self.autoencoder.encode(self.real[rows])
        return LatentSet(mean[None], std[None], self.real_labels[rows], self.real_digest).to(self.device)

    def _held_out_loss(self, model: DiT, labels: Labels) -> dict[str, Any]:
        at_once = images_at_once(activation_bytes(model.config), self.device, most=LOSS_BATCH)
        return held_out_loss(model, self._held_out, labels, self.base.process(), seed=self.config.seed, at_once=at_once)

    def figures_of_the_result(self, model: DiT, progress: Progress) -> dict[str, Any]:
        """Measure quality under other guidances, from the seeds and labels of the main one."""
        names = self.other_guidance
        if not names:
            return {}
        return {"other_guidance": self._by_guidance(model, names, self.labels(model), progress, is_tuned=True)}

    def _by_guidance(
        self, model: DiT, names: list[Guidance], labels: Labels, progress: Progress, *, is_tuned: bool = False
    ) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for name in names:
            heard = after(len(found) * self.num_images, progress)
            found[name] = self.quality_of(self.drawn(model, labels, heard, guidance=name), is_tuned=is_tuned)
        return found

    def references(self, progress: Progress) -> dict[str, Any]:
        """Measure ceiling and floor beside which a figure can be read; made once per data set and base model."""
        alone = replace(self, config=self.config.model_copy(update=_OF_TUNED))
        inputs = {
            "format": _FORMAT,
            "base": self.base.card.digest,
            "recipe": alone.recipe(),
            "metrics": self.config.metrics,
            "extractors": [extractor.contents for extractor in self.extractors],
            "held_out": pixels_digest(self.real),
            "source": pixels_digest(self.source),
            "source_latents": self.source_latents.digest,
            "other_guidance": self.base_guidance,
            **self.precision.told(),
        }
        found = cached_references(self.cache, inputs, lambda: self._measured(progress))
        found["base_model"] |= self._held_out_loss_of_base()
        return found | self.training_set()

    def _held_out_loss_of_base(self) -> dict[str, Any]:
        """Measure the loss without a label, as the base model has none for the target's classes; once for all jobs."""
        rows = measured_rows(len(self.real), self.images_an_evaluation, self.config)
        inputs = {
            "base": self.base.card.digest,
            "held_out": pixels_digest(self.real),
            "rows": rows.tolist(),
            "seed": self.config.seed,
        }

        def measure() -> dict[str, Any]:
            null = torch.full((len(rows),), self.base_model.null_label, device=self.device)
            return self._held_out_loss(self.base_model, null)

        return cached_references(self.cache, inputs, measure)

    def _measured(self, progress: Progress) -> dict[str, Any]:
        # The base model's classes are others than the held-out images', which have no say in their shares.
        own = equal_labels(self.num_images, self.base_model.config.num_classes)
        begin = time.monotonic()
        figures = self._figures(self.base_model, own, progress)
        entry = {"step": 0, **figures, "seconds": time.monotonic() - begin}
        if self.base_guidance:
            heard = after(self.images_an_evaluation, progress)
            entry["other_guidance"] = self._by_guidance(self.base_model, self.base_guidance, own, heard)
        return {
            "base_model": entry,
            "real_vs_real": self.quality_of_real(),
            "autoencoder_floor": self.quality_of(Made(self.real.shape, self._rebuilt)),
        }

    def _rebuilt(self, start: int, stop: int) -> Pixels:
        """Held-out images through the autoencoder."""
        mean, _ = self.autoencoder.encode(self.real[start:stop])
        return self.autoencoder.decode(mean.float())

    def draw(
        self, model: DiT, labels: Labels, progress: Progress | None = None, *, guidance: Guidance | None = None
    ) -> Pixels:
        """Draw images of these labels as this judge draws, or under another guidance."""
        return self.drawn(model, labels, progress, guidance=guidance)[:]

    def drawn(
        self, model: DiT, labels: Labels, progress: Progress | None = None, *, guidance: Guidance | None = None
    ) -> Made:
        """The images of an evaluation, each drawn when it is asked for."""
        sampling = replace(self.sampling, guidance=guidance or self.sampling.guidance)
        if model is vars(self).get("base_model"):
            sampling = replace(sampling, **_OF_TUNED)
        source = self.base_model if sampling.guidance == "domain" or sampling.handover else None

        def make(start: int, stop: int) -> Pixels:
            rows, heard = labels[start:stop], after(start, progress)
            with self.precision.autocast():
                latents = sample_latents(model, rows, sampling, source=source, first_index=start, progress=heard)
            return self.autoencoder.decode(latents)

        made = Made((len(labels), *self.real.shape[1:]), make)
        is_base = model is vars(self).get("base_model")
        return self.together.spread(made, model, labels, progress, is_base=is_base, guidance=guidance)

    @cached_property
    def _source_moments(self) -> Moments:
        return moments_of(self.main_features(self.source))

    def _forgetting(self, model: DiT, progress: Progress) -> dict[str, Any]:
        """Distance of the null branch's images to the base model's, and the loss on them by t."""
        null = torch.full((self.num_images,), model.null_label)
        images = self.main_features(self.drawn(model, null, progress))
        losses = retention_loss_by_t(model, self.source_latents, self.base.process(), seed=self.config.seed)
        return {
            "null_fid": frechet_distance(moments_of(images), self._source_moments),
            "num_source": len(self.source),
            "source": self.source_digest,
            "retention_loss": losses[0],
            "retention_loss_by_t": losses,
        }


def retention_loss_by_t(model: DiT, reference: Latents, process: Process, *, seed: int) -> list[float]:
    """Compute `loss_by_t` of a DiT under its null label."""

    def denoise(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = model(x, t, torch.full((len(x),), model.null_label, device=x.device))
        return output

    device = model.pos_embed.device
    at_once = images_at_once(activation_bytes(model.config), device, most=LOSS_BATCH)
    return loss_by_t(denoise, reference.to(device), process, seed=seed, at_once=at_once)
