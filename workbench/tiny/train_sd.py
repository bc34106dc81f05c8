"""Trains the denoiser of the bundled `tiny-sd` on world A, with the autoencoder and text encoder that are there.

Usage: `python -m workbench.tiny.train_sd --out difftune_core/weights/tiny-sd --minutes 45`; the folder holds
`vae/`, `text_encoder/` and `tokenizer/`. Stable Diffusion's recipe: scaled linear betas, noise prediction, one caption
in ten left empty, a weight average.
"""

from __future__ import annotations

import json
import logging
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from difftune_core.diffusion.process import DDPM
from difftune_core.diffusion.schedule import NoiseSchedule
from difftune_core.diffusion.solvers import discrete_scheduler
from difftune_core.networks.autoencoder import Autoencoder
from difftune_core.networks.text import TextEncoder
from workbench.tiny.scene_pool import ScenePool, scene_pool
from workbench.tiny.tokenizer import LENGTH
from workbench.tiny.train_sd_autoencoder import LATENT_CHANNELS, POOLS, SIZE
from workbench.tiny.train_sd_text import WIDTH
from workbench.tiny.training import Schedule, arguments, save_half, save_json

logger = logging.getLogger(__name__)

BATCH = 32
PEAK_RATE = 1e-3
EMA_DECAY = 0.999
EMPTY_SHARE = 0.1
SAVE_EVERY_SECONDS = 240.0
WEIGHTS = "diffusion_pytorch_model.safetensors"
BETAS: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
}


def build() -> Any:
    """A UNet of Stable Diffusion's anatomy over latents of 8 x 8."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=SIZE // 8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 128),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,  # heads of a block, whatever the name says
        norm_num_groups=16,
    )


def encoded(pool: ScenePool, folder: Path, cache: Path) -> dict[str, Tensor]:
    """`mean` and `std` of the latents [n, c, 8, 8], fp16, and each caption's row among the distinct `text` states."""
    path = cache / "latents-a.safetensors"
    if not path.is_file():
        from difftune_core.runtime.tensors import save_tensors

        mean, std = Autoencoder(folder / "vae").encode(np.array(pool.images))
        distinct = sorted({*pool.captions, ""})
        rows = {caption: row for row, caption in enumerate(distinct)}
        text = TextEncoder(folder).encode(distinct)
        caption = torch.tensor([rows[caption] for caption in pool.captions])
        cache.mkdir(parents=True, exist_ok=True)
        save_tensors({"mean": mean, "std": std, "caption": caption, "text": text}, path)
    return load_file(path)  # the empty caption is the first of the sorted ones


def train(data: dict[str, Tensor], out: Path, *, seed: int, schedule: Schedule) -> int:
    """Trains and saves the average, now and then and at the end; the number of steps made."""
    torch.manual_seed(seed)
    process = DDPM(NoiseSchedule(discrete_scheduler("ddim", BETAS).betas.double()))
    model = build()
    average = deepcopy(model).requires_grad_(requires_grad=False)
    pairs = list(average.parameters()), list(model.parameters())
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.99), weight_decay=0.01)
    saved, step = time.monotonic(), 0
    schedule.started = time.monotonic()
    while schedule.progress(step) < 1.0:
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        rows = torch.randint(len(data["mean"]), (BATCH,))
        mean, std = data["mean"][rows].float(), data["std"][rows].float()
        x0, noise = mean + std * torch.randn_like(mean), torch.randn_like(mean)
        caption = data["caption"][rows].masked_fill(torch.rand(BATCH) < EMPTY_SHARE, 0)
        t = torch.randint(1000, (BATCH,))
        output = model(process.add_noise(x0, noise, t), t, data["text"][caption].float(), return_dict=False)[0]
        loss = (output - noise).square().mean()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        torch._foreach_lerp_(pairs[0], pairs[1], 1 - min(EMA_DECAY, (step + 1) / (step + 10)))
        step += 1
        if step % 100 == 0:
            logger.info("step %d progress %.3f loss %.4f", step, schedule.progress(step), loss.item())
        if time.monotonic() - saved > SAVE_EVERY_SECONDS:
            save(average, out)
            saved = time.monotonic()
    save(average, out)
    return step


def save(unet: Any, out: Path) -> None:
    """`unet/`, `scheduler/` and `model_index.json`, so that the folder opens as a pipeline."""
    (out / "unet").mkdir(parents=True, exist_ok=True)
    unet.save_config(out / "unet")
    save_half(unet.state_dict(), out / "unet" / WEIGHTS)
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1).save_config(out / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    save_json(index, out / "model_index.json")


def main() -> None:
    """Trains and saves; notes how in `training.json`."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options = arguments(__doc__ or "", steps=12_000, pool=12_000)
    data = encoded(scene_pool("a", options.pool, POOLS), options.out, POOLS.parent)
    schedule = Schedule(PEAK_RATE, options.steps, options.minutes)
    steps = train(data, options.out, seed=options.seed, schedule=schedule)
    made = {
        "made_by": "python -m workbench.tiny.train_sd",
        "seed": options.seed,
        "steps": steps,
        "batch_size": BATCH,
        "training_images": options.pool,
        "prompt_tokens": LENGTH,
    }
    (options.out / "training.json").write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
    logger.info("final %s", made)


if __name__ == "__main__":
    main()
