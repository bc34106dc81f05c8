"""Sample images on the way: the same noise and the same labels or prompts each time, one file for each step.

No draw of training is touched: noise is a function of the evaluation's seed and an image's place. A step whose file is
there is not drawn again, so a run that goes on has the images of one that did not stop. Shapes: k images, s pixels.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from difftune_core.checkpoint.state import TrainState
from difftune_core.config.sampling import SAMPLERS
from difftune_core.diffusion.reverse import Sampling
from difftune_core.evaluate.grids import image_grid, scale_for, stacked
from difftune_core.families.base import Task
from difftune_core.families.sample_row import SampleRow
from difftune_core.files import file_info, write_durably
from difftune_core.hooks import SampleEvent

FOLDER = "samples"
_NAME = re.compile(r"step-(\d{8})\.png")
_SHOWN = 8  # rows of the report's picture


@dataclass
class Samples:
    """The sample images of a run: what is due, drawn and shown."""

    task: Task[Any]
    state: TrainState[Any]

    @property
    def folder(self) -> Path:
        """The folder in which the images lie."""
        return self.task.preparation.folders.out / FOLDER

    def due(self, step: int) -> bool:
        """Return whether images of this step are wanted and not there yet."""
        config = self.task.preparation.config
        training, marked = config.method.hyperparameters, config.evaluation.every_steps
        is_due = config.samples.is_due(step, training.max_steps, training.checkpoint_every_steps, marked)
        return is_due and self.row is not None and not self._path(step).is_file()

    def draw(self) -> None:
        """Draw images of the average now, and tell of their file.

        Raises:
            Stopped: a stop was requested; nothing is left of them.
        """
        preparation, row = self.task.preparation, self.row
        assert row is not None, "due"
        self.state.drop_gradients()
        preparation.phase("sampling")
        try:
            progress = preparation.progress("sampling", len(row.names))
            with self.state.average_on_device(), self.state.execution.precision.autocast():
                images = row.draw(self.state.average, self._sampling, progress)
        finally:
            preparation.rest()
        file, path = io.BytesIO(), self._path(self.state.step)
        image_grid(images, len(images)).save(file, "PNG")
        path.parent.mkdir(exist_ok=True)
        write_durably(path, file.getvalue())
        self._tell(path, self.state.step)

    def take_up(self) -> None:
        """Tell again of what an earlier attempt drew up to here, as its listener may have died; forget the rest."""
        for step, path in self._drawn():
            if step > self.state.step:
                path.unlink(missing_ok=True)  # or another process of the run was first
            else:
                self._tell(path, step)

    def picture(self) -> dict[str, Any] | None:
        """The report's picture of the images: steps from top to bottom; None where there are none."""
        drawn, row = self._drawn(), self.row
        if not drawn or row is None:
            return None
        chosen = sorted({round(i) for i in np.linspace(0, len(drawn) - 1, min(_SHOWN, len(drawn)))})
        strips, names = [], []
        if row.followed is not None:
            strips.append(image_grid(row.followed, len(row.followed)))
            names.append(row.followed_name)
        for step, path in (drawn[i] for i in chosen):
            with Image.open(path, formats=["PNG"]) as opened:
                strips.append(opened.convert("RGBA"))
            names.append(f"step {step:,}")
        scale = scale_for(len(row.names), strips[0].height)
        left_out = f"; {len(chosen)} of {len(drawn)} steps" if len(chosen) < len(drawn) else ""
        note = f"one noise a column, {self._sampling.num_inference_steps} denoising steps{left_out}"
        picture = {"title": "Samples on the way", "image": stacked(strips, scale), "columns": list(row.names)}
        return {**picture, "rows": names, "note": note}

    @cached_property
    def row(self) -> SampleRow[Any] | None:
        """Row that is drawn; None where nothing is."""
        count = self.task.preparation.config.samples.num_images
        return self.task.sample_row(count) if count else None

    @property
    def _sampling(self) -> Sampling:
        preparation = self.task.preparation
        evaluated, settings = Sampling.of(preparation.config.evaluation), preparation.config.samples
        return replace(
            evaluated,
            sampler=SAMPLERS[preparation.base.card.process][0],
            num_inference_steps=settings.num_inference_steps,
            guidance="cfg" if evaluated.guidance == "domain" else evaluated.guidance,  # no second model for a look
        )

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}.png"

    def _drawn(self) -> list[tuple[int, Path]]:
        """Return the steps that have files, with these."""
        found = ((_NAME.fullmatch(path.name), path) for path in self.folder.glob("step-*.png"))
        return sorted((int(matched[1]), path) for matched, path in found if matched is not None)

    def _tell(self, path: Path, step: int) -> None:
        preparation, row = self.task.preparation, self.row
        count = 0 if row is None else len(row.names)
        preparation.hooks.emit(SampleEvent(step=step, num_images=count, file=file_info(path, preparation.folders.out)))
