"""A network as the reverse loop sees it, and wrappers around one that remember its passes or hand its steps over.

Shapes: b images, `...` the shape of one.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

Condition = Tensor | tuple[Tensor, ...]
"""Condition of a pass, a row for each image: class labels, or text states and control images."""


NO_TIME = float("inf")
"""What a network is told where it is to know no time, as in Noise Awareness Guidance."""


@runtime_checkable  # the tests check arguments at run time
class Denoiser(Protocol):
    """A network of any kind: what it is shown and told, and the condition, give its output."""

    def __call__(self, x: Tensor, t: Tensor, condition: Condition, /) -> Tensor:
        """The output for inputs `x` (b ...) at times `t` (b)."""
        ...


def rows_of(condition: Condition, rows: slice) -> Condition:
    """Return some of a condition's rows."""
    if isinstance(condition, Tensor):
        return condition[rows]
    return tuple(part[rows] for part in condition)


def on_device(condition: Condition, device: torch.device) -> Condition:
    """The condition on a network's device."""
    if isinstance(condition, Tensor):
        return condition.to(device)
    return tuple(part.to(device) for part in condition)


def joined(first: Condition, second: Condition) -> Condition:
    """The rows of both conditions, those of `first` before those of `second`."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return _joined(first, second)
    return tuple(_joined(*pair) for pair in zip(first, second, strict=True))


def _joined(first: Tensor, second: Tensor) -> Tensor:
    """Join both as they are: states are of float16, and autocast joins its own type and float32 alone."""
    with torch.autocast(first.device.type, enabled=False):
        return torch.cat([first, second])


def are_equal(first: Condition, second: Condition) -> bool:
    """Return whether two conditions are the same bit for bit."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return torch.equal(first, second)
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


class Memoised:
    """A denoiser that answers a pass it has just made from memory: two chains share the steps they have in common.

    The last pass at each time under each condition is kept with what was asked, and given again only where the same is
    asked bit for bit. `of_one_step` keeps those of the newest time alone.
    """

    def __init__(self, denoise: Denoiser, *, of_one_step: bool = False) -> None:
        """Wrap `denoise`, of which no pass is known yet."""
        self._denoise, self._of_one_step = denoise, of_one_step
        self._passes: dict[float, list[tuple[Tensor, Condition, Tensor]]] = {}

    def __call__(self, x: Float[Tensor, "b ..."], t: Float[Tensor, " b"], condition: Condition) -> Tensor:
        """Give what the wrapped denoiser gives."""
        if self._of_one_step and float(t[0]) not in self._passes:
            self._passes.clear()
        known = self._passes.setdefault(float(t[0]), [])
        alike = next((number for number, (_, asked, _) in enumerate(known) if are_equal(asked, condition)), None)
        if alike is not None and torch.equal(known[alike][0], x):
            return known[alike][2]
        made = x, condition, self._denoise(x, t, condition)
        if alike is None:
            known.append(made)
        else:
            known[alike] = made
        return made[2]


class HandOver:
    """A denoiser that begins the chain, and another one in its last steps."""

    def __init__(self, first: Denoiser, last: Denoiser) -> None:
        """Wrap both, without a hand-over yet."""
        self._first, self._last = first, last
        self._times: set[float] = set()
        self._handed: frozenset[float] = frozenset()

    def hand_over(self, share: float) -> int:
        """Give the last `share` of the steps to the other denoiser from now on, and tell how many those are.

        Steps are known from the first chain, which must be the first denoiser's alone.
        """
        assert self._times or share == 0, "the first chain tells which steps there are"
        count = whole_steps(share, len(self._times))
        self._handed = frozenset(sorted(self._times)[:count])
        return count

    def __call__(self, x: Float[Tensor, "b ..."], t: Float[Tensor, " b"], condition: Condition) -> Tensor:
        """Give what the denoiser gives whose step it is."""
        time = float(t[0])
        self._times.add(time)
        denoise = self._last if time in self._handed else self._first
        return denoise(x, t, condition)


class EndedBy:
    """A denoiser whose chain another one ends: what lies below a time, as networks are told times, is the other's."""

    def __init__(self, first: Denoiser, last: Denoiser, below: float) -> None:
        """Wrap both denoisers."""
        self._first, self._last, self._below = first, last, below

    def __call__(self, x: Float[Tensor, "b ..."], t: Float[Tensor, " b"], condition: Condition) -> Tensor:
        """Give what the denoiser gives whose step it is."""
        denoise = self._last if float(t[0]) < self._below else self._first
        return denoise(x, t, condition)


class WithoutTime:
    """A denoiser that is told no time, whatever the time is."""

    def __init__(self, denoise: Denoiser) -> None:
        """Wrap a denoiser that was trained without time in a share of its slots."""
        self._denoise = denoise

    def __call__(self, x: Float[Tensor, "b ..."], t: Float[Tensor, " b"], condition: Condition) -> Tensor:
        """Give the output without time."""
        return self._denoise(x, torch.full_like(t, NO_TIME), condition)


def whole_steps(share: float, total: int) -> int:
    """The number of whole steps nearest to a share of a chain of `total`."""
    return int(share * total + 0.5)
