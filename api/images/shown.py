"""Generations as they are answered."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence

from api.images.kind import Generation
from api.images.schemas import Form, GeneratedImage, GenerationError, GenerationOut
from api.images.stored import Stored
from api.objects.lost import link_to, look_for
from api.schemas import seconds
from api.settings import Settings
from api.storage import ObjectStore
from api.subjects.models import ResultFile
from api.subjects.schemas import Progress
from api.subjects.states import FINAL, Status

_SETTINGS = {"schema_version", "model", "num_images", "label", "prompt", "compare_to_base", "seed", "num_threads"}


def generation_out(row: Generation, settings: Settings) -> GenerationOut:
    """Return how far a generation is, without the images."""
    stored = Stored.of(row)
    drawing = stored.generation
    is_over = row.status in FINAL and row.finished_at is not None
    return GenerationOut(
        id=row.id,
        created=int(row.created_at),
        status=Status(row.status),
        model=stored.asked_model,
        class_label=drawing.label,
        class_name=stored.class_name,
        prompt=drawing.prompt,
        n=drawing.num_images,
        size=f"{stored.image_size}x{stored.image_size}",
        seed=drawing.seed,
        compare_to_base=drawing.compare_to_base,
        settings=drawing.model_dump(mode="json", exclude=_SETTINGS) | {"control_image": stored.control_image},
        progress=Progress(done=row.done, total=row.total),
        data=None,
        metadata=row.metadata_,
        error=GenerationError.of(row),
        created_at=int(row.created_at),
        started_at=seconds(row.started_at),
        finished_at=seconds(row.finished_at),
        deleted_at=int((row.finished_at or 0) + settings.images_ttl_s) if is_over else None,
    )


def listed(settings: Settings, rows: Sequence[Generation]) -> list[GenerationOut]:
    """Generations of a page."""
    return [generation_out(row, settings) for row in rows]


def image_out(
    file: ResultFile, generation_id: str, form: Form, *, settings: Settings, store: ObjectStore
) -> GeneratedImage:
    """An image with its link, or with its bytes.

    Raises:
        GoneError: `object_missing`, the store has lost it.
    """
    side, _, number = file.filename.partition("-")
    out = GeneratedImage(
        source="base" if side == "base" else "model",
        index=int(number.partition(".")[0]),
        filename=file.filename,
        bytes=file.bytes,
        sha256=file.sha256,
    )
    owner = f"the generation {generation_id}"
    if form == "b64_json":
        look_for(store, [file.key], owner)
        content = base64.b64encode(b"".join(store.read(file.key))).decode()
        return out.model_copy(update={"b64_json": content})
    named = f"{generation_id}-{file.filename}"
    url = link_to(
        store,
        file.key,
        owner,
        expires_s=settings.link_ttl_s,
        filename=named,
        content_type=file.content_type,
        inline=True,
    )
    return out.model_copy(update={"url": url, "expires_at": int(time.time() + settings.link_ttl_s)})
