"""Trains the text encoder of the bundled `tiny-sd`: a small CLIP (Radford et al. 2021) on scenes of both worlds.

Usage: `python -m workbench.tiny.train_sd_text --out difftune_core/weights/tiny-sd --steps 1500`, which writes
`text_encoder/` and `tokenizer/` there; the vision tower has then done its work.

Like CLIP it has seen more than the model that it speaks to: it knows the words of world B, the UNet only world A.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from cli.demo.scenes import Split
from workbench.tiny.scene_pool import ScenePool, scene_pool
from workbench.tiny.tokenizer import LENGTH, write_tokenizer
from workbench.tiny.train_sd_autoencoder import POOLS, SIZE
from workbench.tiny.training import Schedule, arguments, optimised, save_half, save_json

logger = logging.getLogger(__name__)

WIDTH = 64
BATCH = 64
PEAK_RATE = 1e-3
CHECKED = 128


def build(tokenizer: Any) -> Any:
    """Two small transformers and their projections."""
    tower = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": LENGTH,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = CLIPConfig(
        text_config={**tower, **text},
        vision_config={**tower, "image_size": SIZE, "patch_size": 8},
        projection_dim=WIDTH,
    )
    return CLIPModel(config)


def tokens_of(tokenizer: Any, captions: list[str]) -> Tensor:
    """Token ids, int64 [n, LENGTH]."""
    found: Tensor = tokenizer(captions, padding="max_length", max_length=LENGTH, return_tensors="pt").input_ids
    return found


def pixels_of(images: np.ndarray) -> Tensor:
    """uint8 [n, s, s, 3] to float32 [n, 3, s, s] in [-1, 1]."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float().div(127.5).sub(1.0)


@torch.no_grad()
def found_again(model: Any, tokenizer: Any, pool: ScenePool) -> float:
    """Share of held-out images whose own caption, among CHECKED of them, fits best."""
    logits = model(input_ids=tokens_of(tokenizer, pool.captions), pixel_values=pixels_of(pool.images)).logits_per_image
    best = [pool.captions[int(i)] for i in logits.argmax(1)]
    return round(sum(a == b for a, b in zip(best, pool.captions, strict=True)) / len(best), 3)


def train(tokenizer: Any, *, seed: int, schedule: Schedule, per_world: int) -> Any:
    """The trained model."""
    torch.manual_seed(seed)
    model = build(tokenizer)
    pools = [scene_pool(world, per_world, POOLS) for world in ("a", "b")]
    tokens = [tokens_of(tokenizer, pool.captions) for pool in pools]

    def drawn(step: int) -> Tensor:
        world = step % 2  # a batch is of one world: telling the worlds apart is no task
        chosen = torch.randint(per_world, (BATCH,))
        images = pixels_of(pools[world].images[np.sort(chosen.numpy())])
        loss: Tensor = model(input_ids=tokens[world][chosen.sort().values], pixel_values=images, return_loss=True).loss
        return loss

    return optimised(model, drawn, schedule, weight_decay=0.02)


def save_text_encoder(clip: Any, folder: Path) -> None:
    """The text tower alone in fp16, as a Stable Diffusion has it."""
    from transformers import CLIPTextModel

    text: Any = CLIPTextModel(clip.config.text_config)
    state = clip.state_dict()
    text.load_state_dict({name: state[name if name in state else f"text_model.{name}"] for name in text.state_dict()})
    text.config.architectures = ["CLIPTextModel"]
    folder.mkdir(parents=True, exist_ok=True)
    text.config.save_pretrained(folder)
    save_half(text.state_dict(), folder / "model.safetensors")


def main() -> None:
    """Trains CLIP and saves its text tower, its tokenizer and a card."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options = arguments(__doc__ or "", steps=1_500, pool=12_000)
    tokenizer = write_tokenizer(options.out / "tokenizer")
    model = train(
        tokenizer,
        seed=options.seed,
        schedule=Schedule(PEAK_RATE, options.steps),
        per_world=options.pool // 2,
    )
    save_text_encoder(model, options.out / "text_encoder")
    held_out = {world: scene_pool(world, CHECKED, POOLS, Split.HELD_OUT) for world in ("a", "b")}
    card = {
        "made_by": "python -m workbench.tiny.train_sd_text",
        "seed": options.seed,
        "steps": options.steps,
        "batch_size": BATCH,
        "training_images": options.pool,
        "parameters": sum(p.numel() for p in model.parameters()),
        f"caption_found_among_{CHECKED}": {w: found_again(model, tokenizer, pool) for w, pool in held_out.items()},
    }
    save_json(card, options.out / "text_encoder" / "card.json")
    logger.info("final %s", card)


if __name__ == "__main__":
    main()
