"""One run of a DiT: class folders, a label table for the target's classes, a `DiTPipeline` in the end."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from difftune_core.adapters.merge import merged
from difftune_core.adapters.select import adapt
from difftune_core.checkpoint.begin import Beginning
from difftune_core.config.adapter import Adapter, FullTuning
from difftune_core.config.reports.evaluation import Evaluation
from difftune_core.data.decoded import Images
from difftune_core.diffusion.reverse import Sampling
from difftune_core.evaluate.classes import spread_labels, told_of_classes
from difftune_core.evaluate.training_images import TrainingImages
from difftune_core.families.base import Delivered, Page, Task
from difftune_core.families.dit import beginning as beginnings
from difftune_core.families.dit.base_model import DiTModel
from difftune_core.families.dit.draw import sample_latents
from difftune_core.families.dit.export import export_diffusers
from difftune_core.families.dit.files import load_dit, read_dit_config, read_weights, write_dit_config
from difftune_core.families.dit.judge import DiTJudge
from difftune_core.families.dit.label_rows import TABLE, Rule, table_of, told_of_rows, with_classes
from difftune_core.families.dit.page import grids_of
from difftune_core.families.export import zip_folder
from difftune_core.families.labelled import LabelledData
from difftune_core.families.rows import class_rows
from difftune_core.families.sample_row import SampleRow
from difftune_core.hooks import LogEvent
from difftune_core.interruption import Progress
from difftune_core.networks.dit import DiT

_ARCHIVE = "diffusers.zip"


class DiTTask(Task[DiT]):
    """Tunes a DiT to the classes of a data set."""

    label = "class"
    _teacher: DiT | None = None

    @property
    def base(self) -> DiTModel:
        """The base model, which shares with the model that is tuned from it what is frozen there."""
        assert isinstance(self.preparation.base, DiTModel), self.preparation.base.card.family
        return replace(self.preparation.base, beside=self._teacher or self.tuned)

    @cached_property
    def _read(self) -> tuple[Images, Images, tuple[str, ...]]:
        return class_rows(self.preparation, self.preparation.begun_with)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the target's classes, by label."""
        return self._read[2]

    def read(self) -> tuple[Images, Images]:
        """Read training images and held-out images."""
        return self._read[:2]

    def load(self) -> LabelledData:
        """Bring latents of target and retention set to the device, or the teacher."""
        preparation, method = self.preparation, self.preparation.config.method
        flip = method.hyperparameters.horizontal_flip
        retention = None
        if method.needs_teacher:
            self._teacher = self.base.load_dit(preparation.device).eval().requires_grad_(requires_grad=False)
        elif method.retention_set is not None:
            bank = preparation.bank(method.retention_set)
            preparation.phase("caching_latents")
            retention = preparation.latents(bank.images, bank.labels, flip=flip)
        preparation.phase("caching_latents")
        target = self._read[0]
        latents = preparation.latents(target.pixels, target.labels, flip=flip)
        process = self.base.process().to(preparation.device)
        return LabelledData(latents, retention, len(self.class_names), process, self._teacher)

    def start(self) -> DiT:
        """Make the base model with a label table of the target's classes."""
        return with_classes(self.base.load_dit(self.preparation.device), len(self.class_names), self._rule)

    def networks_beside(self) -> tuple[DiT, ...]:
        """Give the teacher, where there is one."""
        return () if self._teacher is None else (self._teacher,)

    @property
    def _rule(self) -> Rule:
        return self.preparation.config.method.hyperparameters.label_rows

    def first_values(self, adapter: Adapter, *, seed: int) -> Iterable[tuple[str, Tensor]]:
        """Read weights one after the other from the base model's file, or beside an adapter share what is frozen."""
        classes, base = len(self.class_names), self.base
        if isinstance(adapter, FullTuning):
            for name, tensor in read_weights(base.folder / "dit"):
                yield name, table_of(tensor.float(), classes, self._rule) if name == TABLE else tensor.float()
            return
        start = with_classes(base.load_dit(self.preparation.device), classes, self._rule, share=True)
        yield from adapt(start, adapter, seed=seed).named_parameters()

    def continued(self, beginning: Beginning) -> DiT:
        """Give a tuned DiT the target's classes: those that it knows by name keep their rows."""
        return beginnings.continued(beginning, self.class_names, self._rule, self.preparation.device)

    def _told_of_rows(self) -> str:
        beginning = self.preparation.beginning
        if beginning is not None:
            return beginnings.told_of_classes(beginning, self.class_names, self._rule)
        return told_of_rows(len(self.class_names), self.base.card.num_classes, self._rule)

    def open(self, checkpoint: Path) -> DiT:
        """Load a checkpoint's average."""
        return load_dit(checkpoint, read_dit_config(checkpoint), self.preparation.device)

    def write_config(self, model: DiT, folder: Path, adapter: Adapter | None) -> None:
        """Write our own config, with the adapter where the weights are not those of a plain DiT."""
        write_dit_config(folder, model.config, adapter)

    @property
    def _judge(self) -> DiTJudge:
        assert isinstance(self.judge, DiTJudge), "made below"
        return self.judge

    def make_judge(self) -> DiTJudge:
        """Build the judge, with its own images of the base model."""
        preparation, held_out = self.preparation, self._read[1]
        judged = preparation.judged_source(self.base)
        source = judged.found
        return DiTJudge(
            base=self.base,
            config=preparation.config.evaluation,
            extractors=preparation.extractors(),
            autoencoder=preparation.autoencoder,
            real=held_out.pixels,
            real_labels=held_out.labels,
            real_digest=held_out.digest,
            source=source.images,
            source_digest=source.digest,
            source_recipe=judged.recipe,
            source_latents=preparation.latents(source.images, source.labels, flip=False),
            cache=preparation.folders.cache,
            device=preparation.device,
            precision=preparation.precision,
            together=preparation.together,
            training=TrainingImages(self._read[0].pixels, preparation.folders.cache),
        )

    def sample_row(self, count: int) -> SampleRow[DiT]:
        """Draw classes spread over the table, each from a noise of its own."""
        names = self.class_names
        labels = spread_labels(count, len(names))

        def draw(model: DiT, sampling: Sampling, progress: Progress) -> UInt8[np.ndarray, "k s s 3"]:
            sampling = replace(sampling, handover=0.0)  # they show the model itself, and need no other in memory
            return self.preparation.autoencoder.decode(sample_latents(model, labels, sampling, progress=progress))

        return SampleRow(tuple(names[label] for label in labels.tolist()), draw)

    def page(self, result: Delivered[DiT], evaluations: Sequence[Evaluation]) -> Page:
        """Draw samples by class, and tell what was done to the label table."""
        del evaluations
        preparation, judge = self.preparation, self._judge
        grids = grids_of(
            result.model,
            judge,
            self._read[1],
            self.class_names,
            lambda total: preparation.progress("exporting", total),
        )
        notes = [
            *told_of_classes(judge.labels(result.model), judge.real_labels, self.class_names),
            self._told_of_rows(),
        ]
        return Page(grids, {"class_names": self.class_names}, notes)

    def export(self, result: Delivered[DiT], out: Path) -> list[tuple[str, Path]]:
        """Write a `DiTPipeline`, where there can be one: it has no place for other processes and unmerged adapters."""
        base, preparation = self.base, self.preparation
        adapter = preparation.config.method.hyperparameters.adapter
        why = None if adapter.mergeable else f"{adapter.type} is no change of weights and cannot be merged into them"
        if base.card.process != "ddpm":
            why = f"DiTPipeline cannot sample a model of the process {base.card.process!r}"
        if why is not None:
            preparation.hooks.emit(LogEvent(level="warn", message=f"no diffusers export: {why}"))
            return []
        with tempfile.TemporaryDirectory(dir=out) as folder:
            export_diffusers(
                merged(result.model),
                base.folder / "vae",
                Path(folder),
                class_names=self.class_names,
                card=self.export_card(result.step),
                sampling=self._judge.sampling,
                source=base.load_dit(preparation.device).eval() if self._judge.sampling.handover else None,
                listen=lambda total: preparation.progress("exporting", total),
            )
            zip_folder(Path(folder), out / _ARCHIVE)
        return [("export_diffusers", out / _ARCHIVE)]
