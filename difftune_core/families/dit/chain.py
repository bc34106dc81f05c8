"""The chain of forgetting: the last steps of the reverse chain by the base model (Diff-Tuning, sec. 3 and Fig. 1).

The tuned model begins, with class labels and guidance; from a step on the base model ends. The source has no labels
for the target's classes, so the base model runs under its null label, where guidance has nothing to add. All hand-overs
of an image start from one noise and share the steps before them.
Shapes: n images, k shares, c latent channels, h w their size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8
from torch import Tensor

from difftune_core.diffusion.denoisers import HandOver, Memoised, whole_steps
from difftune_core.diffusion.reverse import Sampling
from difftune_core.diffusion.solvers import make_solver
from difftune_core.evaluate.features import FeatureExtractor
from difftune_core.evaluate.together import AT_ONCE
from difftune_core.families.dit.draw import AtOneTime, UnderNull, Ways, sample_latents
from difftune_core.hooks import TaskError
from difftune_core.interruption import Progress, after
from difftune_core.networks.autoencoder import Autoencoder
from difftune_core.networks.dit import DiT, DiTConfig
from difftune_core.runtime.precision import FP32, Precision

_BATCH, _ON_GPU = 64, 128
"""Images that are drawn together for all shares: what their passes gave is remembered meanwhile."""


def runnable(fractions: Sequence[float], sampling: Sampling, config: DiTConfig) -> list[float]:
    """The shares that a chain of whole steps can hand over for these: each once, as what it really is.

    Of 5 steps a tenth and a fifth are both one; drawn twice it would seem a plateau, and count twice against chance.

    Raises:
        TaskError: `too_few_steps`, nothing would be handed over at all.
    """
    total = len(set(make_solver(sampling.sampler, sampling.num_inference_steps, config).times.tolist()))
    steps = sorted({whole_steps(share, total) for share in fractions})
    if steps == [0]:
        message = f"none of these fractions is as much as half a step of {total}: {', '.join(map(str, fractions))}"
        raise TaskError("too_few_steps", message, "fractions")
    return [count / total for count in steps]


@torch.inference_mode()
def chain_latents(
    tuned: DiT,
    base: DiT,
    labels: Int[Tensor, " n"],
    sampling: Sampling,
    shares: Sequence[float],
    *,
    first_index: int = 0,
    progress: Progress = lambda _: None,
) -> tuple[Float[Tensor, "k n c h w"], list[int]]:
    """Latents of images `first_index ...` for each share of the chain handed over, and how many steps each is.

    Passes of both models are remembered, so that k shares of N steps cost the tuned model N steps, not k N.

    Args:
        tuned: begins the chain; with `labels`, guided as `sampling` says.
        base: ends it, under its own null label.
        labels: of the target.
        sampling: the same for all.
        shares: rising from 0.
        first_index: of these images among all: their noise is a function of seed and index.
        progress: hears how many of k n images are drawn.
    """
    at_once = Ways.of(tuned).is_joint  # what time and label tell blocks is computed once for each label
    source = Memoised(AtOneTime(base) if at_once else base)
    chain = HandOver(Memoised(AtOneTime(tuned) if at_once else tuned), UnderNull(source, base.null_label))
    draw = partial(sample_latents, tuned, labels, sampling, source=base, denoise=chain, source_denoise=source)
    drawn: list[Tensor] = []
    steps: list[int] = []
    for share in shares:
        steps.append(chain.hand_over(share))
        heard = after(len(drawn) * len(labels), progress)
        drawn.append(draw(first_index=first_index, progress=heard))
    return torch.stack(drawn), steps


@dataclass(frozen=True)
class Drawn:
    """What is kept of the images of one share."""

    steps: int
    """Steps that the base model took."""
    features: Float32[np.ndarray, "n d"]
    examples: UInt8[np.ndarray, "e s s 3"]
    """The first images."""


@dataclass(frozen=True)
class ChainDrawing:
    """How images are drawn and looked at."""

    sampling: Sampling
    num_images: int
    num_examples: int
    autoencoder: Autoencoder
    extractor: FeatureExtractor
    precision: Precision = FP32
    """What both networks compute in; decoder and extractor compute in float32."""

    def chain(
        self, tuned: DiT, base: DiT, labels: Int[Tensor, " n"], shares: Sequence[float], progress: Progress
    ) -> list[Drawn]:
        """The images of each share; `progress` hears how many of `len(shares) num_images` are drawn."""
        steps: list[int] = []
        features: list[list[Any]] = [[] for _ in shares]
        examples: list[list[Any]] = [[] for _ in shares]
        count = _ON_GPU if base.pos_embed.device.type == "cuda" else _BATCH
        for start in range(0, self.num_images, count):
            batch = labels[start : start + count]
            heard = after(len(shares) * start, progress)
            with self.precision.autocast():
                latents, steps = chain_latents(
                    tuned, base, batch, self.sampling, shares, first_index=start, progress=heard
                )
            for share, of_share in enumerate(latents):
                images = self.autoencoder.decode(of_share)
                features[share].append(self.extractor(images))
                examples[share].append(images[: max(0, self.num_examples - start)])
        found = zip(steps, features, examples, strict=True)
        return [Drawn(count, np.concatenate(f), np.concatenate(e)) for count, f, e in found]

    def alone(self, base: DiT, progress: Progress) -> Drawn:
        """The base model's own images from the same noise: the whole chain handed over."""
        features: list[Any] = []
        examples: list[Any] = []
        for start in range(0, self.num_images, AT_ONCE):
            null = torch.full((min(AT_ONCE, self.num_images - start),), base.null_label)
            heard = after(start, progress)
            with self.precision.autocast():
                latents = sample_latents(base, null, self.sampling, source=base, first_index=start, progress=heard)
            images = self.autoencoder.decode(latents)
            features.append(self.extractor(images))
            examples.append(images[: max(0, self.num_examples - start)])
        return Drawn(self.sampling.num_inference_steps, np.concatenate(features), np.concatenate(examples))
