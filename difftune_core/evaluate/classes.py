"""The classes of the images that are drawn to be held against held-out ones.

FID and KID compare two distributions. A model that draws every class perfectly, but in another mix than the reference
has, is at a distance from it; so by default images are drawn in the held-out images' own mix.
Shapes: n images to draw, m held out, k classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from difftune_core.config.evaluation import ClassDistribution
from difftune_core.runtime.rng import generator

_NAMED = 5
TOLD: dict[ClassDistribution, str] = {"equal": "equal shares", "as_validation": "as_validation"}
"""Names of distributions in recipes; `equal shares` is what they said when there was nothing else."""


def equal_labels(num_images: int, num_classes: int) -> Int[Tensor, " n"]:
    """Take every class in turn: equal shares, and the first classes only where there are fewer images than classes."""
    return torch.arange(num_images) % num_classes


def spread_labels(num_images: int, num_classes: int) -> Int[Tensor, " n"]:
    """Take every class in turn, and classes from the whole table where there are fewer images than classes."""
    every = torch.arange(num_images)
    return every * num_classes // num_images if num_classes > num_images else every % num_classes


def labels_like(held_out: Int[Tensor, " m"], num_images: int, *, num_classes: int, seed: int) -> Int[Tensor, " n"]:
    """Labels in the proportions of those held out, mixed evenly over the whole.

    Shares are rounded by largest remainders, so no class is off by an image: labels drawn at random would add the
    noise of their counts to every figure. Equal remainders go by a permutation of the seed, not by the alphabet. With
    fewer images than classes the most frequent get one each; a class without a held-out image gets none.
    """
    found = torch.bincount(held_out.cpu(), minlength=num_classes).tolist()
    counts = [count * num_images // len(held_out) for count in found]
    order = torch.randperm(num_classes, generator=generator(seed, "class shares")).tolist()
    by_remainder = sorted(range(num_classes), key=lambda k: (-(found[k] * num_images % len(held_out)), order[k]))
    for label in by_remainder[: num_images - sum(counts)]:
        counts[label] += 1
    placed = [((i + 0.5) / count, label) for label, count in enumerate(counts) for i in range(count)]
    return torch.tensor([label for _, label in sorted(placed)])


def labels_to_draw(
    rule: ClassDistribution, held_out: Int[Tensor, " m"], num_images: int, *, num_classes: int, seed: int
) -> Int[Tensor, " n"]:
    """The labels that `evaluation.class_distribution` asks for; equal shares where nothing is held out."""
    if rule == "equal" or not len(held_out):
        return equal_labels(num_images, num_classes)
    return labels_like(held_out, num_images, num_classes=num_classes, seed=seed)


def told_of_classes(drawn: Int[Tensor, " n"], held_out: Int[Tensor, " m"], names: Sequence[str]) -> list[str]:
    """Return what a reader must know of the classes that the figures leave out."""
    judged, there = set(drawn.tolist()), set(held_out.tolist())
    told = []
    if absent := [name for label, name in enumerate(names) if label not in there]:
        told.append(f"No held-out image is of {_listed(absent)}: FID and KID say nothing of how well that is drawn.")
    if undrawn := [name for label, name in enumerate(names) if label in there - judged]:
        told.append(f"num_images is too small to draw {_listed(undrawn)}: FID and KID are too high by what is missing.")
    return told


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more classes" if len(names) > _NAMED else ""
    return ", ".join(repr(name) for name in names[:_NAMED]) + more
