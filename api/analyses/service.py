"""Analyses: what is asked of tuned models after training. Checkpoints of one analysis share base model and data."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from api.analyses.models import Analysis
from api.checkpoints import repository as checkpoints
from api.datasets.models import Dataset
from api.errors import ConflictError, InvalidInputError
from api.ids import new_id
from api.jobs.models import Checkpoint, Job
from api.work import service as work
from api.work.states import Slot, WorkKind
from difftune_core.config.analysis import ChainOfForgetting
from difftune_core.config.card import BaseModelCard
from difftune_core.config.families import rules_of
from difftune_core.config.sampling import check_sampler


@dataclass(frozen=True)
class Tuned:
    """A checkpoint with the job that made it and what that was run on."""

    checkpoint: Checkpoint
    job: Job
    data: Dataset
    held_out: Dataset | None

    @property
    def judged_by(self) -> str:
        """What identifies the held-out images."""
        if self.held_out is not None:
            return f"validation file {self.held_out.identity}"
        if self.data.settings.splits == "hold_out":
            return f"held-out split of {self.data.identity}"
        config = self.job.transfer
        return f"{config.evaluation.holdout_fraction} of the training file by seed {config.seed}"


def checked(
    session: Session, tenant_id: str, checkpoint_ids: Sequence[str], cards: dict[str, BaseModelCard]
) -> list[Tuned]:
    """The tenant's checkpoints, which are of one base model, one data set and one set of held-out images.

    Raises:
        InvalidInputError: one is not there, is named twice, or differs; names it and both digests.
        ConflictError: their data set was deleted.
    """
    found: list[Tuned] = []
    for position, checkpoint_id in enumerate(checkpoint_ids):
        param = f"checkpoints.{position}"
        if checkpoint_id in checkpoint_ids[:position]:
            raise InvalidInputError("duplicate_checkpoint", f"{checkpoint_id} is named twice.", param=param)
        tuned = _tuned(session, tenant_id, checkpoint_id, param)
        _check_same(found[0] if found else tuned, tuned, cards, param)
        found.append(tuned)
    return found


def check_config(config: ChainOfForgetting, cards: dict[str, BaseModelCard]) -> None:
    """Refuse what the base model cannot do.

    Raises:
        InvalidInputError: `model_not_found`, the base model was removed since; `analysis_not_for_model`, its family
            has no chain to hand over.
        TaskError: `sampler_not_for_process`, naming the field.
    """
    if config.model not in cards:
        message = f"The base model {config.model!r} of the checkpoints is not installed any more."
        raise InvalidInputError("model_not_found", message, param="checkpoints.0")
    if why := rules_of(cards[config.model]).no_chain(cards[config.model]):
        raise InvalidInputError("analysis_not_for_model", why, param="checkpoints.0")
    check_sampler(config.evaluation.sampler, cards[config.model].process, "evaluation.sampler")


def create(
    session: Session, tenant_id: str, config: ChainOfForgetting, tuned: Sequence[Tuned], metadata: dict[str, str] | None
) -> Analysis:
    """A new analysis, queued."""
    first = tuned[0]
    analysis = Analysis(
        id=new_id("ana"),
        tenant_id=tenant_id,
        type=config.type,
        config=config.model_dump(mode="json"),
        checkpoints=_named(tuned),
        training_file=first.data.id,
        validation_file=first.held_out.id if first.held_out else None,
        metadata_=metadata,
        total=len(tuned) * len(config.fractions) * config.evaluation.num_images,
        created_at=time.time(),
    )
    session.add(analysis)
    session.flush()
    work.enqueue(session, WorkKind.ANALYSE, analysis.id, tenant_id=tenant_id, slot=Slot.GPU)
    return analysis


def _tuned(session: Session, tenant_id: str, checkpoint_id: str, param: str) -> Tuned:
    checkpoint = checkpoints.find(session, tenant_id, checkpoint_id, lock="read")
    if checkpoint is None:
        raise InvalidInputError("checkpoint_not_found", f"There is no checkpoint {checkpoint_id!r}.", param=param)
    job = session.get_one(Job, checkpoint.job_id)
    data = session.get_one(Dataset, job.training_file)
    held_out = session.get_one(Dataset, job.validation_file) if job.validation_file else None
    for dataset in (data, held_out):
        if dataset is not None and dataset.deleted_at is not None:
            message = f"The data set {dataset.id} of {checkpoint_id} was deleted: there is nothing to compare with."
            raise ConflictError("dataset_deleted", message, param=param, pointer=f"#/{param.replace('.', '/')}")
    return Tuned(checkpoint, job, data, held_out)


def _check_same(first: Tuned, other: Tuned, cards: dict[str, BaseModelCard], param: str) -> None:
    pairs = {
        "base_model_mismatch": ("base model", *(_model(tuned.job.model, cards) for tuned in (first, other))),
        "data_mismatch": ("training data", str(first.data.identity), str(other.data.identity)),
        "held_out_mismatch": ("held-out images", first.judged_by, other.judged_by),
    }
    for code, (what, ours, theirs) in pairs.items():
        if ours != theirs:
            message = (
                f"Checkpoints of one analysis need the same {what}: {other.checkpoint.id} has {theirs}, "
                f"{first.checkpoint.id} has {ours}."
            )
            raise InvalidInputError(code, message, param=param)


def _model(model_id: str, cards: dict[str, BaseModelCard]) -> str:
    return f"{model_id} ({cards[model_id].digest if model_id in cards else 'not installed'})"


def _named(tuned: Sequence[Tuned]) -> list[dict[str, Any]]:
    """Names for plots: the job's suffix or method; with the step, and at last the id, where that says too little."""
    names = [t.job.suffix or t.job.transfer.method.type for t in tuned]
    for endings in ([f" step {t.checkpoint.step}" for t in tuned], [f" {t.checkpoint.id}" for t in tuned]):
        count = Counter(names)
        names = [name + ending if count[name] > 1 else name for name, ending in zip(names, endings, strict=True)]
    return [
        {"id": t.checkpoint.id, "name": name, "job_id": t.job.id, "step": t.checkpoint.step}
        for name, t in zip(names, tuned, strict=True)
    ]
