"""Measure the bundled Stable Diffusion and write its card: `python -m workbench.tiny.make_sd_card`."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from cli.demo.scenes import Split
from difftune_core.config.card import CARD_FILE, BaseModelCard
from difftune_core.config.controlnet_fit import anatomy_of
from difftune_core.diffusion.reverse import Sampling
from difftune_core.evaluate.compare import compare
from difftune_core.evaluate.features import load_extractor
from difftune_core.families.controlnet.base_model import StableDiffusion
from difftune_core.families.controlnet.draw import Prompted, sample_prompted
from difftune_core.families.controlnet.install import stable_diffusion_anatomy
from difftune_core.families.convert.vae import read_vae
from difftune_core.families.install_parts import autoencoder_anatomy
from difftune_core.files import folder_digest
from difftune_core.networks.state import CONFIG, WEIGHTS
from difftune_core.networks.text import TextEncoder
from workbench.tiny.scene_pool import scene_pool
from workbench.tiny.train_annotators import DEPTH, SEGMENTATION
from workbench.tiny.train_sd_autoencoder import POOLS, SIZE

FEATURES = "tiny-features"
COUNT = 500
SAMPLING = Sampling(num_inference_steps=20, guidance_scale=3.0)
DEFAULTS: dict[str, Any] = {
    "training": {
        "max_steps": 800,
        "batch_size": 8,
        "learning_rate": 2e-4,
        "warmup_steps": 20,
        "ema_decay": 0.0,
        "horizontal_flip": False,
        "checkpoint_every_steps": 400,
    },
    "retention_set": {"num_images": 300, "num_inference_steps": 20, "guidance_scale": 3.0},
    "evaluation": {"num_images": 64, "num_inference_steps": 10, "guidance_scale": 2.0, "every_steps": 40},
    "control": {"default_prompt": "", "num_validation": 16},
}


def measure(base: StableDiffusion, root: Path) -> dict[str, Any]:
    """The model's figures on its own world."""
    extractor, autoencoder = load_extractor(root / FEATURES), base.load_autoencoder()
    held_out = scene_pool("a", 2 * COUNT, POOLS, Split.HELD_OUT)
    real, other = np.array(held_out.images[:COUNT]), np.array(held_out.images[COUNT:])
    distinct = sorted({*held_out.captions[:COUNT], ""})
    states = TextEncoder(base.folder).encode(distinct)
    rows = torch.tensor([distinct.index(caption) for caption in held_out.captions[:COUNT]])
    empty = states[distinct.index("")]
    unet, fields = base.load_unet(), base.noise_fields()
    prompted, unprompted = Prompted(states[rows], empty), Prompted(empty.expand(COUNT, -1, -1), empty)
    mean, _ = autoencoder.encode(real)
    features = extractor(real)
    judged = {
        "samples": autoencoder.decode(sample_prompted(unet, fields, prompted, SAMPLING)),
        "samples_of_the_empty_prompt": autoencoder.decode(sample_prompted(unet, fields, unprompted, SAMPLING)),
        "real_vs_real": other,
        "autoencoder_floor": autoencoder.decode(mean.float()),
    }
    return {name: _short(compare(features, extractor(images))) for name, images in judged.items()}


def _short(entry: dict[str, Any]) -> dict[str, float]:
    return {key: round(float(entry[key]), 5) for key in ("fid", "fid_se", "kid", "kid_se")}


def write_card(root: Path) -> None:
    """Write `card.json` beside the weights."""
    folder = root / "tiny-sd"
    fields: dict[str, Any] = {
        "id": "tiny-sd",
        "family": "stable-diffusion",
        "description": "A Stable Diffusion of 64 x 64 pixels that draws coloured solids, for tests and demos.",
        "licence": "Apache-2.0",
        "source": "trained by workbench.tiny on scenes that it renders",
        "created_at": int(time.time()),
        "image_size": SIZE,
        "feature_extractor": FEATURES,
        "annotators": {"depth": DEPTH, "normal": DEPTH, "segmentation": SEGMENTATION},
        "digest": folder_digest(folder),
        "defaults": DEFAULTS,
    }
    base = StableDiffusion(folder, BaseModelCard.model_validate(fields))
    unet: Any = base.load_unet()
    figures = {
        "how": f"Frechet and kernel distance over {COUNT} held-out scenes of world A in the features of {FEATURES}, a "
        f"small network of our own: not comparable with published FID. DDIM, {SAMPLING.num_inference_steps} steps, "
        f"guidance {SAMPLING.guidance_scale}.",
        **measure(base, root),
    }
    parameters = sum(p.numel() for p in unet.parameters())
    autoencoder = autoencoder_anatomy(read_vae(folder, int(unet.config.in_channels)))
    text_folder = folder / "text_encoder"
    text = json.loads((text_folder / CONFIG).read_bytes()), load_file(text_folder / WEIGHTS)
    anatomy = stable_diffusion_anatomy(dict(unet.config), text, autoencoder)
    update = {"num_parameters": parameters, "unet": anatomy_of(unet.config), "anatomy": anatomy, "figures": figures}
    card = base.card.model_copy(update=update)
    (folder / CARD_FILE).write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Parse the command line and write the card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("difftune_core/weights"))
    write_card(parser.parse_args().root)


if __name__ == "__main__":
    main()
