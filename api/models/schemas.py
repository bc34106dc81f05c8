from __future__ import annotations

from typing import Any, Literal

from api.jobs.models import Checkpoint, Job
from api.schemas import Listed
from difftune_core.config.card import BaseModelCard, CompanionCard
from difftune_core.config.methods.table import method_names

Kind = Literal["base_model", "fine_tuned", "controlnet", "annotator", "clip"]
_WEIGHTS = "model.safetensors"


class Model(Listed):
    """A base model, a tuned model, a ControlNet, an annotator or a CLIP model, in OpenAI's shape."""

    object: Literal["model"] = "model"
    created: int
    owned_by: str
    kind: Kind
    """Use of the model: to be tuned, made by a job of yours (`fine_tuned`), to go on from (`control.init_from`), to
    draw controls (`control.annotator`), or to score captions (`evaluation.clip_model`)."""
    family: str
    """The family of a base model; of other models their kind."""
    description: str
    licence: str
    image_size: int | None
    """Pixels, square; null for what takes any size."""
    conditions: list[str]
    """What an annotator draws; what a ControlNet follows, where that is known."""
    num_classes: int
    num_parameters: int
    digest: str
    """sha256 over the model's files."""
    methods: list[str]
    """Methods by which the model can be tuned; each has a schema under `/v1/models/{id}/methods/{method}/schema`."""
    defaults: dict[str, Any]
    """Defaults of a job's fields for this model."""
    figures: dict[str, Any]
    """What was measured of the model itself."""
    base_model: str | None = None
    """The base model that a tuned model was tuned from; null of others, as the next two."""
    fine_tuning_job_id: str | None = None
    """The job that made the model."""
    step_number: int | None = None
    """The step of the job at which the model was saved."""
    is_result: bool = False
    """Whether the model is its job's `fine_tuned_model`."""


def tuned_out(checkpoint: Checkpoint, job: Job, base: BaseModelCard | None) -> Model:
    """A tuned model; `base` is the card of its base model, None where that was removed."""
    weights = [file.sha256 for file in checkpoint.stored if file.filename == _WEIGHTS]
    can_go_on = job.transfer.method.hyperparameters.adapter.mergeable
    return Model(
        id=checkpoint.id,
        created=int(checkpoint.created_at),
        owned_by=job.tenant_id,
        kind="fine_tuned",
        family=base.family if base else "unknown",
        description=f"{job.suffix or job.model} at step {checkpoint.step} of {job.id}",
        licence=base.licence if base else "unknown",
        image_size=base.image_size if base else None,
        conditions=[],
        num_classes=base.num_classes if base else 0,
        num_parameters=base.num_parameters if base else 0,
        digest=weights[0] if weights else "",
        methods=method_names() if can_go_on else [],
        defaults={},
        figures={},
        base_model=job.model,
        fine_tuning_job_id=job.id,
        step_number=checkpoint.step,
        is_result=job.fine_tuned_model == checkpoint.id,
    )


def model_out(card: BaseModelCard | CompanionCard) -> Model:
    common = {
        "id": card.id,
        "created": card.created_at,
        "owned_by": card.source or "operator",
        "description": card.description,
        "licence": card.licence,
        "num_parameters": card.num_parameters,
        "digest": card.digest,
    }
    if isinstance(card, BaseModelCard):
        of_kind = {
            "kind": "base_model",
            "conditions": [],
            "methods": method_names(),
            "defaults": card.defaults.model_dump(),
            **{name: getattr(card, name) for name in ("family", "image_size", "num_classes", "figures")},
        }
    else:
        of_kind = {
            "kind": card.kind,
            "conditions": list(card.conditions),
            "methods": [],
            "defaults": {},
            "family": card.kind,
            "image_size": None,
            "num_classes": 0,
            "figures": {},
        }
    return Model.model_validate(common | of_kind)
