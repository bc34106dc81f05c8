"""What every family prepares a run with: folders, hooks, and what is shared between jobs by content."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from difftune_core.checkpoint.begin import Beginning, open_beginning
from difftune_core.checkpoint.manifest import begun_with, evaluations_of
from difftune_core.config.about import About
from difftune_core.config.dataset import DatasetOptions, Validated
from difftune_core.config.resolution import resolve_retention_set
from difftune_core.config.retention import (
    JudgedImagesConfig,
    RetentionSetConfig,
    retention_digest,
    retention_fields,
)
from difftune_core.config.transfer import TransferConfig
from difftune_core.data.latents import Latents, cached_latents
from difftune_core.data.pixels import ImageRows, Pixels
from difftune_core.diffusion.reverse import Sampling
from difftune_core.evaluate.extractor import FeatureExtractor
from difftune_core.evaluate.features import load_extractor
from difftune_core.evaluate.together import Together
from difftune_core.families.base_model import BaseModel
from difftune_core.families.drawers import Drawers
from difftune_core.hooks import Hooks, Phase, PhaseEvent, TaskError
from difftune_core.interruption import Progress, Stopped, progress_of
from difftune_core.networks.autoencoder import Autoencoder
from difftune_core.retention.bank import RetentionSet, load_retention_set, retention_set
from difftune_core.retention.sample import CHUNK
from difftune_core.runtime.blocks import keep_compiled_in
from difftune_core.runtime.compiled import compiles, place_of_compiled
from difftune_core.runtime.precision import Precision, precision_on
from difftune_core.runtime.residency import is_resident

_REFERENCE_SEED_OFFSET = 1  # the judge's images of the base model are other images than the retention set's


@dataclass(frozen=True)
class Folders:
    """The folders where a run finds and leaves things."""

    data: Path
    validation: Path | None
    models: list[Path]
    cache: Path
    out: Path
    retention: Path | None = None
    """File of the retention set; takes the place of what the config says of it."""
    about: About = field(default_factory=About)
    """Whose report it is, as the report says."""
    data_options: DatasetOptions = field(default_factory=DatasetOptions)
    validation_options: DatasetOptions = field(default_factory=DatasetOptions)
    data_validated: Validated | None = None
    """What the validation of `data` has left."""
    validation_validated: Validated | None = None
    start: Path | None = None
    """Folder of a checkpoint of another run on the base model, to begin with in place of the base model itself."""

    @property
    def held_out(self) -> tuple[Path, DatasetOptions, None, Validated | None] | None:
        """Where the held-out images come from, as a data set is opened; None where they are to be split off."""
        if self.validation is not None:
            return self.validation, self.validation_options, None, self.validation_validated
        hold_out = self.data_options.splits == "hold_out"
        return (self.data, self.data_options.held_out(), None, None) if hold_out else None

    @property
    def checkpoints(self) -> Path:
        """Where the run's checkpoints are."""
        return self.out / "checkpoints"


@dataclass(frozen=True)
class JudgedSource:
    """The base model's images that a judge compares with."""

    found: RetentionSet
    sampling: Sampling
    """How the images were drawn."""
    told: dict[str, Any]
    """The images' source for a recipe; empty where they are drawn as up to 0.3.0, so that reports of both can be
    compared."""

    @property
    def recipe(self) -> dict[str, Any]:
        """What a judge's recipe says of the images."""
        return {"base_model_images": self.told} if self.told else {}


