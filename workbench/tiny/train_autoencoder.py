"""Trains the autoencoder of the bundled tiny family on the broad world and the source world.

Usage: `python -m workbench.tiny.train_autoencoder --out difftune_core/weights/tiny-dit/vae --minutes 20`.

The loss is L1 + L2 + L1 of the image gradients + KL (Rombach et al. 2022, section 3.1, without the perceptual and the
adversarial terms, which would need networks that learned from other people's images).
"""

import logging
import time
from argparse import Namespace
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from PIL import Image
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from workbench.tiny.training import Schedule, arguments, batches, psnr, save_half, save_json, to_tensor
from workbench.tiny.world import SIZE, Split, World

logger = logging.getLogger(__name__)

WEIGHTS = "diffusion_pytorch_model.safetensors"
BATCH = 16
PEAK_RATE = 2e-3
LATENT_CHANNELS = 4
COMMAND = "python -m workbench.tiny.train_autoencoder"
WIDTHS = (16, 32, 64)
KL_WEIGHT = 2e-3
EMA_DECAY = 0.999
SOURCE_SHARE = 0.2
CHECKED = 512
CHECK_BATCH = 64
COLOURED = 40
Sets = dict[str, torch.Tensor]


def render_pool(world: World, count: int) -> torch.Tensor:
    """Training images, uint8 [count, 3, 32, 32]: the broad world with a share of the source world."""
    from_source = int(count * SOURCE_SHARE)
    broad, _ = world.broad_batch(0, count - from_source)
    source, _ = world.source_batch(0, from_source)
    return torch.from_numpy(np.concatenate([broad, source])).permute(0, 3, 1, 2).contiguous()


def loss_of(model: Any, images: torch.Tensor) -> torch.Tensor:
    """Loss of a batch in [-1, 1], [n, 3, 32, 32]; a scalar."""
    posterior = model.encode(images).latent_dist
    error = model.decode(posterior.sample()).sample - images
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    kl = 0.5 * (posterior.mean.square() + posterior.var - 1.0 - posterior.logvar).mean()
    # The weights make the three reconstruction terms alike in size at about 25 dB; L2 is what PSNR measures.
    loss: torch.Tensor = 2.0 * error.square().mean() + 0.25 * error.abs().mean() + 0.2 * edges + KL_WEIGHT * kl
    return loss


def digits() -> torch.Tensor | None:
    """scikit-learn's handwritten digits as a data set of ours would hold them, for the report alone."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        return None
    low = (load_digits().images[:CHECKED] * (255.0 / 16.0)).round().astype(np.uint8)
    big = [Image.fromarray(image).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC) for image in low]
    return to_tensor(np.stack([np.asarray(image) for image in big]))


@torch.no_grad()
def reconstruct(model: Any, images: torch.Tensor) -> torch.Tensor:
    """Images in [0, 1] through the mean of the posterior and back."""
    parts = [model.decode(model.encode(x * 2.0 - 1.0).latent_dist.mode()).sample for x in batches(images, CHECK_BATCH)]
    return ((torch.cat(parts) + 1.0) / 2.0).clamp(0.0, 1.0)


def report(model: Any, sets: Sets) -> dict[str, float]:
    """PSNR in dB for each set of images."""
    return {name: round(psnr(images, reconstruct(model, images)), 2) for name, images in sets.items()}


@torch.no_grad()
def latent_scale(model: Any, images: torch.Tensor) -> float:
    """1 / standard deviation of the posterior's samples over images in [0, 1] (Rombach et al. 2022, appendix G)."""
    generator = torch.Generator().manual_seed(0)
    latents = [model.encode(x * 2.0 - 1.0).latent_dist.sample(generator) for x in batches(images, CHECK_BATCH)]
    return 1.0 / float(torch.cat(latents).std())


def checks(seed: int) -> dict[str, torch.Tensor]:
    """Held-out images by name, in [0, 1]."""
    world = World(seed, Split.HELD_OUT)
    broad, _ = world.broad_batch(0, CHECKED)
    source, _ = world.source_batch(0, CHECKED)
    coloured = np.ptp(broad.astype(np.int16), axis=3).max(axis=(1, 2)) > COLOURED
    sets = {
        "broad": to_tensor(broad),
        "broad_coloured": to_tensor(broad[coloured]),
        "broad_grey": to_tensor(broad[~coloured]),
        "source": to_tensor(source),
    }
    handwritten = digits()
    return sets if handwritten is None else {**sets, "digits": handwritten}


def save(model: Any, out: Path, source: torch.Tensor) -> None:
    """Saves a diffusers folder in fp16 with the scaling factor measured over source images."""
    model.register_to_config(scaling_factor=round(latent_scale(model, source), 4))
    save_half(model.state_dict(), out / WEIGHTS)
    config = {name: value for name, value in model.config.items() if not name.startswith("_")}
    save_json({"_class_name": "AutoencoderKL", **config}, out / "config.json")


