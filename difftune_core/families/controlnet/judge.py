"""Judging a ControlNet: how closely its images follow their controls, their quality, and what of the base is left.

An evaluation draws images from the same held-out controls with the same noise each time, draws their controls anew and
compares. Quality and forgetting are measured once, of the delivered ControlNet.
Shapes: n held-out rows, k images, s pixels a side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor, nn

from difftune_core.config.control import ControlConfig
from difftune_core.data.conditions import Annotator, release
from difftune_core.data.controlled import ControlledSet
from difftune_core.data.latents import LatentSet
from difftune_core.data.pixels import ImageRows, Made, parts_of, pixels_digest
from difftune_core.diffusion.reverse import Sampling
from difftune_core.evaluate.clip_score import ClipScorer
from difftune_core.evaluate.drawn import on_disk
from difftune_core.evaluate.forgetting import LOSS_BATCH, loss_by_t
from difftune_core.evaluate.held_out import held_out_loss, measured_rows
from difftune_core.evaluate.judge import Judge
from difftune_core.evaluate.quality import quality
from difftune_core.evaluate.references import cached_references
from difftune_core.evaluate.together import AT_ONCE
from difftune_core.families.controlnet.agreement import agreement_of, annotated
from difftune_core.families.controlnet.base_model import StableDiffusion
from difftune_core.families.controlnet.draw import Control, Prompted, activation_bytes, denoiser_of, sample_prompted
from difftune_core.files import whole_folder_digest
from difftune_core.interruption import Progress, after
from difftune_core.networks.autoencoder import Autoencoder
from difftune_core.runtime.at_once import images_at_once


@dataclass(frozen=True, kw_only=True)
class ControlNetJudge(Judge[nn.Module]):
    """Compares results with their controls, and judges in full what is delivered."""

    base: StableDiffusion
    unet: Any
    autoencoder: Autoencoder
    control: ControlConfig
    annotator: Annotator
    clip: ClipScorer | None
    """Scorer of captions, where that was asked for."""
    captions: tuple[str, ...]
    """Captions of the held-out rows."""
    held_out: ControlledSet
    """The held-out rows with their controls and prompts."""
    source: ControlledSet
    """The base model's images, sampled for judging alone; their prompt is the default one."""
    source_images: UInt8[np.ndarray, "m s s 3"]
    source_sampling: Sampling
    """How the base model's images were drawn."""
    source_digest: str
    source_recipe: dict[str, Any]
    """What the recipe says of the base model's images."""
    empty_prompt: int
    cache: Path
    drawn_by: str
    """Identifies the annotator."""

    @property
    def num_validation(self) -> int:
        """Images of an evaluation."""
        return min(self.control.num_validation, len(self.held_out))

    @property
    def num_images(self) -> int:
        """Images for quality, one for each of the first held-out rows."""
        return min(self.config.num_images, len(self.held_out))

    @property
    def images_an_evaluation(self) -> int:
        """Images that `figures` draws."""
        return self.num_validation

    @property
    def images_of_references(self) -> int:
        """Images of the base model alone."""
        return self.num_images

    @property
    def images_of_the_result(self) -> int:
        """Images for quality, and for forgetting."""
        return self.num_images + len(self.source_images)

    def rest(self) -> None:
        """Let go of the autoencoder, the annotator and the CLIP model too; the UNet is trained with."""
        self.autoencoder.release()
        release(self.annotator)
        if self.clip is not None:
            self.clip.release()
        super().rest()

    def own_recipe(self) -> dict[str, Any]:
        """Say how results are compared with their controls and captions."""
        scored = {} if self.clip is None else {"clip_model": self.clip.id, "clip_digest": self.clip.digest}
        return {
            "num_validation": self.num_validation,
            "conditioning_scale": self.control.conditioning_scale,
            **scored,
            **self.source_recipe,
        }

    def draw(
        self, controlnet: nn.Module | None, rows: Int[Tensor, " k"], progress: Progress | None = None
    ) -> UInt8[np.ndarray, "k s s 3"]:
        """Images of held-out rows, from their prompts and, with a ControlNet, their controls."""
        return self.drawn(controlnet, rows, progress)[:]

    def drawn(self, controlnet: nn.Module | None, rows: Int[Tensor, " k"], progress: Progress | None = None) -> Made:
        """The images of an evaluation, each drawn when it is asked for."""
        held_out = self.held_out

        def controls(start: int, stop: int) -> UInt8[Tensor, "_ 3 s s"]:
            return held_out.controls_of(rows[start:stop])

        made = self._drawn(controlnet, held_out.prompt[rows], controls, progress, self.sampling)
        return self.together.spread(made, controlnet, rows, progress, is_base=controlnet is None)

    def figures(self, controlnet: nn.Module, progress: Progress) -> dict[str, Any]:
        """Measure how closely images follow their controls, and the loss on held-out rows."""
        images = self.drawn(controlnet, torch.arange(self.num_validation), progress)
        return self.agreement(images) | self._held_out_loss(controlnet)

    def agreement(self, images: ImageRows) -> dict[str, Any]:
        """Compare images with controls and captions of the first held-out rows."""
        return agreement_of(
            images,
            self.controls(len(images)),
            self.captions,
            condition=self.control.condition,
            annotator=self.annotator,
            clip=self.clip,
        )

    def _held_out_loss(self, controlnet: nn.Module | None) -> dict[str, Any]:
        """The loss of held-out rows under their own prompts and controls; of the base model without a control."""
        held_out = self.held_out
        rows = torch.from_numpy(measured_rows(len(held_out), self.num_validation, self.config))
        mean = torch.cat([held_out.latents.means(row, row + 1) for row in rows.tolist()])[None].to(self.device)
        latents = LatentSet(mean, torch.zeros_like(mean), rows, self.real_digest)
        text = held_out.text_of(held_out.prompt[rows])
        condition = (text,) if controlnet is None else (text, held_out.controls_of(rows))
        denoise = denoiser_of(self.unet, controlnet)
        process, at_once = self.base.process(), self._at_once
        return held_out_loss(denoise, latents, condition, process, seed=self.config.seed, at_once=at_once)

    @property
    def _at_once(self) -> int:
        """Images whose loss is measured together."""
        return images_at_once(activation_bytes(self.unet), self.device, most=LOSS_BATCH)

    def annotate(self, images: UInt8[np.ndarray, "k s s 3"]) -> UInt8[np.ndarray, "k s s 3"]:
        """Controls drawn anew."""
        return annotated(images, self.annotator)

    def controls(self, count: int) -> UInt8[np.ndarray, "{count} s s 3"]:
        """Controls of the first held-out rows."""
        return self.held_out.controls[:count].permute(0, 2, 3, 1).cpu().numpy()

    def figures_of_the_result(self, controlnet: nn.Module, progress: Progress) -> dict[str, Any]:
        """Measure quality of images from held-out controls, and forgetting."""
        images = self.drawn(controlnet, torch.arange(self.num_images), progress)
        quality = self.quality_of(images, is_tuned=True)
        return {**quality, "forgetting": self._forgetting(controlnet, after(self.num_images, progress))}

    def references(self, progress: Progress) -> dict[str, Any]:
        """Measure what the figures are to be read beside; made once for all jobs with the same rows.

        The base model without a control; held-out images' own controls drawn anew, and the same through the
        autoencoder: no ControlNet can follow a control more closely than that.
        """
        inputs = {
            "base": self.base.card.digest,
            "tokenizer": whole_folder_digest(self.base.folder / "tokenizer"),  # of which that digest says nothing
            "recipe": self.recipe(),
            "metrics": self.config.metrics,
            "extractors": [extractor.contents for extractor in self.extractors],
            "condition": self.control.condition,
            "drawn_by": self.drawn_by,
            "held_out": pixels_digest(self.real),
            "latents": self.held_out.latents.digest,
            "source": self.source_digest,
            "source_latents": self.source.latents.digest,
            "prompt": self.control.default_prompt,
            **self.precision.told(),
        }
        return cached_references(self.cache, inputs, lambda: self._measured(progress)) | self.training_set()

    def _measured(self, progress: Progress) -> dict[str, Any]:
        unguided = on_disk(self.drawn(None, torch.arange(self.num_images), progress), AT_ONCE)
        rebuilt = Made(self.real.shape, self._rebuilt)
        return {
            "base_model": {
                "step": 0,
                **self.agreement(unguided[: self.num_validation]),
                **self.quality_of(unguided),
                **self._held_out_loss(None),
                "forgetting": self._untouched(),
            },
            "real_vs_real": {**self.agreement(self.real[: self.num_validation]), **self.quality_of_real()},
            "autoencoder_floor": {**self.agreement(rebuilt[: self.num_validation]), **self.quality_of(rebuilt)},
        }

    def _rebuilt(self, start: int, stop: int) -> UInt8[np.ndarray, "_ s s 3"]:
        """Held-out images through the autoencoder."""
        return self.autoencoder.decode(self.held_out.latents.means(start, stop).float())

    def remembered(
        self, controlnet: nn.Module, count: int, progress: Progress | None = None
    ) -> UInt8[np.ndarray, "{count} s s 3"]:
        """Return what the first of the base model's images become with an empty control beside the same noise."""
        return self._remembered(controlnet, count, progress)[:]

    def _remembered(self, controlnet: nn.Module, count: int, progress: Progress | None) -> Made:
        empty = torch.zeros_like(self.source.controls[:1])

        def controls(start: int, stop: int) -> UInt8[Tensor, "_ 3 s s"]:
            return empty.expand(stop - start, -1, -1, -1)

        return self._drawn(controlnet, self.source.prompt[:count], controls, progress, self.source_sampling)

    def _forgetting(self, controlnet: nn.Module, progress: Progress) -> dict[str, Any]:
        """Return what an empty control does to the base model's images.

        The same noise and the default prompt with an empty control and without a ControlNet: distance of the two sets,
        mean squared difference of each pair, and the noise error on the base model's own images by t.
        """
        main, seen = self.extractors[0], []
        squared: list[float] = []
        for part in parts_of(self._remembered(controlnet, len(self.source), progress), AT_ONCE):
            seen.append(main(part))
            pairs = zip(part, self.source_images[len(squared) :], strict=False)
            squared += [float((((ours.astype(np.float64) - theirs) / 255) ** 2).mean()) for ours, theirs in pairs]
        losses = self._losses(controlnet)
        distance = quality({main.id: self.main_features(self.source_images)}, {main.id: np.concatenate(seen)})
        return {
            "null_fid": distance["fid"],
            "num_source": len(squared),
            "source": self.source_digest,
            "empty_control_mse": float(np.mean(squared)),
            "retention_loss": losses[0],
            "retention_loss_by_t": losses,
        }

    def _untouched(self) -> dict[str, Any]:
        """Forgetting of the base model itself: none, by the definition of both distances."""
        losses = self._losses(None)
        kept = {"null_fid": 0.0, "num_source": len(self.source), "source": self.source_digest, "empty_control_mse": 0.0}
        return {**kept, "retention_loss": losses[0], "retention_loss_by_t": losses}

    def _losses(self, controlnet: nn.Module | None) -> list[float]:
        """Noise error on the base model's images by t, beside an empty control or without a ControlNet."""
        text = self.source.text_of(self.source.prompt[:1])

        denoise = denoiser_of(self.unet, controlnet)

        def denoised(x: Tensor, t: Tensor) -> Tensor:
            states = text.expand(len(x), -1, -1)
            empty = torch.zeros_like(self.source.controls[:1]).expand(len(x), -1, -1, -1)
            return denoise(x, t, (states,) if controlnet is None else (states, empty))

        process, at_once = self.base.process(), self._at_once
        return loss_by_t(denoised, self.source.latents, process, seed=self.config.seed, at_once=at_once)

    def _drawn(
        self,
        controlnet: nn.Module | None,
        prompts: Int[Tensor, " k"],
        controls: Callable[[int, int], UInt8[Tensor, "_ 3 s s"]],
        progress: Progress | None,
        sampling: Sampling,
    ) -> Made:
        texts, scale = self.held_out.text, self.control.conditioning_scale

        def make(start: int, stop: int) -> UInt8[np.ndarray, "_ s s 3"]:
            prompted = Prompted(texts[prompts[start:stop]], texts[self.empty_prompt])
            control = None if controlnet is None else Control(controlnet, controls(start, stop), scale)
            fields, heard = self.base.noise_fields(), after(start, progress)
            with self.precision.autocast():
                latents = sample_prompted(
                    self.unet, fields, prompted, sampling, control=control, first_index=start, progress=heard
                )
            return self.autoencoder.decode(latents)

        return Made((len(prompts), *self.real.shape[1:]), make)
