"""One run of a ControlNet: captioned rows with their controls, a ControlNet in two forms in the end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import nn

from difftune_core.adapters.merge import merged
from difftune_core.config.adapter import Adapter
from difftune_core.config.control import ControlConfig
from difftune_core.config.reports.evaluation import Evaluation
from difftune_core.data.conditions import Annotator, annotator, release
from difftune_core.data.controlled import ControlledSet, cached_controls, controls_on, given_controls
from difftune_core.data.decoded import Rows
from difftune_core.data.pixels import ImageRows
from difftune_core.diffusion.reverse import Sampling
from difftune_core.evaluate.clip_score import ClipScorer
from difftune_core.evaluate.report.convergence import why_none
from difftune_core.evaluate.training_images import TrainingImages
from difftune_core.families.base import Delivered, Page, Task
from difftune_core.families.controlnet.base_model import StableDiffusion, new_controlnet, open_controlnet
from difftune_core.families.controlnet.batch import ControlledData
from difftune_core.families.controlnet.controls import comparison_of
from difftune_core.families.controlnet.draw import Control, Prompted, sample_prompted
from difftune_core.families.controlnet.export import export_controlnet
from difftune_core.families.controlnet.judge import ControlNetJudge
from difftune_core.families.controlnet.page import convergence_of, cut_captions, grids_of
from difftune_core.families.export import stated_config
from difftune_core.families.preparation import Preparation
from difftune_core.families.rows import captioned_rows
from difftune_core.families.sample_row import SampleRow
from difftune_core.files import folder_digest
from difftune_core.hooks import LogEvent
from difftune_core.interruption import Progress
from difftune_core.networks.state import CONFIG
from difftune_core.networks.text import TextTable, text_table
from difftune_core.runtime.precision import COMPUTES_IN
from difftune_core.runtime.tensors import channels_last


class ControlNetTask(Task[nn.Module]):
    """Teaches a ControlNet beside a frozen Stable Diffusion to follow a condition."""

    label = "caption"

    def __init__(self, preparation: Preparation) -> None:
        """Find the models that the config names.

        Raises:
            TaskError: `model_not_found`; better now than at the first evaluation.
        """
        super().__init__(preparation)
        config = preparation.config
        self._init_from = self._named(self.control.init_from, "control.init_from")
        is_drawn = not self.control.definition.is_computed
        self._annotator_folder = self._named(self.control.annotator, "control.annotator") if is_drawn else None
        self._clip_folder = self._named(config.evaluation.clip_model, "evaluation.clip_model")
        _ = self.annotator, comparison_of(self.control.condition)

    def _named(self, model_id: str | None, where: str) -> Path | None:
        return None if model_id is None else self.preparation.model_folder(model_id, where)

    @property
    def base(self) -> StableDiffusion:
        """The base model as what it is."""
        assert isinstance(self.preparation.base, StableDiffusion), self.preparation.base.card.family
        return self.preparation.base

    @property
    def control(self) -> ControlConfig:
        """The config's part."""
        assert self.preparation.config.control is not None, "resolved at submit"
        return self.preparation.config.control

    @cached_property
    def annotator(self) -> Annotator:
        """What draws this run's condition."""
        return annotator(self.control.condition, self._annotator_folder, self.preparation.device)

    @cached_property
    def drawn_by(self) -> str:
        """Identifies the annotator."""
        folder = self._annotator_folder
        return self.control.definition.formula if folder is None else folder_digest(folder)

    @property
    def identity(self) -> dict[str, Any]:
        """Controls that another annotator drew are other data."""
        return {"annotator": self.drawn_by}

    @cached_property
    def _read(self) -> tuple[Rows, Rows]:
        return captioned_rows(self.preparation, self.preparation.begun_with)

    def read(self) -> tuple[Rows, Rows]:
        """Read training rows and held-out rows."""
        return self._read

    @cached_property
    def unet(self) -> nn.Module:
        """The frozen denoiser."""
        return channels_last(self.base.load_unet(self.preparation.device))

    @property
    def _drawn_from(self) -> StableDiffusion:
        """The base model with the run's own UNet, of which no second copy is loaded to draw its images."""
        return replace(self.base, in_memory=self.unet)

    def start(self) -> nn.Module:
        """Make the ControlNet as it is before the first step."""
        preparation, unet = self.preparation, self.unet
        if getattr(unet, COMPUTES_IN, None) is not None:
            unet = self.base.load_unet()  # what is copied from it is trained in float32
        return new_controlnet(unet, self._init_from, preparation.device, seed=preparation.config.seed)

    def networks_beside(self) -> tuple[nn.Module]:
        """Give the UNet, whose decoder gradients pass through."""
        return (self.unet,)

    @cached_property
    def texts(self) -> TextTable:
        """States of all prompts of the run: its captions, the default prompt and the empty one."""
        assert self.control.default_prompt is not None, "resolved at submit"
        preparation = self.preparation
        prompts = [*(caption for rows in self._read for caption in rows.captions), self.control.default_prompt, ""]
        table = text_table(prompts, self.base.folder, preparation.folders.cache, preparation.device)
        if table.num_truncated:
            message = f"{table.num_truncated} captions are longer than the text encoder takes; their ends are lost"
            preparation.hooks.emit(LogEvent(level="warn", message=message))
        return table

    def load(self) -> ControlledData:
        """Bring latents, controls and prompts of target and retention set to the device."""
        preparation, method, target = self.preparation, self.preparation.config.method, self._read[0]
        texts, retention = self.texts, None
        if method.retention_set is not None:
            bank = preparation.bank(method.retention_set, self._drawn_from)
            preparation.phase("caching_latents")
            retention = self.controlled(bank.images, None)
        preparation.phase("caching_latents")
        controlled = self.controlled(target.pixels, target)
        release(self.annotator)
        return ControlledData(
            target=controlled,
            retention=retention,
            empty_prompt=texts.rows[""],
            process=self.base.process().to(preparation.device),
            unet=self.unet,
        )

    def controlled(self, pixels: ImageRows, given: Rows | None) -> ControlledSet:
        """Latents, controls and prompts; without rows (the retention set) the default prompt for every picture."""
        preparation, texts = self.preparation, self.texts
        latents = preparation.latents(pixels, torch.zeros(len(pixels), dtype=torch.long), flip=False)
        if given is not None and given.controls is not None:
            controls = given_controls(given.controls, preparation.device, preparation.folders.cache)
        else:
            drawn = cached_controls(
                pixels,
                condition=self.control.condition,
                drawn_by=self.drawn_by,
                cache=preparation.folders.cache,
                load_annotator=lambda: self.annotator,
                progress=preparation.progress("caching_latents", len(pixels)),
            )
            controls = controls_on(preparation.device, drawn)
        captions = given.captions if given is not None else [self.control.default_prompt or ""] * len(pixels)
        prompt = torch.tensor([texts.rows[caption] for caption in captions])
        return ControlledSet(latents, controls, texts.states, prompt)

    def open(self, checkpoint: Path) -> nn.Module:
        """Load a checkpoint's average."""
        return open_controlnet(checkpoint, self.preparation.device)

    def write_config(self, model: nn.Module, folder: Path, adapter: Adapter | None) -> None:
        """Write diffusers' config; every adapter of a ControlNet is merged."""
        del adapter
        (folder / CONFIG).write_text(json.dumps(stated_config(model), indent=2) + "\n", encoding="utf-8")

    @property
    def _judge(self) -> ControlNetJudge:
        assert isinstance(self.judge, ControlNetJudge), "made below"
        return self.judge

    def make_judge(self) -> ControlNetJudge:
        """Build the judge, with its own images of the base model."""
        preparation, held_out = self.preparation, self._read[1]
        judged = preparation.judged_source(self._drawn_from, prompt=self.control.default_prompt)
        source = judged.found
        clip = None if self._clip_folder is None else ClipScorer(self._clip_folder, preparation.device)
        return ControlNetJudge(
            base=self.base,
            unet=self.unet,
            autoencoder=preparation.autoencoder,
            config=preparation.config.evaluation,
            control=self.control,
            annotator=self.annotator,
            clip=clip,
            extractors=preparation.extractors(),
            real=held_out.pixels,
            real_digest=held_out.digest,
            captions=held_out.captions,
            held_out=self.controlled(held_out.pixels, held_out),
            source=self.controlled(source.images, None),
            source_images=source.images,
            source_sampling=judged.sampling,
            source_digest=source.digest,
            source_recipe=judged.recipe,
            empty_prompt=self.texts.rows[""],
            cache=preparation.folders.cache,
            drawn_by=self.drawn_by,
            device=preparation.device,
            precision=preparation.precision,
            together=preparation.together,
            training=TrainingImages(self.rows[0].pixels, preparation.folders.cache),
        )

    def sample_row(self, count: int) -> SampleRow[nn.Module]:
        """Draw the first held-out rows, from their prompts and controls."""
        held_out, texts, preparation = self._read[1], self.texts, self.preparation
        captions, given = held_out.captions[:count], held_out.controls
        places = range(len(captions))
        followed = np.stack([self.annotator(held_out.pixels[i]) if given is None else given[i] for i in places])
        rows = torch.tensor([texts.rows[caption] for caption in (*captions, "")])
        states = texts.states[rows]
        prompted = Prompted(states[:-1], states[-1])
        controls = torch.from_numpy(followed).permute(0, 3, 1, 2).to(preparation.device)

        def draw(model: nn.Module, sampling: Sampling, progress: Progress) -> UInt8[np.ndarray, "k s s 3"]:
            control = Control(model, controls, self.control.conditioning_scale)
            fields = self.base.noise_fields()
            latents = sample_prompted(self.unet, fields, prompted, sampling, control=control, progress=progress)
            return preparation.autoencoder.decode(latents)

        return SampleRow(captions, draw, followed, "control")

    def remarks(self, evaluations: Sequence[Evaluation]) -> list[str]:
        """Say when the condition was followed of a sudden, or why that cannot be said."""
        found = convergence_of(self.control.condition, evaluations)
        if found.step is not None:
            return [f"sudden convergence at step {found.step}, confidence {found.confidence:.3f}"]
        why = why_none(found.reason, found.confidence, found.share)
        return [f"no sudden convergence of the condition {self.control.condition}: {why}"]

    def page(self, result: Delivered[nn.Module], evaluations: Sequence[Evaluation]) -> Page:
        """Draw how results follow their controls, and tell of captions and convergence."""
        target, preparation = self._read[0], self.preparation
        told = {
            "num_captions": len(set(target.captions)),
            "num_truncated_captions": self.texts.num_truncated,
            "controls": "given" if target.controls is not None else "drawn",
        }
        return Page(
            grids_of(result.model, self._judge, lambda total: preparation.progress("exporting", total)),
            told,
            cut_captions(self._judge),
            {"annotator": self.drawn_by},
            {"convergence": asdict(convergence_of(self.control.condition, evaluations))},
        )

    def export(self, result: Delivered[nn.Module], out: Path) -> list[tuple[str, Path]]:
        """Write a diffusers folder, and the single file that ComfyUI and A1111 read."""
        card = self.export_card(result.step, condition=self.control.condition)
        folder, single = export_controlnet(merged(result.model), out, card=card)
        return [("export_diffusers", folder), ("export_single_file", single)]
