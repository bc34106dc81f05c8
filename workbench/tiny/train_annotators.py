"""Trains the bundled annotators: who draws depth, normal and segmentation of scenes, from the picture alone.

Usage: `python -m workbench.tiny.train_annotators --out difftune_core/weights --steps 1500`. Small networks of
transformers' own classes, taught the true maps of both worlds, as published detectors know more than one base model.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from cli.demo.scenes import Scenes, Split
from cli.demo.scenes.controls import SEGMENT_COLOURS, SEGMENTS
from difftune_core.data.conditions import annotator
from difftune_core.families.controlnet.controls import compare_controls
from difftune_core.files import folder_aside, folder_digest
from workbench.tiny.train_sd_autoencoder import POOLS, SIZE
from workbench.tiny.train_sd_text import pixels_of
from workbench.tiny.training import Schedule, arguments, optimised, save_half, save_json

logger = logging.getLogger(__name__)

DEPTH, SEGMENTATION = "tiny-depth", "tiny-segmentation"
BATCH = 16
PEAK_RATE = 2e-3
CHECKED = 64
Maps = dict[str, UInt8[np.ndarray, "n h w ..."]]


def pictures(count: int, split: Split, cache: Path) -> Maps:
    """Images with their depth levels and classes, half of them of each world; rendered once."""
    folder = cache / f"maps-{split.name.lower()}-{count}"
    if not folder.is_dir():
        worlds = [Scenes(world, seed=1, split=split) for world in ("a", "b")]
        drawn = [worlds[number % 2].picture(number // 2) for number in range(count)]
        colours = SEGMENT_COLOURS.astype(int)
        with folder_aside(folder) as aside:
            images = np.stack([picture.image for picture in drawn])
            depth = np.stack([picture.controls["depth"][..., 0] for picture in drawn])
            maps = np.stack([picture.controls["segmentation"] for picture in drawn]).astype(int)
            classes = np.abs(maps[..., None, :] - colours).sum(-1).argmin(-1).astype(np.uint8)
            np.savez(aside / "maps.npz", images=images, depth=depth, classes=classes)
    with np.load(folder / "maps.npz", allow_pickle=False) as saved:
        return {name: saved[name] for name in ("images", "depth", "classes")}


def depth_network() -> Any:
    """A small DPT (Ranftl et al. 2021) of inverse depth."""
    from transformers import DPTConfig, DPTForDepthEstimation

    return DPTForDepthEstimation(
        DPTConfig(
            hidden_size=48,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=96,
            image_size=SIZE,
            patch_size=8,
            backbone_out_indices=[0, 1, 2, 3],
            neck_hidden_sizes=[16, 16, 32, 32],
            fusion_hidden_size=16,
            is_hybrid=False,
        )
    )


def segmentation_network() -> Any:
    """A small SegFormer (Xie et al. 2021)."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    names = dict(enumerate(SEGMENTS))
    return SegformerForSemanticSegmentation(
        SegformerConfig(
            depths=[1, 1, 1, 1],
            hidden_sizes=[16, 32, 48, 64],
            num_attention_heads=[1, 2, 4, 4],
            strides=[2, 2, 2, 2],
            patch_sizes=[5, 3, 3, 3],
            sr_ratios=[4, 2, 2, 1],
            decoder_hidden_size=48,
            id2label=names,
            label2id={name: number for number, name in names.items()},
        )
    )


def depth_loss(model: Any, images: Tensor, maps: dict[str, Tensor]) -> Tensor:
    """Mean absolute error of the levels in [0, 1]."""
    found = model(pixel_values=images).predicted_depth[:, None]
    sized = torch.nn.functional.interpolate(found, (SIZE, SIZE), mode="bicubic", align_corners=False)
    return (sized[:, 0] - maps["depth"].float() / 255).abs().mean()


def segmentation_loss(model: Any, images: Tensor, maps: dict[str, Tensor]) -> Tensor:
    """Cross entropy at the picture's size."""
    loss: Tensor = model(pixel_values=images, labels=maps["classes"].long()).loss
    return loss


def train(model: Any, loss_of: Callable[..., Tensor], pool: Maps, schedule: Schedule) -> Any:
    """The trained model."""
    maps = {name: torch.from_numpy(values) for name, values in pool.items() if name != "images"}

    def drawn(_step: int) -> Tensor:
        rows = torch.randint(len(pool["images"]), (BATCH,))
        loss: Tensor = loss_of(model, pixels_of(pool["images"][rows.numpy()]), {k: v[rows] for k, v in maps.items()})
        return loss

    return optimised(model, drawn, schedule, weight_decay=0.01)


def save(model: Any, processor: str, folder: Path) -> None:
    """Config, weights in fp16, and an image processor that only scales values to [-1, 1]."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    save_half(model.state_dict(), folder / "model.safetensors")
    fields = {"do_resize": False, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255}
    scaling = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    save_json({"image_processor_type": processor, **fields, **scaling}, folder / "preprocessor_config.json")


def figures(condition: str, folder: Path, pool: Maps) -> dict[str, float]:
    """Agreement with the true maps of held-out scenes, by the annotator that jobs use."""
    draw = annotator(condition, folder)
    drawn = np.stack([draw(np.ascontiguousarray(image)) for image in pool["images"]])
    depth = np.repeat(pool["depth"][..., None], 3, axis=3)
    given = depth if condition == "depth" else SEGMENT_COLOURS[pool["classes"]]
    return {name: round(value, 5) for name, value in compare_controls(condition, given, drawn).values.items()}


def main() -> None:
    """Trains both, saves them and writes their cards."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options = arguments(__doc__ or "", steps=1_500, pool=4_000)
    pool, checked = pictures(options.pool, Split.TRAIN, POOLS), pictures(CHECKED, Split.HELD_OUT, POOLS)
    kinds: dict[str, tuple[str, Callable[[], Any], Callable[..., Tensor], str]] = {
        DEPTH: ("depth", depth_network, depth_loss, "DPTImageProcessor"),
        SEGMENTATION: ("segmentation", segmentation_network, segmentation_loss, "SegformerImageProcessor"),
    }
    for name, (condition, build, loss_of, processor) in kinds.items():
        torch.manual_seed(options.seed)
        model = train(build(), loss_of, pool, Schedule(PEAK_RATE, options.steps))
        folder = options.out / name
        save(model, processor, folder)
        if condition == "segmentation":
            (folder / "palette.json").write_text(json.dumps(SEGMENT_COLOURS.tolist()) + "\n", encoding="utf-8")
        card = {
            "kind": "annotator",
            "id": name,
            "conditions": ["depth", "normal"] if condition == "depth" else [condition],
            "description": f"{type(model).__name__} for the rendered scenes of tests and the demo.",
            "licence": "Apache-2.0",
            "source": "trained by workbench.tiny on rendered scenes",
            "num_parameters": sum(p.numel() for p in model.parameters()),
            "digest": folder_digest(folder),
            "made_by": "python -m workbench.tiny.train_annotators",
            "seed": options.seed,
            "steps": options.steps,
            "batch_size": BATCH,
            "training_images": options.pool,
            "held_out": figures(condition, folder, checked),
        }
        save_json(card, folder / "card.json")
        logger.info("final %s", card)


if __name__ == "__main__":
    main()