@dataclass(frozen=True)
class Fit:
    """An autoencoder and how it is trained: what the bundled families have in common is written here."""

    latent_channels: int
    widths: tuple[int, ...]
    """Channels of each block; each but the last halves the image."""
    size: int
    """Pixels of a side."""
    _: KW_ONLY
    batch: int
    axes: tuple[int, ...]
    """Axes of a batch along which an image may be mirrored."""
    scaled_by: str
    """The set of held-out images whose latents have standard deviation 1."""
    save_every_s: float
    made_by: str
    """The command."""

    def build(self) -> Any:
        """Make a new AutoencoderKL for images in [-1, 1]."""
        cls: Any = AutoencoderKL
        model = cls(
            in_channels=3,
            out_channels=3,
            down_block_types=("DownEncoderBlock2D",) * len(self.widths),
            up_block_types=("UpDecoderBlock2D",) * len(self.widths),
            block_out_channels=self.widths,
            layers_per_block=1,
            latent_channels=self.latent_channels,
            # Groups of few channels would take away the image's own grey and colour: narrow layers cannot restore them.
            norm_num_groups=1,
            sample_size=self.size,
            mid_block_add_attention=False,
        )
        # With diffusers' own initial values the posterior is almost all noise: the decoder learns to do without it.
        with torch.no_grad():
            model.quant_conv.weight[: self.latent_channels] *= 5.0
            model.quant_conv.weight[self.latent_channels :] *= 0.1
            model.quant_conv.bias[self.latent_channels :] = -6.0
        return model

    def train(self, out: Path, *, seed: int, schedule: Schedule, pool: torch.Tensor, sets: Sets) -> int:
        """Train and save the averaged weights, now and then and at the end; the number of steps made."""
        torch.manual_seed(seed)
        model = self.build().to(memory_format=torch.channels_last)
        average: Any = get_ema_multi_avg_fn  # torch leaves it without types
        ema: Any = AveragedModel(model, multi_avg_fn=average(EMA_DECAY))
        optimizer = torch.optim.Adam(model.parameters(), lr=schedule.peak, betas=(0.9, 0.99))
        saved, step = time.monotonic(), 0
        schedule.started = time.monotonic()
        while schedule.progress(step) < 1.0:
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(step)
            loss = loss_of(model, self._batch(pool))
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            ema.update_parameters(model)
            step += 1
            if step % 200 == 0:
                logger.info("step %d progress %.3f loss %.4f", step, schedule.progress(step), loss.item())
            if time.monotonic() - saved > self.save_every_s:
                save(ema.module, out, sets[self.scaled_by])
                logger.info("saved; PSNR in dB %s", report(ema.module, sets))
                saved = time.monotonic()
        save(ema.module, out, sets[self.scaled_by])
        return step

    def _batch(self, pool: torch.Tensor) -> torch.Tensor:
        batch = pool[torch.randint(len(pool), (self.batch,))].float().div(127.5).sub(1.0)
        flips = [axis for axis in self.axes if torch.randint(2, ())]
        return batch.flip(flips).contiguous(memory_format=torch.channels_last)

    def made(self, options: Namespace, pool: torch.Tensor, sets: Sets) -> tuple[Any, dict[str, Any]]:
        """Train as the command line says; the model as it was saved, and what its card says of it."""
        schedule = Schedule(PEAK_RATE, options.steps, options.minutes)
        steps = self.train(options.out, seed=options.seed, schedule=schedule, pool=pool, sets=sets)
        loader: Any = AutoencoderKL
        model = loader.from_pretrained(options.out, torch_dtype=torch.float32).eval()
        return model, {
            "made_by": self.made_by,
            "seed": options.seed,
            "steps": steps,
            "batch_size": self.batch,
            "training_images": len(pool),
            "parameters": sum(p.numel() for p in model.parameters()),
            "scaling_factor": model.config.scaling_factor,
            "psnr_db": report(model, sets),
        }


def main() -> None:
    """Trains, saves and writes card.json."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options = arguments(__doc__ or "", steps=6_900)
    sets = checks(options.seed)
    pool = render_pool(World(options.seed), options.pool)
    logger.info("pool of %d images", len(pool))
    fit = Fit(
        LATENT_CHANNELS, WIDTHS, SIZE, batch=BATCH, axes=(2, 3), scaled_by="source", save_every_s=300, made_by=COMMAND
    )
    _, card = fit.made(options, pool, sets)
    save_json(card, options.out / "card.json")
    logger.info("final %s", card)


if __name__ == "__main__":
    main()
