"""Trains the bundled feature network to classify the broad world; no target images are ever seen.

python -m workbench.tiny.train_features --out difftune_core/weights/tiny-features --minutes 25
"""

import logging
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from difftune_core.evaluate.tiny_features import CONFIG, WEIGHTS, TinyFeatureNet, load_feature_net
from difftune_core.files import sha256_file
from workbench.tiny.training import Schedule, arguments, batches, save_half, save_json, to_tensor
from workbench.tiny.world import BROAD_CLASSES, Split, World

logger = logging.getLogger(__name__)

BATCH = 64
PEAK_RATE = 3e-3
CHECKED = 4096
SOFT_SHARE = 0.3
SAVE_EVERY_SECONDS = 300.0

# Pairs of letters whose two cases differ in size alone, which random scaling hides.
_SAME_IN_BOTH_CASES = "cosvwxz"


def augment(images: torch.Tensor) -> torch.Tensor:
    """Random affine map, blur, contrast, colour order and noise of images [n, 3, 32, 32] in [0, 1]."""
    count = len(images)
    angle = (torch.rand(count) - 0.5) * math.radians(20.0)
    scale = 1.0 + (torch.rand(count) - 0.5) * 0.3
    shift = (torch.rand(count, 2) - 0.5) * 0.2
    rows = [
        scale * angle.cos(),
        -scale * angle.sin(),
        shift[:, 0],
        scale * angle.sin(),
        scale * angle.cos(),
        shift[:, 1],
    ]
    grid = functional.affine_grid(torch.stack(rows, 1).view(count, 2, 3), list(images.shape), align_corners=False)
    images = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    soft = functional.avg_pool2d(functional.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    images = torch.where(torch.rand(count, 1, 1, 1) < SOFT_SHARE, soft, images)
    images = images[:, torch.randperm(3)]
    gain = 1.0 + (torch.rand(count, 1, 1, 1) - 0.5) * 0.4
    noise = torch.randn_like(images) * (torch.rand(count, 1, 1, 1) - 0.5).clamp_min(0.0) * 0.16
    return (images * gain + noise).clamp(0.0, 1.0)


@torch.no_grad()
def accuracy(net: TinyFeatureNet, images: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Share of right answers, over all classes and over all with the cases of like letters taken as one."""
    net.eval()
    found = torch.cat([net.logits(x).argmax(1) for x in batches(images, 256)])
    one = torch.arange(len(BROAD_CLASSES))
    for letter in _SAME_IN_BOTH_CASES:
        one[BROAD_CLASSES.index(letter)] = BROAD_CLASSES.index(letter.upper())
    right = (found == labels).float().mean()
    alike = (one[found] == one[labels]).float().mean()
    return {"all_classes": round(float(right), 4), "cases_alike": round(float(alike), 4)}


def save(net: TinyFeatureNet, out: Path) -> None:
    """Saves config.json and the weights in fp16."""
    save_half(net.state_dict(), out / WEIGHTS)
    save_json(net.config, out / CONFIG)


def train(out: Path, *, seed: int, schedule: Schedule, images: torch.Tensor, labels: torch.Tensor) -> int:
    """Trains on images, uint8 [n, 3, 32, 32], and saves now and then and at the end; the number of steps made."""
    torch.manual_seed(seed)
    net: Any = TinyFeatureNet(len(BROAD_CLASSES))
    net = net.to(memory_format=torch.channels_last)  # torch's types of `to` lack it
    optimizer = torch.optim.AdamW(net.parameters(), lr=PEAK_RATE, weight_decay=0.02)
    saved, step = time.monotonic(), 0
    schedule.started = time.monotonic()
    while schedule.progress(step) < 1.0:
        net.train()
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        chosen = torch.randint(len(images), (BATCH,))
        batch = augment(images[chosen].float().div(255.0)).contiguous(memory_format=torch.channels_last)
        loss = functional.cross_entropy(net.logits(batch), labels[chosen], label_smoothing=0.05)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        step += 1
        if step % 200 == 0:
            logger.info("step %d progress %.3f loss %.4f", step, schedule.progress(step), loss.item())
        if time.monotonic() - saved > SAVE_EVERY_SECONDS:
            save(net, out)
            saved = time.monotonic()
    save(net, out)
    return step


def main() -> None:
    """Trains, saves and writes card.json."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options = arguments(__doc__ or "", steps=8_000)
    held_out, true = World(options.seed, Split.HELD_OUT).broad_batch(0, CHECKED)
    images, labels = World(options.seed).broad_batch(0, options.pool)
    logger.info("pool of %d images", len(images))
    schedule = Schedule(PEAK_RATE, options.steps, options.minutes)
    pool = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    steps = train(options.out, seed=options.seed, schedule=schedule, images=pool, labels=torch.from_numpy(labels))
    net = load_feature_net(options.out)
    card = {
        "kind": "tiny",
        "id": "tiny-features",
        "description": "64 features of 32 x 32 images, for tests and the demo; distances compare runs with each other.",
        "licence": "Apache-2.0",
        "source": "trained by workbench.tiny on drawn letters, scribbles and shapes",
        "created_at": int(time.time()),
        "made_by": "python -m workbench.tiny.train_features",
        "seed": options.seed,
        "steps": steps,
        "batch_size": BATCH,
        "training_images": options.pool,
        "num_parameters": sum(p.numel() for p in net.parameters()),
        "digest": sha256_file(options.out / WEIGHTS),
        "classes": len(BROAD_CLASSES),
        "held_out_accuracy": accuracy(net, to_tensor(held_out), torch.from_numpy(true)),
    }
    save_json(card, options.out / "card.json")
    logger.info("final %s", card)


if __name__ == "__main__":
    main()
