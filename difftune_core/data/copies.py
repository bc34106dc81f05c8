"""Copies: images with equal pixels, whatever their files are called or how they are packed.

They are compared as a run sees them, decoded and at its size, so that the same picture saved again without loss is one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from jaxtyping import UInt8

from difftune_core.data.columns import grouped

Key = bytes
"""Equal for equal pixels."""


def copy_keys(pixels: UInt8[np.ndarray, "n s s 3"]) -> list[Key]:
    """Return what tells each image from those that it is no copy of."""
    return [copy_key(image) for image in pixels]


def copy_key(pixels: UInt8[np.ndarray, "h w 3"]) -> Key:
    """Return what tells an image from others of its size that it is no copy of."""
    return hashlib.sha256(np.ascontiguousarray(pixels).data).digest()


@dataclass(frozen=True)
class Copies:
    """How many images of a run occur more than once."""

    num_shared: int
    """Held-out images that are trained on too."""
    num_repeated: int
    """Training images that are copies of one before them."""
    num_relabelled: int
    """Pictures, of all, that occur under several classes or captions."""

    def sentences(self, num_held_out: int, label: str) -> Iterator[str]:
        """Tell of the copies in sentences, worst first.

        Args:
            num_held_out: held-out images in all.
            label: what the images of this run have, `class` or `caption`.
        """
        if self.num_shared:
            yield shared_sentence(self.num_shared, num_held_out)
        if self.num_relabelled:
            yield f"{_counted(self.num_relabelled, 'picture occurs', 'pictures occur')} with more than one {label}."
        if self.num_repeated:
            yield f"{_counted(self.num_repeated, 'training image is a copy', 'training images are copies')} of another."


def shared_sentence(num_shared: int, num_held_out: int) -> str:
    """Return what to say of held-out images that are trained on."""
    are = "is a training image" if num_shared == 1 else "are training images"
    told = f"{num_shared} of {num_held_out} held-out images {are} too"
    return f"{told}: figures are better than they would be of images that the model has not seen."


def count_copies(
    training: Sequence[Key], held_out: Sequence[Key], labels: Sequence[str], held_out_labels: Sequence[str]
) -> Copies:
    """Compare all images with one another.

    Args:
        training: key of each training image.
        held_out: key of each held-out image.
        labels: class or caption of each training image.
        held_out_labels: class or caption of each held-out image.
    """
    pictures = grouped(chain(training, held_out))
    trained_on, judged_on = pictures[: len(training)], pictures[len(training) :]
    pairs = np.stack([pictures, grouped(chain(labels, held_out_labels))], axis=1)
    labels_of = np.bincount(np.unique(pairs, axis=0)[:, 0]) if len(pairs) else np.empty(0, np.int64)
    return Copies(
        num_shared=int(np.isin(judged_on, trained_on).sum()),
        num_repeated=len(training) - len(np.unique(trained_on)),
        num_relabelled=int((labels_of > 1).sum()),
    )


def _counted(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"
