"""What the training scripts share: the schedule, the command line, pictures to tensors, files and figures."""

import argparse
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from difftune_core.runtime.tensors import save_tensors

logger = logging.getLogger(__name__)


@dataclass
class Schedule:
    """Warm-up and cosine decay over a number of steps or a length of wall-clock time, whichever is given.

    Args:
        peak: learning rate after the warm-up.
        steps: length in steps, used where minutes is None.
        minutes: length in minutes; the number of steps then depends on the machine.
        warmup: steps of linear warm-up.
    """

    peak: float
    steps: int
    minutes: float | None = None
    warmup: int = 200
    started: float = field(default_factory=time.monotonic)

    def progress(self, step: int) -> float:
        """Share of the training that is over, in [0, 1]."""
        if self.minutes is None:
            return min(1.0, step / self.steps)
        return min(1.0, (time.monotonic() - self.started) / (60.0 * self.minutes))

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        return self.peak * min(1.0, (step + 1) / self.warmup) * 0.5 * (1.0 + math.cos(math.pi * self.progress(step)))


def optimised(model: Any, loss_of: Callable[[int], torch.Tensor], schedule: Schedule, *, weight_decay: float) -> Any:
    """Train a model by AdamW for the schedule's steps; `loss_of` draws the batch of a step and returns its loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=schedule.peak, weight_decay=weight_decay)
    for step in range(schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        loss = loss_of(step)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 100 == 0:
            logger.info("step %d loss %.4f", step + 1, loss.item())
    return model.eval()


def arguments(description: str, *, steps: int, pool: int = 80_000) -> argparse.Namespace:
    """The scripts' options: --out, --minutes, --steps, --seed and --pool."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights")
    parser.add_argument("--minutes", type=float, help="train for this long in place of --steps")
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pool", type=int, default=pool, help="training images rendered beforehand")
    return parser.parse_args()


def to_tensor(images: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 [n, 32, 32, 3] to float32 [n, 3, 32, 32] in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255.0)


def batches(images: torch.Tensor, size: int) -> Iterator[torch.Tensor]:
    """Images in parts of at most `size`."""
    for start in range(0, len(images), size):
        yield images[start : start + size]


def psnr(images: torch.Tensor, reconstructions: torch.Tensor) -> float:
    """Mean over images of the peak signal-to-noise ratio in dB, for values in [0, 1]."""
    errors = (images - reconstructions.clamp(0.0, 1.0)).square().flatten(1).mean(1).clamp_min(1e-10)
    return float((-10.0 * errors.log10()).mean())


def replace(file: Path, write: Callable[[Path], object]) -> None:
    """Writes a file beside its place and renames it, so that a reader never sees half of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    write(partial)
    partial.chmod(0o644)
    partial.replace(file)


def save_half(tensors: Mapping[str, torch.Tensor], file: Path) -> None:
    """Saves tensors as safetensors, floating-point ones in fp16."""
    half = {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}
    half = {name: t.detach().cpu().contiguous() for name, t in half.items()}
    replace(file, lambda partial: save_tensors(half, partial, metadata={"format": "pt"}))


def save_json(content: Mapping[str, object], file: Path) -> None:
    """Saves a JSON object, indented, with a newline at the end."""
    replace(file, lambda partial: partial.write_text(json.dumps(content, indent=2) + "\n"))