@dataclass
class Preparation:
    """Builds what training and judging need; heavy parts are loaded once and late."""

    config: TransferConfig
    base: BaseModel
    folders: Folders
    hooks: Hooks
    device: torch.device
    together: Together = field(default_factory=Together, init=False)
    """The processes that draw with this one."""
    retention_used: dict[str, str | int | None] | None = field(default=None, init=False)
    """Which retention set is trained on: `id` where it was named, `digest`, `num_images`."""

    @cached_property
    def begun_with(self) -> str | None:
        """What the run's checkpoints call its training data; None without one."""
        return begun_with(self.folders.checkpoints)

    @cached_property
    def beginning(self) -> Beginning | None:
        """The checkpoint that the run begins with; None where it begins with the base model.

        Raises:
            TaskError: `invalid_checkpoint` or `model_mismatch`.
        """
        start = self.folders.start
        return None if start is None else open_beginning(start, self.base.card.digest)

    @cached_property
    def autoencoder(self) -> Autoencoder:
        """The base model's autoencoder."""
        return self.base.load_autoencoder(self.device)

    @property
    def precision(self) -> Precision:
        """What networks compute in that draw, as those do that are trained."""
        resources = self.config.resources
        return replace(precision_on(self.device, resources.precision), compiled=compiles(resources, self.device))

    def rest(self) -> None:
        """Let go of the autoencoder, which a step has no use for, until it is next asked for."""
        if "autoencoder" in vars(self):
            self.autoencoder.release()

    def phase(self, phase: Phase) -> None:
        """Announce a phase, unless a stop is requested.

        Raises:
            Stopped: a stop was requested.
        """
        if self.hooks.stop_requested() is not None:
            raise Stopped
        self.hooks.emit(PhaseEvent(phase=phase))

    def progress(self, phase: Phase, total: int) -> Progress:
        """Make a listener that reports `done` of `total`, and is where a stop takes effect."""
        return progress_of(self.hooks, phase, total)

    def latents(self, pixels: ImageRows, labels: Int[Tensor, " n"], *, flip: bool) -> Latents:
        """Encode images, or take their latents from the cache; resident on the device where there is room."""
        progress = self.progress("caching_latents", len(pixels))
        if isinstance(pixels, Pixels):
            pixels.look(progress)
        stored = cached_latents(
            pixels,
            labels,
            autoencoder=self.base.autoencoder_digest(),
            flip=flip,
            cache=self.folders.cache,
            load_autoencoder=lambda: self.autoencoder,
            progress=progress,
        )
        is_small = is_resident(stored.rows.nbytes(), self.device)
        return stored.resident(self.device) if is_small else stored.to(self.device)

    def retained(self, config: RetentionSetConfig, phase: Phase, base: BaseModel | None = None) -> RetentionSet:
        """Find a retention set of the base model, made in the phase if the cache lacks it.

        `base` is the same base model as one that shares with what is in memory.
        """
        self.phase(phase)
        progress = self.progress(phase, config.num_images)
        precision = self.precision
        if precision.compiled:
            keep_compiled_in(place_of_compiled(self.folders.cache))
        drawn_from, folders, world = replace(base or self.base, compiled=precision.compiled), self.folders, 1
        if self.config.resources.gpus > 1 and config.num_images > CHUNK:
            world = self.config.resources.gpus
        drawers = Drawers(folders.models, folders.cache, precision, world)
        return retention_set(
            drawn_from,
            config,
            folders.cache,
            device=self.device,
            precision=precision,
            progress=progress,
            drawing=lambda chunks: drawers.drawing(drawn_from, config, chunks),
        )

    def bank(self, stated: str | RetentionSetConfig, base: BaseModel | None = None) -> RetentionSet:
        """Find the retention set that is trained on: the file's, or sampled as stated from `base`, as `retained`."""
        field = f"{self.config.method.where}.retention_set"
        if self.folders.retention is not None:
            found = load_retention_set(self.folders.retention, self.base, field)
        elif isinstance(stated, RetentionSetConfig):
            found = self.retained(stated, "building_retention_set", base)
        else:
            raise TaskError("retention_set_missing", f"name the file of {stated} with --retention", field)
        id_ = stated if isinstance(stated, str) else None
        self.retention_used = {"id": id_, "digest": found.digest, "num_images": len(found.labels)}
        return found

    def judged_source(self, base: BaseModel | None = None, **own: Any) -> JudgedSource:
        """The base model's images that a judge compares with, and how they were drawn; `own` are a family's settings.

        They are drawn as the evaluation draws, once for all jobs that judge so. No method trains on them: their seed is
        another one than the retention set's. Up to 0.3.0 they were drawn as the card's retention sets are: a job whose
        figures are beside such images goes on with these.
        """
        former = self._judged_as_before(**own)
        judged = self._judged_by(former)
        settings = former if self._compared_with(former) else judged
        found = self.retained(settings, "drawing_base_model_images", base)
        is_new = found.digest != retention_digest(self.base.card.digest, former)
        return JudgedSource(found, Sampling.of(settings), retention_fields(settings) if is_new else {})

    def _judged_as_before(self, **own: Any) -> RetentionSetConfig:
        """Draw as the card's retention sets are drawn, whatever the evaluation says."""
        defaults = resolve_retention_set(RetentionSetConfig(), self.base.card)
        changes = {"seed": defaults.seed + _REFERENCE_SEED_OFFSET, "num_images": self.config.evaluation.num_images}
        return defaults.model_copy(update=changes | own)

    def _judged_by(self, former: RetentionSetConfig) -> RetentionSetConfig:
        """Draw as the evaluation draws; of guidances the base model has its own alone."""
        how = Sampling.of(self.config.evaluation)
        drawn = {
            "sampler": how.sampler,
            "num_inference_steps": how.num_inference_steps,
            "guidance_scale": how.guidance_scale if how.is_guided else 1.0,
            "guidance_interval": how.guidance_interval,
            "guided_channels": how.guided_channels,
        }
        return JudgedImagesConfig.model_validate(former.model_dump() | drawn)

    def _compared_with(self, settings: RetentionSetConfig) -> bool:
        """Return whether figures of forgetting that the run has so far are beside the images of these settings."""
        found = [entry.get("forgetting") or {} for entry in evaluations_of(self.folders.checkpoints)]
        named = {each.get("source") for each in found if each.get("num_source") is not None}
        return bool(named & {None, retention_digest(self.base.card.digest, settings)})

    def extractor_folders(self) -> list[Path]:
        """Return where the feature extractors are, the main one first.

        Raises:
            TaskError: `feature_extractor_not_found`.
        """
        ids = self.config.evaluation.feature_extractors or (self.base.card.feature_extractor,)
        return [_extractor_folder(id_, self.folders.models) for id_ in ids]

    def extractors(self) -> tuple[FeatureExtractor, ...]:
        """Load the feature extractors, the main one first."""
        return tuple(load_extractor(folder, self.device) for folder in self.extractor_folders())

    def model_folder(self, model_id: str, where: str) -> Path:
        """Folder of an installed model that the config names in the field `where`.

        Raises:
            TaskError: `model_not_found`.
        """
        for root in self.folders.models:
            if (root / model_id).is_dir():
                return root / model_id
        raise TaskError("model_not_found", f"there is no {model_id!r} among the models", where)


def _extractor_folder(extractor_id: str, roots: list[Path]) -> Path:
    for root in roots:
        if (root / extractor_id).is_dir():
            return root / extractor_id
    raise TaskError("feature_extractor_not_found", f"the feature extractor {extractor_id!r} is not installed")
