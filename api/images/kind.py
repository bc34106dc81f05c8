from __future__ import annotations

from api.subjects.plain import PlainKind, PlainSubject
from api.work.states import Slot, WorkKind


class Generation(PlainSubject):
    """Images that a user has asked for. `config` is an `api.images.stored.Stored`."""

    noun = "generation"
    __mapper_args__ = {"polymorphic_identity": WorkKind.GENERATE.value}  # noqa: RUF012  # SQLAlchemy's own


class _Generations(PlainKind[Generation]):
    """Draws images, after all else: training goes first, and takes the place of images in work."""

    name = WorkKind.GENERATE
    folder = "generations"
    noun = "generation"
    child = "image generation"
    activity = "worker.kinds.generation:GenerationRun"
    uses = frozenset({"ckpt", "file"})
    prefix = "img"
    slot = Slot.GPU
    priority = -1000  # below any that a job can have
    row = Generation


GENERATIONS = _Generations()
