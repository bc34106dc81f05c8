"""The story of one request for images: the model is loaded unless it is in memory, images are drawn and written.

What an earlier attempt has written is not drawn again. Images are drawn in parts of a fixed size, so that those of an
attempt that was interrupted are the same bit for bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from difftune_core.checkpoint.begin import delivered_weights
from difftune_core.config.generation import GenerationConfig
from difftune_core.diffusion.reverse import Sampling
from difftune_core.families.painter import Painter, Wanted
from difftune_core.families.table import family_of, find_base_model
from difftune_core.files import file_info
from difftune_core.hooks import ArtifactEvent, Hooks, OutcomeEvent, PhaseEvent, TaskError
from difftune_core.interruption import Stopped, after, interruptible, progress_of

AT_ONCE = 8
_SIDES = {False: "image", True: "base"}


class Inputs(NamedTuple):
    """What lies on disk."""

    models: list[Path]
    checkpoint: Path | None
    control: Path | None
    out: Path


class _InMemory(NamedTuple):
    key: tuple[str, ...]
    painter: Painter
    size: int


_last: list[_InMemory] = []
"""The model of the last request: a process that is kept warm has one."""


def generate(config: GenerationConfig, inputs: Inputs, hooks: Hooks) -> OutcomeEvent:
    """Draw the images into `inputs.out`, `image-0000.png ...` and of the base model `base-0000.png ...`.

    Raises:
        TaskError: `model_not_found`, `model_mismatch`, `invalid_checkpoint`, `images_not_for_model`,
            `unreadable_image`, `label_outside_table`.
    """
    torch.set_num_threads(config.num_threads or 1)
    try:
        with interruptible(hooks):
            found = _loaded(config, inputs, hooks)
            wanted = Wanted(
                config.label,
                config.prompt or "",
                None if inputs.control is None else read_control(inputs.control, found.size),
                config.conditioning_scale,
            )
            _draw(config, wanted, found.painter, inputs.out, hooks)
    except Stopped:
        return OutcomeEvent(code="paused" if hooks.stop_requested() == "pause" else "stopped")
    return OutcomeEvent(code="succeeded")


def _loaded(config: GenerationConfig, inputs: Inputs, hooks: Hooks) -> _InMemory:
    hooks.emit(PhaseEvent(phase="loading_model"))
    base = find_base_model(config.model, inputs.models)
    digest = ""
    if inputs.checkpoint is not None:
        manifest, digest = delivered_weights(inputs.checkpoint, inputs.checkpoint.name, "model")
        theirs = manifest.identity.get("base_model")
        if theirs != base.card.digest:
            message = f"the checkpoint was tuned from another base model: {theirs}, not {base.card.digest}"
            raise TaskError("model_mismatch", message, "model")
    key = (str(base.folder), base.card.digest, digest)
    if not _last or _last[0].key != key:
        _last.clear()  # before the next one is loaded
        make = family_of(base.card).painter
        if make is None:
            message = f"models of the family {base.card.family!r}, as {base.card.id}, draw no images on request"
            raise TaskError("images_not_for_model", message, "model")
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        _last.append(_InMemory(key, make(base, inputs.checkpoint, device), base.card.image_size))
    return _last[0]


def _draw(config: GenerationConfig, wanted: Wanted, painter: Painter, out: Path, hooks: Hooks) -> None:
    report = progress_of(hooks, "sampling", config.total)
    sampling, done = Sampling.of(config), 0
    for start in range(0, config.num_images, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, config.num_images))
        for of_base in (False, True) if config.compare_to_base else (False,):
            paths = [out / f"{_SIDES[of_base]}-{number:04d}.png" for number in numbers]
            if not all(path.is_file() for path in paths):
                heard = after(done, report)
                images = painter.draw(
                    wanted, sampling, first=start, count=len(numbers), of_base=of_base, progress=heard
                )
                for path, image in zip(paths, images, strict=True):
                    _write(path, image)
            for path in paths:
                hooks.emit(ArtifactEvent(kind="image", file=file_info(path, out)))
            done += len(numbers)
            report(done)


def _write(path: Path, image: np.ndarray) -> None:
    aside = path.with_suffix(".part")
    Image.fromarray(image).save(aside, "PNG")
    aside.replace(path)


def read_control(path: Path, size: int) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """Read the control image at the size of the model's images.

    Raises:
        TaskError: `unreadable_image`.
    """
    try:
        with Image.open(path) as image:
            return fitted_control(image, size)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise TaskError("unreadable_image", f"the control image cannot be read: {error}", "control_image") from None


def fitted_control(image: Image.Image, size: int) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """Return a control image in the size of the model's images."""
    return np.array(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC))  # torch wants its own
