"""Guards of what is trained: one step from the same weights, latents, times, noise and labels, by both sides."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.harness.claims import Guard

LEAST_COSINE, MOST_LOSS = 0.999, 0.01


def same_gradient(
    network: nn.Module, reference: Callable[[], Tensor], ours: Callable[[], Tensor], theirs: nn.Module | None = None
) -> Guard:
    """Compare losses and gradients of what `network` trains.

    Args:
        network: with parameters that require gradients; they have none afterwards.
        reference: gives the loss of the other side.
        ours: gives ours for the same input.
        theirs: what the other side's loss goes through, where that is another network with the same weights.
    """
    wanted, whole = _gradient(theirs or network, reference)
    found, loss = _gradient(network, ours)
    cosine = _dot(wanted, found) / math.sqrt(_dot(wanted, wanted) * _dot(found, found))
    difference = abs(loss - whole) / abs(whole)
    return Guard(
        f"one step from equal state: cosine of gradients at least {LEAST_COSINE}, losses within {MOST_LOSS:.0%}",
        cosine >= LEAST_COSINE and difference <= MOST_LOSS,
        {"cosine": cosine, "loss_difference": difference},
    )


def _gradient(network: nn.Module, loss_of: Callable[[], Tensor]) -> tuple[list[Tensor], float]:
    network.zero_grad(set_to_none=True)
    loss = loss_of()
    torch.autograd.backward(loss)
    found = [p.grad.detach() for p in network.parameters() if p.grad is not None]
    network.zero_grad(set_to_none=True)
    return found, float(loss.detach())


def _dot(one: list[Tensor], other: list[Tensor]) -> float:
    return float(sum((a.double() * b.double()).sum() for a, b in zip(one, other, strict=True)))
