"""Images that a run's result draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from difftune_core.config.families import rules_of
from difftune_core.config.transfer import TransferConfig
from difftune_core.diffusion.reverse import Sampling
from difftune_core.families.base_model import BaseModel
from difftune_core.families.dit.base_model import DiTModel
from difftune_core.families.dit.draw import sample_latents
from difftune_core.families.dit.files import load_dit, read_dit_config
from difftune_core.families.generate import AT_ONCE, fitted_control, read_control
from difftune_core.families.painter import Wanted
from difftune_core.families.table import family_of, find_base_model
from difftune_core.hooks import TaskError

_BATCH = 64


class Result(Protocol):
    """What a run leaves that is drawn with; a `difftune.Run` is one."""

    @property
    def config(self) -> TransferConfig:
        """The result's config, resolved."""

    @property
    def checkpoint(self) -> Path:
        """Folder of the checkpoint."""

    @property
    def models(self) -> Sequence[Path]:
        """Folders of base models."""

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the classes, by label; empty where only their numbers are known."""


def drawn(
    run: Result,
    what: str | int | None,
    n: int,
    *,
    seed: int,
    steps: int | None = None,
    guidance: float | None = None,
    control: str | Path | Image.Image | None = None,
) -> list[Image.Image]:
    """Draw `n` images of one class, of none, or of a prompt beside a control image.

    Raises:
        TaskError: `not_drawn`, the family draws nothing on request; `unknown_class`, `label_out_of_range`,
            `control_not_for_model`, `no_prompt`, `unreadable_image`.
    """
    base = find_base_model(run.config.model, list(run.models))
    make = family_of(base.card).painter
    if make is None:
        raise TaskError("not_drawn", f"models of the family {base.card.family!r} draw no images on request", "model")
    wanted, sampling = _wanted(run, base, what, control), _sampling(run, seed, steps, guidance)
    painter = make(base, run.checkpoint, _device())
    found: list[Image.Image] = []
    with torch.no_grad():
        for first in range(0, n, AT_ONCE):
            count = min(AT_ONCE, n - first)
            drawn = painter.draw(wanted, sampling, first=first, count=count, of_base=False, progress=_unheard)
            found += [Image.fromarray(one) for one in drawn]
    return found


def _unheard(_: int) -> None:
    pass


def _wanted(run: Result, base: BaseModel, what: str | int | None, image: str | Path | Image.Image | None) -> Wanted:
    if rules_of(base.card).data_form == "captioned":
        if not isinstance(what, str):
            raise TaskError("no_prompt", f"{base.card.id} draws prompts: say what as text", "what")
        shown = None if image is None else _control(image, base.card.image_size)
        scale = run.config.control.conditioning_scale if run.config.control else 1.0
        return Wanted(prompt=what, control=shown, conditioning_scale=scale)
    if image is not None:
        raise TaskError("control_not_for_model", f"{base.card.id} draws classes, and follows no control", "control")
    classes = _classes(run)
    return Wanted(label=classes if what is None else _label(what, run.class_names, classes))


def _control(image: str | Path | Image.Image, size: int) -> UInt8[np.ndarray, "{size} {size} 3"]:
    return fitted_control(image, size) if isinstance(image, Image.Image) else read_control(Path(image), size)


def _sampling(run: Result, seed: int, steps: int | None = None, guidance: float | None = None) -> Sampling:
    """Return how the run was judged, but for what is stated."""
    stated = Sampling.of(run.config.evaluation)
    return replace(
        stated,
        seed=seed,
        num_inference_steps=steps or stated.num_inference_steps,
        guidance_scale=stated.guidance_scale if guidance is None else guidance,
    )


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def write_drawn(run: Result, folder: Path, n: int, *, seed: int) -> None:
    """Write `n` images of all classes in turn to a folder; no more than a batch stands in memory."""
    classes = _classes(run)
    for start in range(0, n, _BATCH):
        labels = torch.arange(start, min(start + _BATCH, n)) % classes
        for number, image in enumerate(_drawn(run, labels, seed=seed, first=start), start):
            image.save(folder / f"{number:06d}.png")


def _drawn(run: Result, labels: torch.Tensor, *, seed: int, first: int) -> list[Image.Image]:
    base, device, sampling = _base_of(run), _device(), _sampling(run, seed)
    model = load_dit(run.checkpoint, read_dit_config(run.checkpoint), device).eval()
    source = base.load_dit(device).eval() if sampling.guidance == "domain" else None
    with torch.no_grad():
        latents = sample_latents(model, labels, sampling, source=source, first_index=first)
        pixels = base.load_autoencoder(device).decode(latents)
    return [Image.fromarray(one) for one in pixels]


def _base_of(run: Result) -> DiTModel:
    """The base model of a run that draws classes.

    Raises:
        TaskError: `not_drawn`, it draws none.
    """
    base = find_base_model(run.config.model, list(run.models))
    if not isinstance(base, DiTModel):
        message = f"{base.card.id} draws no classes: judge images that `sample` has drawn by `difftune.evaluate`"
        raise TaskError("not_drawn", message, "model")
    return base


def _classes(run: Result) -> int:
    """Number of classes, which is also the null label."""
    _base_of(run)
    return read_dit_config(run.checkpoint).num_classes


def _label(what: str | int, names: Sequence[str], classes: int) -> int:
    if isinstance(what, int):
        if not 0 <= what < classes:
            raise TaskError("label_out_of_range", f"there are classes 0 to {classes - 1}, not {what}", "what")
        return what
    if what in names:
        return names.index(what)
    similar = get_close_matches(what, names, n=1)
    meant = f"did you mean {similar[0]}? " if similar else ""
    known = ", ".join(names) if names else "a stopped run knows its classes by numbers"
    raise TaskError("unknown_class", f"there is no class {what!r}; {meant}classes: {known}", "what")
