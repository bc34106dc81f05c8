"""Measure the bundled DiT and write its card: `python -m workbench.tiny.make_card`.

Its figures: the Frechet distance of its samples to fresh images of its source world, beside real against real as the
floor, and the autoencoder's reconstruction alone, which no sample can beat.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from difftune_core.config.card import CARD_FILE
from difftune_core.diffusion.reverse import Sampling
from difftune_core.evaluate.compare import compare
from difftune_core.evaluate.features import load_extractor
from difftune_core.families.convert.vae import read_vae
from difftune_core.families.dit.draw import sample_latents
from difftune_core.families.dit.files import load_dit
from difftune_core.families.install_parts import autoencoder_anatomy
from difftune_core.files import folder_digest
from difftune_core.networks.autoencoder import Autoencoder
from workbench.tiny.train_dit import CONFIG
from workbench.tiny.world import SOURCE_CLASSES, World

FEATURES = "tiny-features"
COUNT = 2000
_FRESH = 10_000_000  # image numbers far beyond those trained on
SAMPLING = Sampling(num_inference_steps=25, guidance_scale=1.5)
DEFAULTS = {
    "training": {
        "max_steps": 400,
        "batch_size": 64,
        "learning_rate": 1e-3,
        "warmup_steps": 20,
        "horizontal_flip": False,
        "checkpoint_every_steps": 100,
    },
    "retention_set": {"num_images": 1000, "num_inference_steps": 25, "guidance_scale": 1.5},
    "evaluation": {"num_images": 500, "num_inference_steps": 25, "guidance_scale": 1.5, "every_steps": 200},
}


WEIGHTS = Path("difftune_core/weights")


def measure(folder: Path) -> dict[str, Any]:
    """The base model's figures on its own source."""
    extractor, autoencoder = load_extractor(WEIGHTS / FEATURES), Autoencoder(folder / "vae")
    world = World(seed=0)
    real, _ = world.source_batch(_FRESH, COUNT)
    other, _ = world.source_batch(_FRESH + COUNT, COUNT)
    model = load_dit(folder / "dit", CONFIG).eval()
    labels = torch.arange(COUNT) % len(SOURCE_CLASSES)
    null = torch.full((COUNT,), model.null_label)
    mean, _ = autoencoder.encode(real)
    features = extractor(real)
    judged = {
        "samples": autoencoder.decode(sample_latents(model, labels, SAMPLING)),
        "samples_without_guidance": autoencoder.decode(sample_latents(model, labels, _unguided())),
        "null_branch": autoencoder.decode(sample_latents(model, null, SAMPLING)),
        "real_vs_real": other,
        "autoencoder_floor": autoencoder.decode(mean.float()),
    }
    return {name: _short(compare(features, extractor(images))) for name, images in judged.items()}


def _unguided() -> Sampling:
    return Sampling(num_inference_steps=SAMPLING.num_inference_steps, guidance_scale=1.0)


def _short(entry: dict[str, Any]) -> dict[str, float]:
    return {key: round(float(entry[key]), 5) for key in ("fid", "fid_se", "kid", "kid_se")}


def write_card(folder: Path) -> None:
    """Write `card.json` beside the weights; the model's id is the folder's name."""
    model = load_dit(folder / "dit", CONFIG)
    card = {
        "schema_version": 1,
        "id": folder.name,
        "family": "dit",
        "description": "A DiT of 16 tokens that draws Latin letters of 32 x 32 pixels, for tests and the demo.",
        "licence": "Apache-2.0",
        "source": "trained by workbench.tiny on letters rendered from freely licensed fonts",
        "created_at": int(time.time()),
        "image_size": 32,
        "num_classes": CONFIG.num_classes,
        "num_parameters": sum(p.numel() for p in model.parameters()),
        "feature_extractor": FEATURES,
        "digest": folder_digest(folder),
        "defaults": DEFAULTS,
        "anatomy": asdict(CONFIG) | {"autoencoder": autoencoder_anatomy(read_vae(folder, CONFIG.in_channels))},
        "figures": {
            "how": f"Frechet and kernel distance over {COUNT} fresh source images in the features of {FEATURES}, a "
            f"small network of our own: not comparable with published FID. DDIM, {SAMPLING.num_inference_steps} steps, "
            f"guidance {SAMPLING.guidance_scale}.",
            **measure(folder),
        },
    }
    (folder / CARD_FILE).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Parse the command line and write the card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=WEIGHTS / "tiny-dit")
    write_card(parser.parse_args().folder)


if __name__ == "__main__":
    main()
