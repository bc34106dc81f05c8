from __future__ import annotations

from sqlalchemy import JSON, BigInteger, CheckConstraint, Double, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from api.db import Base
from api.tracing import TRACEPARENT_LENGTH, current_traceparent
from api.work.states import WorkState


class WorkItem(Base):
    """One long piece of work: the row is the truth, a message only says "look"."""

    __tablename__ = "work_items"
    __table_args__ = (
        CheckConstraint(f"state IN ({', '.join(repr(s.value) for s in WorkState)})", name="state"),
        Index("ix_work_items_claim", "state", "slot", "priority", "created_at"),
        Index("ix_work_items_subject", "subject_id"),
        Index("ix_work_items_served", "slot", "claimed_at"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(40))
    kind: Mapped[str] = mapped_column(String(32))
    subject_id: Mapped[str] = mapped_column(String(40))
    slot: Mapped[str] = mapped_column(String(8))
    slots: Mapped[int] = mapped_column(default=1, server_default="1")
    """How many slots the item takes, all of one worker."""
    held_by: Mapped[str | None] = mapped_column(String(128))
    """The worker that lets slots be idle until it has as many as the item takes."""
    held_until: Mapped[float | None] = mapped_column(Double)
    priority: Mapped[int] = mapped_column(default=0)
    """Priority of the work; higher ones go first."""
    state: Mapped[str] = mapped_column(String(8), default=WorkState.QUEUED)
    fence: Mapped[int] = mapped_column(default=0)
    """Number of the claim, rising with each; every write of a worker names the fence it claimed with."""
    worker_id: Mapped[str | None] = mapped_column(String(128))
    run_after: Mapped[float] = mapped_column(Double, default=0.0)
    """Time before which the item cannot be claimed (back-off)."""
    claimed_at: Mapped[float | None] = mapped_column(Double)
    heartbeat_at: Mapped[float | None] = mapped_column(Double)
    lease_until: Mapped[float | None] = mapped_column(Double)
    lease_s: Mapped[float | None] = mapped_column(Double)
    """How long the lease was when it was given or renewed."""
    progress_at: Mapped[float | None] = mapped_column(Double)
    """Last time the child reported progress: alive is not the same as getting on."""
    request: Mapped[str | None] = mapped_column(String(16))
    """`api.work.states.Request` for the holder."""
    created_at: Mapped[float] = mapped_column(Double)
    rung_at: Mapped[float | None] = mapped_column(Double)
    """When the doorbell last rang for this item; null means it must ring (the outbox)."""
    finished_at: Mapped[float | None] = mapped_column(Double)
    traceparent: Mapped[str | None] = mapped_column(String(TRACEPARENT_LENGTH), default=current_traceparent)
    """The span that asked for the work, whatever becomes of the doorbell."""


class Attempt(Base):
    """One claim of a work item."""

    __tablename__ = "attempts"

    work_item_id: Mapped[str] = mapped_column(ForeignKey("work_items.id", ondelete="CASCADE"), primary_key=True)
    fence: Mapped[int] = mapped_column(primary_key=True)
    worker_id: Mapped[str] = mapped_column(String(128))
    device: Mapped[str | None] = mapped_column(String(128))
    """Device of the attempt: the name of a GPU, or `cpu`; null where the worker did not tell."""
    started_at: Mapped[float] = mapped_column(Double)
    ended_at: Mapped[float | None] = mapped_column(Double)
    start_step: Mapped[int | None]
    changed: Mapped[list[str] | None] = mapped_column(JSON)
    """What differs from the attempt whose checkpoint this one went on from: empty where it went on exactly; null
    where it began anew."""
    end_step: Mapped[int | None]
    reason: Mapped[str | None] = mapped_column(String(64))
    """Code of the ending: succeeded, cancelled, drain, worker_lost, out_of_memory, ... (`worker/failures.py`)."""


class WorkerCapacity(Base):
    """A worker that looks for work or is at work, and the slots that it has in all."""

    __tablename__ = "offers"

    worker_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    gpu_slots: Mapped[int]
    """Slots that one item can have at once."""
    device: Mapped[str | None] = mapped_column(String(128))
    """Name of the worker's first GPU, or `cpu`; null of workers of 0.3.0."""
    device_memory: Mapped[int | None] = mapped_column(BigInteger)
    """Bytes of that GPU's memory, or of the machine's; null where that is not known."""
    seen_at: Mapped[float] = mapped_column(Double, index=True)


class GpuUse(Base):
    """What a worker told of one of its GPUs last."""

    __tablename__ = "gpu_uses"

    worker_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    gpu: Mapped[str] = mapped_column(String(64), primary_key=True)
    """The GPU as `CUDA_VISIBLE_DEVICES` names it."""
    name: Mapped[str] = mapped_column(String(128))
    memory_used: Mapped[int] = mapped_column(BigInteger)
    """Bytes."""
    memory_total: Mapped[int] = mapped_column(BigInteger)
    utilization: Mapped[float | None] = mapped_column(Double)
    """Share of time in which kernels ran; null where the driver does not say."""
    temperature: Mapped[float | None] = mapped_column(Double)
    """Degrees Celsius; null where the driver does not say."""
    seen_at: Mapped[float] = mapped_column(Double, index=True)
