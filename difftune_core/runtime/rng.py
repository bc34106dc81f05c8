"""Randomness as a function of (seed, step, purpose): nothing to save, nothing a preview or a resume can disturb."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import torch
from jaxtyping import Int
from torch import Tensor


def generator(*key: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator seeded by the whole key, for example `generator(seed, step, "noise")`."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(digest, "big") >> 1)


@lru_cache(maxsize=8)
def _order(seed: int, purpose: str, epoch: int, size: int) -> Tensor:
    """The order of one epoch; kept, because many steps fall into it."""
    return torch.randperm(size, generator=generator(seed, purpose, epoch))


def stream_indices(seed: int, purpose: str, *, start: int, count: int, size: int) -> Int[Tensor, " {count}"]:
    """Items `start .. start + count` of an endless stream over `size` items, each epoch in an order of its own.

    The order of an epoch is a function of (seed, purpose, epoch), so a position is all that describes the stream.
    """
    pieces = []
    position = start
    while position < start + count:
        epoch, offset = divmod(position, size)
        piece = _order(seed, purpose, epoch, size)[offset : offset + start + count - position]
        pieces.append(piece)
        position += len(piece)
    return torch.cat(pieces)
