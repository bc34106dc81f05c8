"""The checkpoint that a job begins with in place of a base model: which may be, and what follows from it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.errors import InvalidInputError
from api.jobs.models import Checkpoint, Job
from difftune_core.config.card import BaseModelCard
from difftune_core.config.families import rules_of_config
from difftune_core.config.origin import CHECKPOINT_ID, Ancestor
from difftune_core.config.transfer import TransferConfig

_FIELD = "model"


@dataclass(frozen=True)
class Beginning:
    """A checkpoint, and the job that made it."""

    checkpoint: Checkpoint
    job: Job

    @property
    def lineage(self) -> list[dict[str, Any]]:
        """The ancestors: the checkpoint, then what its own job began with, and so on."""
        first = Ancestor(checkpoint=self.checkpoint.id, job=self.job.id, step=self.checkpoint.step)
        return [first.model_dump(), *(self.job.lineage or ())]


def chosen(session: Session, tenant_id: str, model: str) -> Beginning | None:
    """The checkpoint that a job names as its `model`, None where it names a base model.

    It is locked, so that it is not deleted before the new job is seen to need it.

    Raises:
        InvalidInputError: `model_not_found`, the tenant has no such checkpoint; `adapter_not_mergeable`.
    """
    if not re.fullmatch(CHECKPOINT_ID, model):
        return None
    query = select(Checkpoint).where(Checkpoint.id == model, Checkpoint.tenant_id == tenant_id)
    query = query.with_for_update(read=True).execution_options(populate_existing=True)
    checkpoint = session.scalar(query)
    if checkpoint is None:
        raise InvalidInputError("model_not_found", f"There is no checkpoint {model!r}.", param=_FIELD)
    job = session.get_one(Job, checkpoint.job_id)
    adapter = job.transfer.method.hyperparameters.adapter
    if not adapter.mergeable:
        message = f"{model} has {adapter.type} inside, which cannot be merged into its weights: it cannot be tuned on."
        raise InvalidInputError("adapter_not_mergeable", message, param=_FIELD)
    return Beginning(checkpoint, job)


def check(beginning: Beginning, card: BaseModelCard) -> None:
    """Refuse a checkpoint whose base model is not the one that has its name now.

    Raises:
        InvalidInputError: `model_mismatch`, with both digests.
    """
    made_from = beginning.job.base_digest
    if made_from not in {None, card.digest}:
        message = (
            f"{beginning.checkpoint.id} was tuned from {card.id} with digest {made_from}; the model of this name has "
            f"{card.digest} now."
        )
        raise InvalidInputError("model_mismatch", message, param=_FIELD)


def config_of(given: dict[str, Any], beginning: Beginning | None) -> TransferConfig:
    """The config of a job that begins with a checkpoint, or with the base model: it names the base model.

    Raises:
        TaskError: `invalid_option`, what is stated does not go with the checkpoint.
    """
    if beginning is not None:
        before = beginning.job.transfer
        stated = rules_of_config(before).begun_with(given, before, beginning.checkpoint.id)
        given = {**stated, "model": beginning.job.model}
    return TransferConfig.model_validate(given)
