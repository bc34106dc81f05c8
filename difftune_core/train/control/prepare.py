"""From config and folders to what a ControlNet run trains on and is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from difftune_core.config.control import COMPUTED, ControlConfig
from difftune_core.config.transfer import DiffTuning
from difftune_core.data.conditions import Annotator, annotator
from difftune_core.data.controlled import ControlledSet, as_channels, cached_controls, check_rows
from difftune_core.data.dataset import open_captioned
from difftune_core.data.decoded import Rows, load_rows
from difftune_core.data.holdout import chosen_split, split_rows
from difftune_core.files import folder_digest
from difftune_core.hooks import LogEvent, TaskError
from difftune_core.models.stable_diffusion import StableDiffusion
from difftune_core.models.text import TextTable, text_table
from difftune_core.train.control.step import ControlledData
from difftune_core.train.prepare import Preparation

_LINES_VERSION = 1  # of the formulas for edge and sketch
_MIN_HELD_OUT = 2


@dataclass
class ControlPreparation(Preparation):
    """A `Preparation` whose base model is a Stable Diffusion."""

    @cached_property
    def stable_diffusion(self) -> StableDiffusion:
        """The base model as what it is."""
        assert isinstance(self.base, StableDiffusion), self.base.card.family
        return self.base

    @cached_property
    def control(self) -> ControlConfig:
        """The config's part."""
        assert self.config.control is not None, "resolved at submit"
        return self.config.control

    def model_folder(self, model_id: str, field: str) -> Path:
        """Folder of an installed annotator, ControlNet or CLIP model.

        Raises:
            TaskError: `model_not_found`, naming `field`.
        """
        for root in self.folders.models:
            if (root / model_id).is_dir():
                return root / model_id
        raise TaskError("model_not_found", f"there is no {model_id!r} among the models", field)

    @cached_property
    def annotator_folder(self) -> Path | None:
        """The network's folder; None for what is computed."""
        if self.control.condition in COMPUTED:
            return None
        assert self.control.annotator is not None, "resolved at submit"
        return self.model_folder(self.control.annotator, "control.annotator")

    @cached_property
    def init_from(self) -> Path | None:
        """Folder of the ControlNet to go on from, if there is one."""
        given = self.control.init_from
        return None if given is None else self.model_folder(given, "control.init_from")

    @cached_property
    def clip_folder(self) -> Path | None:
        """Folder of the CLIP model that scores captions, if there is one."""
        given = self.config.evaluation.clip_model
        return None if given is None else self.model_folder(given, "evaluation.clip_model")

    @cached_property
    def annotator(self) -> Annotator:
        """Who draws this run's condition."""
        return annotator(self.control.condition, self.annotator_folder, self.device)

    @cached_property
    def drawn_by(self) -> str:
        """Identifies the annotator."""
        folder = self.annotator_folder
        return f"lines {_LINES_VERSION}" if folder is None else folder_digest(folder)

    def rows(self, begun_with: str | None) -> tuple[Rows, Rows]:
        """Training rows and held-out rows.

        Args:
            begun_with: what the run's checkpoints call its training data.

        Raises:
            TaskError: `invalid_dataset`, `too_few_images`, or `control_mismatch` where one file has control images and
                the other none.
        """
        size = self.base.card.image_size
        train = load_rows(open_captioned(self.folders.data, self.folders.data_options), size)
        if self.folders.held_out is not None:
            held_out = load_rows(open_captioned(*self.folders.held_out), size)
            if (train.controls is None) != (held_out.controls is None):
                message = "one file has control images and the other has none"
                raise TaskError("control_mismatch", message, "validation_file")
        else:
            check_rows(train, _MIN_HELD_OUT + 1, "the data set")
            asked = len(train), self.config.evaluation.holdout_fraction, self.config.seed, _MIN_HELD_OUT
            kept, held = chosen_split(train, begun_with, partial(split_rows, *asked))
            held_out, train = train.subset(held, "held out"), train.subset(kept, "kept")
        check_rows(held_out, _MIN_HELD_OUT, "the held-out set")
        return train, held_out

    def controls(self, pixels: UInt8[np.ndarray, "n s s 3"]) -> UInt8[np.ndarray, "n s s 3"]:
        """Control images of pictures, drawn by this run's annotator."""
        return cached_controls(
            pixels,
            condition=self.control.condition,
            drawn_by=self.drawn_by,
            cache=self.folders.cache,
            load_annotator=lambda: self.annotator,
            progress=self.progress("caching_latents", len(pixels)),
        )

    def texts(self, captions: Sequence[str]) -> TextTable:
        """States of all prompts of the run: its captions, the default prompt and the empty one."""
        assert self.control.default_prompt is not None, "resolved at submit"
        prompts = [*captions, self.control.default_prompt, ""]
        table = text_table(prompts, self.base.folder, self.folders.cache, self.device)
        if table.num_truncated:
            message = f"{table.num_truncated} captions are longer than the text encoder takes; their ends are lost"
            self.hooks.emit(LogEvent(level="warn", message=message))
        return table

    def controlled(self, pixels: UInt8[np.ndarray, "n s s 3"], given: Rows | None, table: TextTable) -> ControlledSet:
        """Latents, controls and prompts; without rows (the retention set) the default prompt for every picture."""
        latents = self.latents(pixels, torch.zeros(len(pixels), dtype=torch.long), flip=False)
        controls = given.controls if given is not None else None
        if controls is None:
            controls = self.controls(pixels)
        captions = given.captions if given is not None else [self.control.default_prompt or ""] * len(pixels)
        prompt = torch.tensor([table.rows[caption] for caption in captions])
        return ControlledSet(latents, as_channels(controls).to(self.device), table.states, prompt)

    def controlled_data(self, target: Rows, table: TextTable) -> ControlledData:
        """Everything that a step reads."""
        retention = None
        if isinstance(self.config.method, DiffTuning):
            bank = self.bank(self.config.method.hyperparameters.retention_set)
            self.phase("caching_latents")
            retention = self.controlled(bank.images, None, table)
        self.phase("caching_latents")
        return ControlledData(
            target=self.controlled(target.pixels, target, table),
            retention=retention,
            empty_prompt=table.rows[""],
            process=self.base.process().to(self.device),
            unet=self.stable_diffusion.load_unet(self.device),
        )
