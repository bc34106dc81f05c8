from __future__ import annotations

from functools import cached_property
from typing import Any

from sqlalchemy import JSON, Double, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from api.db import Base
from api.jobs.states import ALLOWED, JobStatus
from api.storage import StoredFile
from api.subjects.models import OwnedSubject, one_of
from api.tracing import TRACEPARENT_LENGTH, current_traceparent
from difftune_core.config.course import as_stored
from difftune_core.config.stored import read_stored
from difftune_core.config.transfer import TransferConfig


class Job(OwnedSubject, Base):
    """A fine-tuning job as the user asked for it, and how it stands."""

    __tablename__ = "jobs"
    __table_args__ = (one_of(JobStatus),)
    noun = "job"
    transitions = ALLOWED

    status: Mapped[str] = mapped_column(String(20), default=JobStatus.QUEUED, index=True)
    phase: Mapped[str | None] = mapped_column(String(32))
    """`difftune_core.hooks.Phase` of the running attempt."""
    phase_done: Mapped[int | None]
    phase_total: Mapped[int | None]
    model: Mapped[str] = mapped_column(String(64))
    """Id of the base model, also where the job begins with a checkpoint."""
    start_checkpoint: Mapped[str | None] = mapped_column(String(40), index=True)
    """Id of the checkpoint of another job that this job begins with."""
    lineage: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON)
    """The checkpoint that the job began with, the one that this one's own job began with, and so on
    (`difftune_core.config.origin.Ancestor`)."""
    config: Mapped[dict[str, Any]] = mapped_column(JSON)
    """The resolved `TransferConfig`."""
    training_file: Mapped[str] = mapped_column(ForeignKey("datasets.id"), index=True)
    validation_file: Mapped[str | None] = mapped_column(ForeignKey("datasets.id"), index=True)
    retention_set: Mapped[str | None] = mapped_column(ForeignKey("retention_sets.id"), index=True)
    """Id of the retention set that the config names, where it names one."""
    retention_digest: Mapped[str | None] = mapped_column(String(64))
    """Content address of the retention set that is trained on, named or sampled by the trainer."""
    base_digest: Mapped[str | None] = mapped_column(String(64))
    """Digest of the base model's card at submission: a resume on another one is refused."""
    suffix: Mapped[str | None] = mapped_column(String(64))
    priority: Mapped[int] = mapped_column(default=0)
    step: Mapped[int] = mapped_column(default=0)
    total_steps: Mapped[int] = mapped_column(default=0)
    steps_per_second: Mapped[float | None] = mapped_column(Double)
    recoveries: Mapped[int] = mapped_column(default=0)
    """Attempts that were lost or preempted and followed by another."""
    fine_tuned_model: Mapped[str | None] = mapped_column(String(40))
    """Checkpoint id, once succeeded."""
    best_checkpoint: Mapped[str | None] = mapped_column(String(40))
    """Checkpoint id of the best evaluation so far, by `evaluation.best_metric`."""
    last_event: Mapped[int] = mapped_column(default=0)
    """Number of the newest event; raised under this row's lock, so that readers never miss a late commit."""
    traceparent: Mapped[str | None] = mapped_column(String(TRACEPARENT_LENGTH), default=current_traceparent)
    """The span that submitted the job: its work item may come later, when its data set is ready."""

    @cached_property
    def transfer(self) -> TransferConfig:
        """`config` as this version reads it; it was judged when it was submitted, and is not judged again."""
        return read_stored(TransferConfig, self.config)

    def store(self, config: TransferConfig) -> None:
        """Put a config whose length is known by now in the place of the open one."""
        self.config, self.total_steps = as_stored(config), config.method.hyperparameters.max_steps
        self.__dict__.pop("transfer", None)


class Checkpoint(Base):
    """A checkpoint whose files are all in the store. Keys contain job and fence and are never overwritten."""

    __tablename__ = "checkpoints"
    __table_args__ = (UniqueConstraint("job_id", "step"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(40), index=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    step: Mapped[int]
    fence: Mapped[int]
    name: Mapped[str] = mapped_column(String(64))
    """Folder name in the trainer's out folder, for example `step-00000100`."""
    files: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    """`[{"name", "key", "bytes", "sha256"}]`; `model.safetensors` is the weight average, the one to use."""
    resume_available: Mapped[bool] = mapped_column(default=True)
    """Whether the files that a resume needs are still in the store."""
    created_at: Mapped[float] = mapped_column(Double)
    linked_until: Mapped[float | None] = mapped_column(Double)
    """When the last download link that was handed out ends: whoever has it may begin to read until then."""

    @property
    def stored(self) -> list[StoredFile]:
        """`files`, each under the name that it has in the checkpoint's folder."""
        return [StoredFile(file["key"], file["name"], file["bytes"], file["sha256"]) for file in self.files]


class Metric(Base):
    """One value of a series."""

    __tablename__ = "metrics"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[float] = mapped_column(Double)
    created_at: Mapped[float] = mapped_column(Double)


class Event(Base):
    """Something that happened to a job, in order of `number`."""

    __tablename__ = "events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    level: Mapped[str] = mapped_column(String(8))
    """info, warn or error."""
    type: Mapped[str] = mapped_column(String(16))
    """OpenAI's `message` and `metrics`, and ours: `phase`, `progress`, `status`, `checkpoint`, `best`,
    `sample`."""
    message: Mapped[str] = mapped_column(String(4000))
    data: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    created_at: Mapped[float] = mapped_column(Double)

    @property
    def id(self) -> str:
        """Public id, sortable within its job."""
        return f"evt_{self.job_id.removeprefix('ftjob_')}_{self.number:08d}"
