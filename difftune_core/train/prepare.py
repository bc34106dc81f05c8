"""From config and folders to tensors: data sets, retention set, latents. Each shared between jobs by content."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from difftune_core.config.about import About
from difftune_core.config.dataset import DatasetOptions
from difftune_core.config.resolution import resolve_retention_set
from difftune_core.config.retention import RetentionSetConfig
from difftune_core.config.transfer import DiffTuning, TransferConfig
from difftune_core.data.dataset import open_dataset
from difftune_core.data.decoded import Images, decoded
from difftune_core.data.holdout import chosen_split, split_by_class
from difftune_core.data.latents import LatentSet, cached_latents
from difftune_core.evaluate.compare import check_known
from difftune_core.evaluate.features import load_extractor
from difftune_core.evaluate.judge import Judge
from difftune_core.hooks import Hooks, Phase, PhaseEvent, TaskError
from difftune_core.interruption import Progress, Stopped, progress_of
from difftune_core.models.autoencoder import Autoencoder
from difftune_core.models.registry import BaseModel
from difftune_core.retention.bank import RetentionSet, load_retention_set, retention_set
from difftune_core.train.step import TrainingData

REFERENCE_SEED_OFFSET = 1  # the judge's images of the base model are other images than the retention set's


@dataclass(frozen=True)
class Folders:
    """Where a run finds and leaves things."""

    data: Path
    validation: Path | None
    models: list[Path]
    cache: Path
    out: Path
    retention: Path | None = None
    """File of the retention set; takes the place of what the config says of it."""
    about: About = field(default_factory=About)
    """What the report says of whose it is."""
    data_options: DatasetOptions = field(default_factory=DatasetOptions)
    validation_options: DatasetOptions = field(default_factory=DatasetOptions)

    @property
    def held_out(self) -> tuple[Path, DatasetOptions] | None:
        """Where the held-out images come from; None where they are to be split off."""
        if self.validation is not None:
            return self.validation, self.validation_options
        return (self.data, self.data_options.held_out()) if self.data_options.splits == "hold_out" else None


@dataclass
class Preparation:
    """Builds what training and judging need; heavy parts are loaded once and late."""

    config: TransferConfig
    base: BaseModel
    folders: Folders
    hooks: Hooks
    device: torch.device

    def __post_init__(self) -> None:
        """Nothing is loaded yet."""
        self._autoencoder: Autoencoder | None = None
        self.retention_used: dict[str, str | int | None] | None = None
        """Which retention set is trained on: `id` where it was named, `digest`, `num_images`."""

    def autoencoder(self) -> Autoencoder:
        """The base model's autoencoder."""
        if self._autoencoder is None:
            self._autoencoder = self.base.load_autoencoder(self.device)
        return self._autoencoder

    def phase(self, phase: Phase) -> None:
        """Announce a phase, unless somebody asked to stop."""
        self.check()
        self.hooks.emit(PhaseEvent(phase=phase))

    def check(self) -> None:
        """Raise `Stopped` if somebody asked to stop."""
        if self.hooks.stop_requested() is not None:
            raise Stopped

    def progress(self, phase: Phase, total: int) -> Progress:
        """A callback that reports `done` of `total`, and is where a stop takes effect."""
        return progress_of(self.hooks, phase, total)

    def images(self, begun_with: str | None = None) -> tuple[Images, Images, tuple[str, ...]]:
        """Training images, held-out images, class names.

        Args:
            begun_with: what checkpoints that are to fit call their training data.

        Raises:
            TaskError: `class_mismatch`, `too_few_images`, or the data set's own.
        """
        size = self.base.card.image_size
        train = open_dataset(self.folders.data, self.folders.data_options)
        if self.folders.held_out is None:
            both = decoded(train, size)
            asked = both.labels, self.config.evaluation.holdout_fraction, self.config.seed
            kept, held_out = chosen_split(both, begun_with, partial(split_by_class, *asked))
            return both.subset(kept, "kept"), both.subset(held_out, "held out"), train.class_names
        validation = open_dataset(*self.folders.held_out)
        if validation.class_names != train.class_names:
            differing = sorted(set(validation.class_names) ^ set(train.class_names))
            raise TaskError(
                "class_mismatch", f"the classes of the two files differ: {', '.join(differing)}", "validation_file"
            )
        return decoded(train, size), decoded(validation, size), train.class_names

    def latents(self, pixels: UInt8[np.ndarray, "n s s 3"], labels: Int[Tensor, " n"], *, flip: bool) -> LatentSet:
        """Cached latents of images."""
        cached = cached_latents(
            pixels,
            labels,
            autoencoder=self.base.autoencoder_digest(),
            flip=flip,
            cache=self.folders.cache,
            load_autoencoder=self.autoencoder,
        )
        return cached.to(self.device)

    def retained(self, config: RetentionSetConfig, phase: Phase) -> RetentionSet:
        """A retention set of the base model, made in the phase if the cache lacks it."""
        self.phase(phase)
        progress = self.progress(phase, config.num_images)
        return retention_set(self.base, config, self.folders.cache, device=self.device, progress=progress)

    def training_data(self, target: Images, null_label: int) -> TrainingData:
        """Latents of target and retention set on the device."""
        flip = self.config.method.hyperparameters.horizontal_flip
        retention, teacher = None, None
        if self.config.method.needs_teacher:
            teacher = self.base.load_dit(self.device).eval().requires_grad_(False)  # noqa: FBT003  # no name there
        elif isinstance(self.config.method, DiffTuning):
            bank = self.bank(self.config.method.hyperparameters.retention_set)
            self.phase("caching_latents")
            retention = self.latents(bank.images, bank.labels, flip=flip)
        self.phase("caching_latents")
        latents = self.latents(target.pixels, target.labels, flip=flip)
        process = self.base.process().to(self.device)
        return TrainingData(latents, retention, null_label, process, teacher)

    def bank(self, stated: str | RetentionSetConfig) -> RetentionSet:
        """The retention set that is trained on: the file's, or sampled as stated."""
        if self.folders.retention is not None:
            found = load_retention_set(self.folders.retention, self.base)
        elif isinstance(stated, RetentionSetConfig):
            found = self.retained(stated, "building_retention_set")
        else:
            field = "method.diff_tuning.hyperparameters.retention_set"
            raise TaskError("retention_set_missing", f"name the file of {stated} with --retention", field)
        id_ = stated if isinstance(stated, str) else None
        self.retention_used = {"id": id_, "digest": found.digest, "num_images": len(found.labels)}
        return found

    def extractor_folders(self) -> list[Path]:
        """Where the feature extractors are, the main one first; whether every metric that is asked for is there too.

        Raises:
            TaskError: `feature_extractor_not_found`, `metric_unknown`, `metric_unloadable`.
        """
        check_known(self.config.evaluation.metrics)
        ids = self.config.evaluation.feature_extractors or (self.base.card.feature_extractor,)
        return [extractor_folder(id_, self.folders.models) for id_ in ids]

    def judge(self, held_out: Images) -> Judge:
        """The judge of this run, with its own images of the base model."""
        defaults = resolve_retention_set(RetentionSetConfig(), self.base.card)
        changes = {"seed": defaults.seed + REFERENCE_SEED_OFFSET, "num_images": self.config.evaluation.num_images}
        source = self.retained(defaults.model_copy(update=changes), "drawing_base_model_images")
        extractor, *others = [load_extractor(folder, self.device) for folder in self.extractor_folders()]
        return Judge(
            base=self.base,
            config=self.config.evaluation,
            extractor=extractor,
            other_extractors=tuple(others),
            autoencoder=self.autoencoder(),
            real=held_out.pixels,
            real_labels=held_out.labels,
            real_digest=held_out.digest,
            source=source.images,
            source_latents=self.latents(source.images, source.labels, flip=False),
            cache=self.folders.cache,
            device=self.device,
        )


def extractor_folder(extractor_id: str, roots: list[Path]) -> Path:
    """Where the feature extractor of that id is, in the first root that has it.

    Raises:
        TaskError: `feature_extractor_not_found`.
    """
    for root in roots:
        if (root / extractor_id).is_dir():
            return root / extractor_id
    raise TaskError("feature_extractor_not_found", f"the feature extractor {extractor_id!r} is not installed")
