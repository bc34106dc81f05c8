"""Images on request. `create` is what the API and the dashboard call; a worker draws, in the queue."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.errors import InvalidInputError, TooManyRequestsError
from api.images.choice import Chosen, check_control, check_prompted, chosen, label_of
from api.images.kind import GENERATIONS, Generation
from api.images.schemas import GenerationCreate
from api.images.stored import Stored
from api.settings import Settings
from api.storage import ObjectStore
from api.subjects import files, repository
from api.subjects.models import ResultFile
from api.subjects.states import FINAL
from api.vision_files import service as vision_files
from difftune_core.config.generation import GenerationConfig
from difftune_core.config.sampling import check_sampler

_DRAWN = ("sampler", "num_inference_steps", "guidance_scale", "guidance", "guidance_interval", "guided_channels")
_OF_TUNED = {"handover": 0.0, "noise_guidance_scale": 1.0}
"""Settings that change images only of tuned models that draw classes, each at the value that does nothing."""
_EXPIRED_AT_ONCE = 200


def create(
    session: Session, settings: Settings, store: ObjectStore, tenant_id: str, body: GenerationCreate
) -> Generation:
    """New images, queued; whoever commits rings.

    Raises:
        InvalidInputError: naming the field; among others `model_not_found`, `unknown_class`, `too_many_images`,
            `size_not_for_model`, `file_not_found`.
        TaskError: `sampler_not_for_process`.
        TooManyRequestsError: `too_many_generations`, the tenant has so many in the queue already.
    """
    found = chosen(session, settings, store, tenant_id, body.model)
    _check_limits(session, settings, tenant_id, body, found)
    config = _config(body, found)
    if body.control_image is not None:
        vision_files.named(session, tenant_id, body.control_image, param="control_image")
    label, names = config.label, found.class_names
    stored = Stored(
        asked_model=body.model,
        checkpoint=found.checkpoint.id if found.checkpoint else None,
        image_size=found.card.image_size,
        class_name=names[label] if label is not None and label < len(names) else None,
        control_image=body.control_image,
        drawing=config.model_dump(mode="json"),
    )
    needs = [id_ for id_ in (stored.checkpoint, stored.control_image) if id_]
    return GENERATIONS.create(
        session, tenant_id, stored.model_dump(mode="json"), needs=needs, total=config.total, metadata=body.metadata
    )


def images(session: Session, generation_id: str) -> Sequence[ResultFile]:
    """The files of a generation that has succeeded: the model's first, each in order of their numbers."""
    found = files.of(session, [generation_id])[generation_id]
    return sorted(found, key=lambda file: (file.filename.startswith("base"), file.filename))


def expire(session: Session, settings: Settings) -> list[str]:
    """Delete generations whose time is over; keys to delete after the commit."""
    overdue = Generation.finished_at < time.time() - settings.images_ttl_s
    query = select(Generation).where(Generation.status.in_(FINAL), overdue).limit(_EXPIRED_AT_ONCE)
    rows = session.scalars(query.with_for_update(skip_locked=True))
    return [key for row in rows for key in repository.remove(session, row)]


def _check_limits(session: Session, settings: Settings, tenant_id: str, body: GenerationCreate, found: Chosen) -> None:
    if body.n > settings.max_images:
        message = f"At most {settings.max_images} images can be asked for at once, not {body.n}."
        raise InvalidInputError("too_many_images", message, param="n", max_images=settings.max_images)
    own = f"{found.card.image_size}x{found.card.image_size}"
    if body.size not in {"auto", own}:
        message = f"{body.model} draws images of {own}, not {body.size}; auto is its size."
        raise InvalidInputError("size_not_for_model", message, param="size", available=[own])
    if body.compare_to_base and found.checkpoint is None:
        message = f"{body.model} is a base model: there is none to compare it to."
        raise InvalidInputError("nothing_to_compare", message, param="compare_to_base")
    waiting = select(func.count()).select_from(Generation)
    waiting = waiting.where(*Generation.seen_by(tenant_id), Generation.status.not_in(FINAL))
    if (session.scalar(waiting) or 0) >= settings.max_generations:
        message = f"{settings.max_generations} requests for images are in the queue; wait for one to end."
        raise TooManyRequestsError("too_many_generations", message, retry_after_s=5)


def _of_tuned(body: GenerationCreate, found: Chosen, defaults: dict[str, object]) -> dict[str, object]:
    """Hand-over and Noise Awareness Guidance, as asked for or as the checkpoint was judged.

    Raises:
        InvalidInputError: `not_for_model`, the model has no such thing.
    """
    transfer = found.transfer
    is_tuned = transfer is not None and not found.draws_prompts
    trained = is_tuned and transfer is not None and transfer.method.hyperparameters.time_dropout > 0
    fields: dict[str, object] = {}
    for name, able in (("handover", is_tuned), ("noise_guidance_scale", trained)):
        stated = getattr(body, name)
        if stated not in {None, _OF_TUNED[name]} and not able:
            raise InvalidInputError("not_for_model", f"{body.model} has no {name}.", param=name)
        if able:
            fields[name] = defaults.get(name, _OF_TUNED[name]) if stated is None else stated
    return fields


def _config(body: GenerationCreate, found: Chosen) -> GenerationConfig:
    check_control(body, found)
    label = prompt = None
    if found.draws_prompts:
        check_prompted(body, found)
        prompt = body.prompt
    else:
        label = label_of(body, found)
    defaults = found.defaults()
    fields = {name: defaults[name] for name in _DRAWN if name in defaults}
    fields |= {name: value for name in _DRAWN if (value := getattr(body, name)) is not None}
    fields |= _of_tuned(body, found, defaults)
    if fields.get("guidance") == "domain" and (found.checkpoint is None or found.draws_prompts):
        fields["guidance"] = "cfg"  # a base model is its own guide
    if found.draws_prompts and found.transfer is not None:
        fields["conditioning_scale"] = getattr(found.transfer.control, "conditioning_scale", 1.0)
    if body.conditioning_scale is not None:
        fields["conditioning_scale"] = body.conditioning_scale
    config = GenerationConfig.model_validate(
        {
            **fields,
            "model": found.card.id,
            "num_images": body.n,
            "label": label,
            "prompt": prompt,
            "compare_to_base": body.compare_to_base,
            "seed": secrets.randbelow(2**31) if body.seed is None else body.seed,
        }
    )
    check_sampler(config.sampler, found.card.process, "sampler")
    return config
