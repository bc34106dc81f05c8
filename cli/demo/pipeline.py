"""The downloaded checkpoint in diffusers' own pipeline, as a user would go on. The one file of `cli` with torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

GUIDANCE_SCALE = 2.0
_NUM_STEPS, _COLUMNS, _ROWS, _SIZE = 25, 10, 6, 64


def sample_grid(folder: Path, target: Path, *, seed: int) -> Path:
    """Save a grid of digits, a class a column, drawn with guidance by the `DiTPipeline` in `folder`."""
    import torch
    from diffusers.pipelines.dit.pipeline_dit import DiTPipeline
    from diffusers.utils import logging

    logging.disable_progress_bar()
    opener: Any = DiTPipeline
    pipeline = opener.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        class_labels=list(range(_COLUMNS)) * _ROWS,
        guidance_scale=GUIDANCE_SCALE,
        num_inference_steps=_NUM_STEPS,
        generator=torch.Generator().manual_seed(seed),
    ).images
    grid = Image.new("RGB", (_COLUMNS * _SIZE, _ROWS * _SIZE))
    for i, image in enumerate(images):
        cell = image.resize((_SIZE, _SIZE), Image.Resampling.BICUBIC)
        grid.paste(cell, (i % _COLUMNS * _SIZE, i // _COLUMNS * _SIZE))
    grid.save(target)
    return target
