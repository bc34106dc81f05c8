"""The chain of forgetting: the last steps of the reverse chain by the base model (Diff-Tuning, sec. 3 and Fig. 1).

The tuned model begins, with class labels and guidance; from a step on the base model ends. The source has no labels
for the target's classes, so the base model runs under its null label, where guidance has nothing to add. All hand-overs
of an image start from one noise and share the steps before them.
Shapes: n images, k shares, c latent channels, h w their size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8
from torch import Tensor, nn

from difftune_core.diffusion.sampler import Sampling, sample_latents
from difftune_core.diffusion.solvers import make_solver
from difftune_core.evaluate.features import FeatureExtractor
from difftune_core.hooks import TaskError
from difftune_core.interruption import Progress, after
from difftune_core.models.autoencoder import Autoencoder
from difftune_core.models.dit import DiT, DiTConfig

_BATCH = 64


class Remembering(DiT):
    """A model that answers a pass it has just made from memory: two chains share the steps they have in common.

    For each timestep the last conditional and the last unconditional pass are kept, with what they were asked, and
    given again only where it is asked bit for bit.
    """

    def __init__(self, model: DiT) -> None:
        """Wrap `model`; it has the anatomy, and no weights of its own."""
        nn.Module.__init__(self)
        self.config, self.pos_embed = model.config, model.pos_embed
        self._model = model
        self._passes: dict[tuple[float, bool], tuple[Tensor, Tensor, Tensor]] = {}

    def forward(
        self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], y: Int[Tensor, " b"]
    ) -> Float[Tensor, "b out h w"]:
        """As the wrapped model."""
        key = float(t[0]), bool((y == self.null_label).all())
        known = self._passes.get(key)
        if known is None or not (torch.equal(known[0], x) and torch.equal(known[1], y)):
            known = x, y, self._model(x, t, y)
            self._passes[key] = known
        return known[2]


class HandOver(DiT):
    """The tuned model, and in the last steps of the chain the base model under its null label."""

    def __init__(self, tuned: DiT, base: DiT) -> None:
        """Both without a hand-over yet."""
        nn.Module.__init__(self)
        self.config, self.pos_embed = tuned.config, tuned.pos_embed
        self._tuned, self._base = tuned, base
        self._times: set[float] = set()
        self._handed: frozenset[float] = frozenset()

    def hand_over(self, share: float) -> int:
        """From now on the last `share` of the steps are the base model's; how many those are.

        Steps are known from the first chain, which must be the tuned model's alone.
        """
        assert self._times or share == 0, "the first chain tells which steps there are"
        count = _whole_steps(share, len(self._times))
        self._handed = frozenset(sorted(self._times)[:count])
        return count

    def forward(
        self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], y: Int[Tensor, " b"]
    ) -> Float[Tensor, "b out h w"]:
        """As the model whose step it is."""
        time = float(t[0])
        self._times.add(time)
        if time not in self._handed:
            prediction: Tensor = self._tuned(x, t, y)
            return prediction
        handed: Tensor = self._base(x, t, torch.full_like(y, self._base.null_label))
        return handed


def runnable(fractions: Sequence[float], sampling: Sampling, config: DiTConfig) -> list[float]:
    """The shares that a chain of whole steps can hand over for these: each once, as what it really is.

    Of 5 steps a tenth and a fifth are both one; drawn twice it would seem a plateau, and count twice against chance.

    Raises:
        TaskError: `too_few_steps`, nothing would be handed over at all.
    """
    total = len(set(make_solver(sampling.sampler, sampling.num_inference_steps, config).times.tolist()))
    steps = sorted({_whole_steps(share, total) for share in fractions})
    if steps == [0]:
        message = f"none of these fractions is as much as half a step of {total}: {', '.join(map(str, fractions))}"
        raise TaskError("too_few_steps", message, "fractions")
    return [count / total for count in steps]


def _whole_steps(share: float, total: int) -> int:
    return int(share * total + 0.5)


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
    source = Remembering(base)
    chain = HandOver(Remembering(tuned), source)
    drawn: list[Tensor] = []
    steps: list[int] = []
    for share in shares:
        steps.append(chain.hand_over(share))
        heard = after(len(drawn) * len(labels), progress)
        drawn.append(sample_latents(chain, labels, sampling, source=source, first_index=first_index, progress=heard))
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
class Easel:
    """How images are drawn and looked at."""

    sampling: Sampling
    num_images: int
    num_examples: int
    autoencoder: Autoencoder
    extractor: FeatureExtractor

    def chain(
        self, tuned: DiT, base: DiT, labels: Int[Tensor, " n"], shares: Sequence[float], progress: Progress
    ) -> list[Drawn]:
        """The images of each share; `progress` hears how many of `len(shares) num_images` are drawn."""
        steps: list[int] = []
        features: list[list[Any]] = [[] for _ in shares]
        examples: list[list[Any]] = [[] for _ in shares]
        for start in range(0, self.num_images, _BATCH):
            batch = labels[start : start + _BATCH]
            heard = after(len(shares) * start, progress)
            latents, steps = chain_latents(tuned, base, batch, self.sampling, shares, first_index=start, progress=heard)
            for share, of_share in enumerate(latents):
                images = self.autoencoder.decode(of_share)
                features[share].append(self.extractor(images))
                examples[share].append(images[: max(0, self.num_examples - start)])
        found = zip(steps, features, examples, strict=True)
        return [Drawn(count, np.concatenate(f), np.concatenate(e)) for count, f, e in found]

    def alone(self, base: DiT, progress: Progress) -> Drawn:
        """The base model's own images from the same noise: the whole chain handed over."""
        null = torch.full((self.num_images,), base.null_label)
        latents = sample_latents(base, null, self.sampling, source=base, progress=progress)
        images = self.autoencoder.decode(latents)
        steps = self.sampling.num_inference_steps
        return Drawn(steps, self.extractor(images), images[: self.num_examples])
