"""Randomness as a function of (seed, step, purpose): nothing to save, nothing a preview or a resume can disturb."""

from __future__ import annotations

import hashlib

import torch
from jaxtyping import Float, Int
from torch import Tensor


def generator(*key: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator seeded by the whole key, for example `generator(seed, step, "noise")`."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(digest, "big") >> 1)


def stream_indices(seed: int, purpose: str, *, start: int, count: int, size: int) -> Int[Tensor, " count"]:
    """Items `start .. start + count` of an endless stream over `size` items, each epoch in an order of its own.

    The order of an epoch is a function of (seed, purpose, epoch), so a position is all that describes the stream.
    """
    positions = torch.arange(start, start + count)
    epochs = positions // size
    orders = {e: torch.randperm(size, generator=generator(seed, purpose, e)) for e in set(epochs.tolist())}
    return torch.stack([orders[int(e)][int(p) % size] for e, p in zip(epochs, positions, strict=True)])


def noise_per_item(
    seed: int, indices: list[int], shape: tuple[int, ...], *, purpose: str = "sample"
) -> Float[Tensor, "n ..."]:
    """Gaussian noise, item i a function of (seed, i) alone: a sample does not depend on its batch."""
    return torch.stack([torch.randn(shape, generator=generator(seed, purpose, i)) for i in indices])
