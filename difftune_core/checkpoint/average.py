"""The moving average of the weights: on the device, or on the host where the device has no room for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the average towards the model: decay * average + (1 - decay) * model, in one fused pass."""
    pairs = _trained(average, model)
    torch._foreach_lerp_([a for a, _ in pairs], [m for _, m in pairs], 1 - decay)


class HostAverage:
    """An average on the host. A step's weights are sent while the next step is computed, and taken in after it."""

    def __init__(self, average: nn.Module, model: nn.Module) -> None:
        """Bring the average of what is trained to the host."""
        self._pairs = _trained(average, model)
        self._device = self._pairs[0][1].device
        self._move(torch.device("cpu"))
        pinned = self._device.type == "cuda"
        self._sent = [torch.empty(a.shape, dtype=a.dtype, pin_memory=pinned) for a, _ in self._pairs]
        self._arrived: torch.cuda.Event | None = None
        self._decay: float | None = None

    @torch.no_grad()
    def take(self, decay: float) -> None:
        """Send the weights of the step that was taken, once those of the step before are taken in."""
        self.settle()
        for buffer, (_, weight) in zip(self._sent, self._pairs, strict=True):
            buffer.copy_(weight, non_blocking=True)
        if self._device.type == "cuda":
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]  # of the library
            self._arrived.record()
        self._decay = decay

    @torch.no_grad()
    def settle(self) -> None:
        """Take in what was sent, so that the average is that of the last step."""
        if self._decay is None:
            return
        if self._arrived is not None:
            self._arrived.synchronize()
        torch._foreach_lerp_([a for a, _ in self._pairs], self._sent, 1 - self._decay)
        self._decay = None

    @contextmanager
    def on_device(self) -> Iterator[None]:
        """Have the average on the device for a time, to be judged."""
        self.bring_back()
        try:
            yield
        finally:
            self._move(torch.device("cpu"))

    def bring_back(self) -> None:
        """Have the average on the device."""
        self.settle()
        self._move(self._device)

    def _move(self, device: torch.device) -> None:
        for average, _ in self._pairs:
            average.data = average.data.to(device)


def _trained(average: nn.Module, model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    return [(a, m) for a, m in zip(average.parameters(), model.parameters(), strict=True) if m.requires_grad]
