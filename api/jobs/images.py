"""How many images a job trains on and is judged by, as far as its data sets tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from sqlalchemy.orm import Session

from api.datasets.models import Dataset
from api.datasets.states import DatasetStatus
from api.jobs.models import Job
from api.subjects.repository import find
from difftune_core.config.card import BaseModelCard
from difftune_core.config.evaluation import EvaluationConfig
from difftune_core.config.families import rules_of, rules_of_config

_LEAST_OF_CLASS, _LEAST_OF_ROWS = 1, 2
"""Images that a split holds out at least (`difftune_core/data/holdout.py`)."""


class Counts(NamedTuple):
    """Numbers of images; None before the data sets are validated."""

    trained: int | None
    held_out: int | None


def of(session: Session, job: Job) -> Counts:
    """Count the images of a job."""
    validation = session.get_one(Dataset, job.validation_file) if job.validation_file else None
    config = job.transfer
    fraction = config.evaluation.holdout_fraction
    return counted(session.get_one(Dataset, job.training_file), validation, rules_of_config(config).data_form, fraction)


class Asked(Protocol):
    """What a job's images depend on, of whoever asks for jobs."""

    @property
    def training_file(self) -> str:
        """Id of the training images."""
        ...

    @property
    def validation_file(self) -> str | None:
        """Id of the held-out images."""
        ...

    @property
    def evaluation(self) -> EvaluationConfig:
        """How results are judged, as stated."""
        ...


def asked_of(session: Session, tenant_id: str, body: Asked, card: BaseModelCard) -> int | None:
    """Count the training images of a job that is asked for; None where its data sets are not ready, or not there."""
    named = (body.training_file, body.validation_file)
    found = [find(session, Dataset, tenant_id, id_) if id_ else None for id_ in named]
    training, validation = found
    if training is None or any(row is not None and row.status != DatasetStatus.READY for row in found):
        return None
    stated = body.evaluation
    field = "holdout_fraction"
    by_default = card.defaults.evaluation.get(field, stated.holdout_fraction)
    fraction = stated.holdout_fraction if field in stated.model_fields_set else float(by_default)
    return counted(training, validation, rules_of(card).data_form, fraction).trained


def counted(training: Dataset, validation: Dataset | None, form: str, fraction: float) -> Counts:
    """Count what is trained on and what is held out: a file, a split of the file, or what the trainer will draw.

    A drawn split holds copies together, so that where there are copies it may be an image more or less.
    """
    count, report = training.num_items, training.report or {}
    if count is None:
        return Counts(None, None)
    if validation is not None:
        return Counts(count, validation.num_items)
    if report.get("num_held_out"):  # the archive's own split, whose images are not among the items
        return Counts(count, int(report["num_held_out"]))
    classes: dict[str, int] = report.get("class_counts") or {}
    if form != "class_folders":
        return Counts(count - _drawn([count], fraction, _LEAST_OF_ROWS), None)
    held_out = _drawn(list(classes.values()) or [count], fraction, _LEAST_OF_CLASS)
    return Counts(count - held_out, held_out if classes else None)


def _drawn(groups: Sequence[int], fraction: float, least: int) -> int:
    return sum(min(max(least, round(fraction * count)), count - 1) for count in groups)
