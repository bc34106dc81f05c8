"""Trains the autoencoder of the bundled `tiny-sd` on scenes of both worlds.

Usage: `python -m workbench.tiny.train_sd_autoencoder --out difftune_core/weights/tiny-sd/vae --minutes 20`.

It is broad, as Stable Diffusion's is: what a ControlNet can be taught of world B must not fail at its latents. The loss
is that of `train_autoencoder`.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cli.demo.scenes import Split
from difftune_core.data.conditions.lines import edge
from difftune_core.families.controlnet.controls import compare_controls
from workbench.tiny.scene_pool import scene_pool
from workbench.tiny.train_autoencoder import EMA_DECAY, latent_scale, loss_of, reconstruct, report, save
from workbench.tiny.training import Schedule, arguments, save_json, to_tensor

logger = logging.getLogger(__name__)

SIZE = 64
LATENT_CHANNELS = 8
BATCH = 8
PEAK_RATE = 2e-3
SAVE_EVERY_SECONDS = 180.0
CHECKED = 256
POOLS = Path("build/scenes")


def build() -> Any:
    """A new AutoencoderKL from 64 x 64 x 3 in [-1, 1] to 8 x 8 x 8."""
    cls: Any = AutoencoderKL
    model = cls(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 16, 32, 64),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=1,  # as in `train_autoencoder`
        sample_size=SIZE,
        mid_block_add_attention=False,
    )
    with torch.no_grad():  # as there
        model.quant_conv.weight[:LATENT_CHANNELS] *= 5.0
        model.quant_conv.weight[LATENT_CHANNELS:] *= 0.1
        model.quant_conv.bias[LATENT_CHANNELS:] = -6.0
    return model


def checks(cache: Path) -> dict[str, torch.Tensor]:
    """Held-out scenes by world, in [0, 1]."""
    pools = {world: scene_pool(world, CHECKED, cache, Split.HELD_OUT) for world in ("a", "b")}
    return {f"world_{world}": to_tensor(np.array(pool.images)) for world, pool in pools.items()}


def edges_kept(model: Any, images: torch.Tensor) -> float:
    """SSIM of the edges of reconstructions with those of the images: no ControlNet can do better."""
    rebuilt = reconstruct(model, images)
    pairs = [(x.permute(0, 2, 3, 1) * 255).round().byte().numpy() for x in (images, rebuilt)]
    given, drawn = (np.stack([edge(np.ascontiguousarray(image)) for image in side]) for side in pairs)
    return round(compare_controls("edge", given, drawn).values["ssim"], 3)


def train(out: Path, *, seed: int, schedule: Schedule, pool: torch.Tensor, sets: dict[str, torch.Tensor]) -> int:
    """Trains and saves the averaged weights, now and then and at the end; the number of steps made."""
    torch.manual_seed(seed)
    model = build().to(memory_format=torch.channels_last)
    average: Any = get_ema_multi_avg_fn  # torch leaves it without types
    ema: Any = AveragedModel(model, multi_avg_fn=average(EMA_DECAY))
    optimizer = torch.optim.Adam(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.99))
    saved, step = time.monotonic(), 0
    schedule.started = time.monotonic()
    while schedule.progress(step) < 1.0:
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        batch = pool[torch.randint(len(pool), (BATCH,))].float().div(127.5).sub(1.0)
        flips = [3] if torch.randint(2, ()) else []
        loss = loss_of(model, batch.flip(flips).contiguous(memory_format=torch.channels_last))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        ema.update_parameters(model)
        step += 1
        if step % 200 == 0:
            logger.info("step %d progress %.3f loss %.4f", step, schedule.progress(step), loss.item())
        if time.monotonic() - saved > SAVE_EVERY_SECONDS:
            save(ema.module, out, sets["world_a"])
            logger.info("saved; PSNR in dB %s", report(ema.module, sets))
            saved = time.monotonic()
    save(ema.module, out, sets["world_a"])
    return step


def main() -> None:
    """Trains, saves and writes card.json."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options = arguments(__doc__ or "", steps=6_000, pool=12_000)
    sets = checks(POOLS)
    halves = [scene_pool(world, options.pool // 2, POOLS).images for world in ("a", "b")]
    pool = torch.from_numpy(np.concatenate(halves)).permute(0, 3, 1, 2).contiguous()
    schedule = Schedule(PEAK_RATE, options.steps, options.minutes)
    steps = train(options.out, seed=options.seed, schedule=schedule, pool=pool, sets=sets)
    loader: Any = AutoencoderKL
    model = loader.from_pretrained(options.out, torch_dtype=torch.float32).eval()
    card = {
        "made_by": "python -m workbench.tiny.train_sd_autoencoder",
        "seed": options.seed,
        "steps": steps,
        "batch_size": BATCH,
        "training_images": len(pool),
        "parameters": sum(p.numel() for p in model.parameters()),
        "scaling_factor": model.config.scaling_factor,
        "unit_scale": latent_scale(model, sets["world_b"]),
        "psnr_db": report(model, sets),
        "edge_ssim": {name: edges_kept(model, images) for name, images in sets.items()},
    }
    save_json(card, options.out / "card.json")
    logger.info("final %s", card)


if __name__ == "__main__":
    main()
