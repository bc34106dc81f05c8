"""What a request for images comes to: the model that draws, and what it draws, with errors that name the field."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches

from sqlalchemy.orm import Session

from api.base_models import service as models
from api.checkpoints import repository as checkpoints
from api.datasets.models import Dataset
from api.errors import InvalidInputError
from api.images.schemas import GenerationCreate
from api.jobs.models import Checkpoint, Job
from api.settings import Settings
from api.storage import ObjectStore
from difftune_core.config.card import BaseModelCard
from difftune_core.config.families import rules_of
from difftune_core.config.origin import CHECKPOINT_ID
from difftune_core.config.sampling import SAMPLERS
from difftune_core.config.transfer import TransferConfig

_NAMED = 10


@dataclass(frozen=True)
class Chosen:
    """A model that draws."""

    card: BaseModelCard
    """The base model's."""
    checkpoint: Checkpoint | None
    job: Job | None
    """The job that made the checkpoint."""
    class_names: tuple[str, ...]
    """Names by label, where they are known."""

    @property
    def draws_prompts(self) -> bool:
        """Whether prompts say what the model draws; else classes do."""
        return rules_of(self.card).data_form == "captioned"

    @property
    def num_classes(self) -> int:
        """Number of the classes that the model can draw."""
        return len(self.class_names) or self.card.num_classes

    @property
    def transfer(self) -> TransferConfig | None:
        """How the checkpoint was tuned and judged."""
        return self.job.transfer if self.job else None

    def defaults(self) -> dict[str, object]:
        """Return how images are drawn unless it is said: as the checkpoint was judged, or as the card says."""
        if self.transfer is not None:
            return self.transfer.evaluation.model_dump()
        return {"sampler": SAMPLERS[self.card.process][0], **self.card.defaults.evaluation}


def chosen(session: Session, settings: Settings, store: ObjectStore, tenant_id: str, model: str) -> Chosen:
    """The model of an id; a checkpoint is locked, so that it is not deleted before it is seen to be needed.

    Raises:
        InvalidInputError: `model_not_found`; `model_mismatch`, the base model is another one by now.
    """
    if not re.fullmatch(CHECKPOINT_ID, model):
        return Chosen(models.card_for_job(settings, store, model), None, None, ())
    checkpoint = checkpoints.find(session, tenant_id, model, lock="read")
    if checkpoint is None:
        raise InvalidInputError("model_not_found", f"There is no model {model!r}.", param="model")
    job = session.get_one(Job, checkpoint.job_id)
    card = models.card_for_job(settings, store, job.model)
    if job.base_digest not in {None, card.digest}:
        message = f"{model} was tuned from {card.id} with another digest than the model of this name has now."
        raise InvalidInputError("model_mismatch", message, param="model")
    data = session.get_one(Dataset, job.training_file)
    return Chosen(card, checkpoint, job, tuple(data.class_names or ()))


def label_of(body: GenerationCreate, found: Chosen) -> int | None:
    """The class to draw; None draws without one.

    Raises:
        InvalidInputError: `missing_field`, none is named; `unknown_class`, with the closest names;
            `conflicting_fields`.
    """
    param = "prompt" if body.class_label is None else "class_label"
    if body.class_label is not None and body.prompt not in {None, ""}:
        message = f"{body.model} draws classes: name one by class_label or by prompt, not by both."
        raise InvalidInputError("conflicting_fields", message, param="class_label")
    given = body.prompt if body.class_label is None else body.class_label
    if given is None:
        message = f"{body.model} draws classes: name one as class_label or prompt; prompt '' draws without one."
        raise InvalidInputError("missing_field", message, param="class_label")
    if given == "":
        return None
    if given in found.class_names:
        return found.class_names.index(str(given))
    if isinstance(given, str) and not re.fullmatch(r"\d{1,9}", given):
        raise _unknown(given, found, param)
    if int(given) >= found.num_classes:
        raise _unknown(given, found, param)
    return int(given)


def _unknown(given: str | int, found: Chosen, param: str) -> InvalidInputError:
    names = found.class_names
    by_case = {name.lower(): name for name in names}
    close = [by_case[name] for name in get_close_matches(str(given).lower(), by_case, n=3)]
    meant = f" Did you mean {' or '.join(close)}?" if close else ""
    if names:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        there = f"There are: {', '.join(names[:_NAMED])}{more}."
    else:
        there = f"Its classes are known by their numbers, 0 to {found.num_classes - 1}."
    message = f"There is no class {given!r}.{meant} {there}"
    return InvalidInputError("unknown_class", message, param=param, closest=close)


def check_prompted(body: GenerationCreate, found: Chosen) -> None:
    """Refuse what a model that draws prompts does not take.

    Raises:
        InvalidInputError: naming the field.
    """
    if body.class_label is not None:
        raise InvalidInputError("not_for_model", f"{body.model} draws prompts, no classes.", param="class_label")
    if body.prompt is None:
        raise InvalidInputError("missing_field", f"{body.model} draws prompts: say what, in prompt.", param="prompt")
    if body.guidance == "domain":
        message = f"{body.model} stands beside its base model, which is its guide in any case: take cfg."
        raise InvalidInputError("not_for_model", message, param="guidance")
    if found.checkpoint is not None and body.control_image is None:
        message = f"{body.model} is a ControlNet: name the image that it follows, as control_image."
        raise InvalidInputError("missing_field", message, param="control_image")


def check_control(body: GenerationCreate, found: Chosen) -> None:
    """Refuse a control image where nothing follows it.

    Raises:
        InvalidInputError: `not_for_model`, naming the field.
    """
    if found.draws_prompts and found.checkpoint is not None:
        return
    for param in ("control_image", "conditioning_scale"):
        if getattr(body, param) is not None:
            raise InvalidInputError("not_for_model", f"{body.model} is no ControlNet.", param=param)
