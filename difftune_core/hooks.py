"""What a trainer tells its caller, and what it is told: the protocol between child and supervisor.

Events go from child to supervisor, commands the other way, each one JSON object a line with a version. The loop itself
only sees `Hooks`; it never learns who listens. Pydantic only: the supervisor imports this module.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Phase = Literal[
    "starting",
    "validating",
    "loading_model",
    "building_retention_set",
    "drawing_base_model_images",  # those that forgetting is judged by; a retention set is trained on
    "caching_latents",
    "training",
    "sampling",  # images on the way, to look at
    "evaluating",
    "exporting",
]
StopKind = Literal["stop", "pause"]


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")
    v: Literal[1] = 1


class PhaseEvent(_Line):
    """The run entered a phase."""

    type: Literal["phase"] = "phase"
    phase: Phase


class ProgressEvent(_Line):
    """`done` of `total` units (steps, images) of the current phase."""

    type: Literal["progress"] = "progress"
    phase: Phase
    done: int
    total: int
    tick: int = 0
    """Rises with each of the phase's events: a sign of life where one image takes minutes."""


class MetricsEvent(_Line):
    """Named values at a step, for example `train_loss`, `eval_fid`."""

    type: Literal["metrics"] = "metrics"
    step: int
    values: dict[str, float]


class FileInfo(_Line):
    """A finished file. Paths of a checkpoint's files are relative to its folder, others to the run's out folder."""

    path: str
    bytes: int
    sha256: str


class CheckpointEvent(_Line):
    """A checkpoint folder is whole on disk under its final name. It stays until it was acknowledged."""

    type: Literal["checkpoint"] = "checkpoint"
    step: int
    name: str
    files: list[FileInfo]
    is_last: bool
    """Whether the run ends with this checkpoint."""
    target_images: int | None = None
    """Target images seen up to here, which metrics tell only at the steps that are logged."""


class ResumeEvent(_Line):
    """The run goes on from the checkpoint of this step: exactly as if it had not stopped, unless something changed."""

    type: Literal["resume"] = "resume"
    step: int
    changed: list[str] = []
    """What differs in the envelope (`Manifest.envelope`) from the run that saved the checkpoint."""


class BestEvent(_Line):
    """The checkpoint of this step, announced before, is the best by its evaluation so far."""

    type: Literal["best"] = "best"
    step: int
    metric: str
    value: float


class ArtifactEvent(_Line):
    """A result file is whole on disk: report, samples, export."""

    type: Literal["artifact"] = "artifact"
    kind: Literal[
        "report_json",
        "report_html",
        "samples",
        "export_diffusers",
        "export_single_file",
        "validation_report",
        "items",
        "previews",
        "retention_set",
        "image",
    ]
    step: int = 0
    file: FileInfo


class SampleEvent(_Line):
    """Sample images of a step are whole on disk, in one file."""

    kind: ClassVar[str] = "sample"
    """Kind of the file, as of an artifact."""
    type: Literal["sample"] = "sample"
    step: int
    num_images: int
    file: FileInfo


class LogEvent(_Line):
    """A sentence for the user."""

    type: Literal["log"] = "log"
    level: Literal["info", "warn", "error"] = "info"
    message: str
    data: dict[str, str | int | float] = {}
    """The message for programs, with a `code`; empty where there is nothing to add."""


class SpanEvent(_Line):
    """A part of the run has ended, as a span of the trace that `TRACEPARENT` names (`difftune_core/tracing.py`)."""

    type: Literal["span"] = "span"
    trace_id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    span_id: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
    parent_id: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
    name: Annotated[str, Field(max_length=64)]
    start_ns: int
    """Unix time, as `end_ns`."""
    end_ns: int
    attributes: dict[str, str | int] = {}
    error: Annotated[str, Field(max_length=64)] | None = None
    """Why the run failed: an outcome's code."""


class OutcomeEvent(_Line):
    """The last line. `code` is `succeeded`, `stopped`, `paused`, or the reason of a failure (`worker/failures.py`)."""

    type: Literal["outcome"] = "outcome"
    code: str
    message: str = ""
    param: str | None = None
    step: int = 0


Event = Annotated[
    PhaseEvent
    | ProgressEvent
    | MetricsEvent
    | CheckpointEvent
    | ResumeEvent
    | BestEvent
    | ArtifactEvent
    | SampleEvent
    | LogEvent
    | SpanEvent
    | OutcomeEvent,
    Field(discriminator="type"),
]
_EVENTS: TypeAdapter[Event] = TypeAdapter(Event)


class Command(_Line):
    """What the supervisor requests: `stop` (save, then end), `pause`, `ack` of an uploaded checkpoint, or
    `work`: the next request of a process that is kept between requests.
    """

    type: Literal["stop", "pause", "ack", "work"]
    checkpoint: str | None = None
    arguments: list[str] | None = None
    """The request's command line."""


def parse_event(line: str | bytes) -> Event:
    """Read one event line.

    Raises:
        pydantic.ValidationError: the line is no event of this version.
    """
    return _EVENTS.validate_json(line)


class TaskError(Exception):
    """A failure with a name: its `code` reaches the user as the reason of the failed job.

    `param` names the field or file at fault.
    """

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        """Keep the three parts apart from the text."""
        super().__init__(message)
        self.code = code
        self.param = param


@runtime_checkable  # the tests check arguments at run time
class Hooks(Protocol):
    """What the loop calls. `emit` must not block training for long; `stop_requested` is asked once a step."""

    def emit(self, event: Event) -> None:
        """Hand an event to whoever listens."""
        ...

    def stop_requested(self) -> StopKind | None:
        """Return the stop that is requested, or None."""
        ...

    def release(self, checkpoint: Path) -> bool:
        """Return whether the checkpoint folder may be deleted (it was acknowledged, or nobody collects it)."""
        ...
