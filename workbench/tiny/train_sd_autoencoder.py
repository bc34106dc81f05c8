"""Trains the autoencoder of the bundled `tiny-sd` on scenes of both worlds.

Usage: `python -m workbench.tiny.train_sd_autoencoder --out difftune_core/weights/tiny-sd/vae --minutes 20`.

It is broad, as Stable Diffusion's is: what a ControlNet can be taught of world B must not fail at its latents. The loss
is that of `train_autoencoder`.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cli.demo.scenes import Split
from difftune_core.data.conditions.lines import edge
from difftune_core.families.controlnet.controls import compare_controls
from workbench.tiny.scene_pool import scene_pool
from workbench.tiny.train_autoencoder import Fit, latent_scale, reconstruct
from workbench.tiny.training import arguments, save_json, to_tensor

logger = logging.getLogger(__name__)

SIZE = 64
LATENT_CHANNELS = 8
WIDTHS = (8, 16, 32, 64)
BATCH = 8
COMMAND = "python -m workbench.tiny.train_sd_autoencoder"
CHECKED = 256
POOLS = Path("build/scenes")


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


def main() -> None:
    """Trains, saves and writes card.json."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options = arguments(__doc__ or "", steps=6_000, pool=12_000)
    sets = checks(POOLS)
    halves = [scene_pool(world, options.pool // 2, POOLS).images for world in ("a", "b")]
    pool = torch.from_numpy(np.concatenate(halves)).permute(0, 3, 1, 2).contiguous()
    fit = Fit(
        LATENT_CHANNELS, WIDTHS, SIZE, batch=BATCH, axes=(3,), scaled_by="world_a", save_every_s=180, made_by=COMMAND
    )
    model, card = fit.made(options, pool, sets)
    card |= {
        "unit_scale": latent_scale(model, sets["world_b"]),
        "edge_ssim": {name: edges_kept(model, images) for name, images in sets.items()},
    }
    save_json(card, options.out / "card.json")
    logger.info("final %s", card)


if __name__ == "__main__":
    main()
