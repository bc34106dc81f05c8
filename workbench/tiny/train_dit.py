"""Pre-train the bundled DiT on rendered letters: `python -m workbench.tiny.train_dit --out DIR --minutes N`.

The autoencoder must be there already. The weights that are kept are the average, in float16.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor

from difftune_core.checkpoint.average import update_average
from difftune_core.diffusion.process import Process, make_process
from difftune_core.families.dit.files import load_dit, write_dit_config
from difftune_core.networks.autoencoder import Autoencoder
from difftune_core.networks.dit import DiT, DiTConfig
from difftune_core.networks.state import WEIGHTS
from difftune_core.objectives.denoising import denoising_loss, noised
from difftune_core.runtime.tensors import save_tensors
from workbench.tiny.world import SOURCE_CLASSES, World

CONFIG = DiTConfig(
    input_size=8,
    hidden_size=128,
    depth=6,
    num_heads=4,
    num_classes=len(SOURCE_CLASSES),
    timestep_frequencies="diffusers",  # so that the exported pipeline is the same function
)
LEARNING_RATE, FINAL_SHARE, WARMUP_STEPS, BATCH, DECAY, LABEL_DROPOUT = 1e-3, 0.02, 500, 128, 0.9995, 0.1


def source_latents(count: int, vae: Path, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, standard deviation and label of `count` rendered letters, in float16. [n, 4, 8, 8] twice and [n]."""
    world = World(seed)
    autoencoder = Autoencoder(vae)
    images, labels = world.source_batch(0, count)
    mean, std = autoencoder.encode(images)
    return mean, std, torch.from_numpy(labels)


def learning_rate(progress: float, step: int) -> float:
    """Linear warm-up, then a cosine down to a small share, over the run's `progress` in [0, 1]."""
    warm = min(1.0, (step + 1) / WARMUP_STEPS)
    return LEARNING_RATE * warm * (FINAL_SHARE + (1 - FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * min(progress, 1))))


def batches(latents: tuple[Tensor, Tensor, Tensor], process: Process) -> Iterator[tuple[Tensor, ...]]:
    """Endless (x0, noise, t, labels) with 10 % of the labels dropped."""
    mean, std, labels = latents
    while True:
        chosen = torch.randint(len(labels), (BATCH,))
        x0 = mean[chosen].float() + std[chosen].float() * torch.randn(BATCH, *mean.shape[1:])
        y = labels[chosen].masked_fill(torch.rand(BATCH) < LABEL_DROPOUT, CONFIG.num_classes)
        yield x0, torch.randn_like(x0), process.draw_times(BATCH, torch.default_generator), y


def save(model: DiT, folder: Path) -> None:
    """Weights in float16; the position embedding follows from the anatomy and is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: t.half().contiguous() for name, t in model.state_dict().items() if name != "pos_embed"}
    aside = folder / f".{WEIGHTS}"
    save_tensors(state, aside)
    aside.chmod(0o644)  # safetensors writes for the owner alone
    aside.replace(folder / WEIGHTS)
    write_dit_config(folder, model.config)


def fresh(seed: int) -> DiT:
    """A model before its training."""
    torch.manual_seed(seed)
    return DiT(CONFIG)


def train(model: DiT, out: Path, images: int, seed: int, *, minutes: float = math.inf, steps: float = math.inf) -> None:
    """Train for `minutes` of wall time or for `steps` and save the average every few minutes."""
    torch.manual_seed(seed)
    process = make_process(CONFIG)
    stream = batches(source_latents(images, out / "vae", seed), process)
    average = deepcopy(model).requires_grad_(False)  # noqa: FBT003  # no name in the library
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    begin, step, running, saved = time.monotonic(), 0, 0.0, 0.0
    while (progress := max((elapsed := (time.monotonic() - begin) / 60) / minutes, step / steps)) < 1:
        x0, noise, t, labels = next(stream)
        batch = noised(x0, noise, t, process)
        loss = denoising_loss(model(*process.network_inputs(batch.x_t, t), labels), batch, process).mean()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(progress, step)
        optimizer.step()
        update_average(average, model, min(DECAY, (1 + step) / (10 + step)))
        step += 1
        running += loss.item()
        if step % 200 == 0:
            print(f"{elapsed:6.1f} min  step {step}  loss {running / 200:.4f}", flush=True)  # noqa: T201  # a script
            running = 0.0
        if elapsed - saved > 5:  # noqa: PLR2004  # minutes between saves
            save(average, out / "dit")
            saved = elapsed
    save(average, out / "dit")


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("difftune_core/weights") / "tiny-dit")
    parser.add_argument("--minutes", type=float, default=50)
    parser.add_argument("--images", type=int, default=80_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start-from", type=Path, default=None)
    args = parser.parse_args()
    model = fresh(args.seed) if args.start_from is None else load_dit(args.start_from, CONFIG)
    train(model, args.out, args.images, args.seed, minutes=args.minutes)


if __name__ == "__main__":
    main()
