from __future__ import annotations

from enum import StrEnum


class WorkKind(StrEnum):
    """The kinds of work of this package; `api.subjects.kinds` has the table of all."""

    VALIDATE_DATASET = "validate_dataset"
    MAKE_RETENTION_SET = "make_retention_set"
    TRAIN = "train"
    ANALYSE = "analyse"
    COMPARE = "compare"
    GENERATE = "generate"


class WorkState(StrEnum):
    """`queued` may be claimed; `leased` is held by one worker until its lease ends; `done` is final."""

    QUEUED = "queued"
    LEASED = "leased"
    DONE = "done"


class Slot(StrEnum):
    """What a work item occupies on a worker."""

    CPU = "cpu"
    GPU = "gpu"


class Request(StrEnum):
    """What is requested of a lease's holder: by a user or the sweep, in the item's row, or by the worker itself."""

    CANCEL = "cancel"
    PAUSE = "pause"
    PREEMPT = "preempt"
    """Save and give the slot to more important work; the job goes back to the queue."""
    DRAIN = "drain"
    """The worker is to end. It asks this of its own runs, and no row ever says so."""

    @property
    def ending(self) -> str:
        """Code of the ending of an attempt that ended because of the request."""
        return _ENDINGS[self]


_ENDINGS = {
    Request.CANCEL: "cancelled",
    Request.PAUSE: "paused",
    Request.PREEMPT: "preempted",
    Request.DRAIN: "drain",
}
