"""What a trainer tells becomes rows, events and objects: metrics in batches, checkpoints before their rows."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from api.checkpoints import keeping
from api.jobs import lifecycle
from api.jobs.lifecycle import Point
from api.jobs.models import Job
from api.storage import StoredFile
from api.storage.cleaning import delete_objects
from api.subjects.files import Result
from api.work import repository
from api.work.repository import LeaseLostError
from difftune_core.checkpoint.manifest import RESUME, announced, newest_whole, stated, whole
from difftune_core.hooks import (
    ArtifactEvent,
    BestEvent,
    CheckpointEvent,
    Event,
    LogEvent,
    MetricsEvent,
    PhaseEvent,
    ProgressEvent,
    ResumeEvent,
    SampleEvent,
)
from worker.results import inside, store_result, type_of
from worker.run import Run
from worker.workspace import CHECKPOINTS

FLUSH_S = 0.5
_ANNOUNCE_S = 2.0
_RATE_WINDOW_S = 10.0
_MAX_PENDING = 10_000
_POINTS_AT_ONCE = 500
_RESUMES_KEPT = 2
log = structlog.get_logger(__name__)


class Publisher:
    """Publishes one attempt at a job. `handle` and `flush` are called by one thread."""

    def __init__(self, run: Run, acknowledge: Callable[[str], None], results: list[Result]) -> None:
        """`acknowledge` tells the child that a checkpoint, by its name, is in the store.

        `results` takes the result files, whose rows are written with the end of the attempt.
        """
        self._run = run
        self._acknowledge = acknowledge
        self._job_id = run.lease.subject_id
        self._prefix = f"jobs/{self._job_id}/{run.lease.fence}"
        self._pending: list[Event] = []
        self._flushed_at = 0.0
        self._announced_at = 0.0
        self._steps: deque[tuple[float, int]] = deque()
        self._results = results

    def handle(self, event: Event) -> None:
        """Take an event; checkpoints and files are published at once, the rest soon."""
        if isinstance(event, CheckpointEvent):
            self.flush()
            self._publish_checkpoint(event)
        elif isinstance(event, BestEvent):
            self.flush()
            self._publish_best(event)
        elif isinstance(event, ArtifactEvent):
            self._publish_file(event)
        elif isinstance(event, SampleEvent):
            self.flush()
            self._publish_sample(event)
        elif len(self._pending) < _MAX_PENDING:
            if isinstance(event, ProgressEvent) and event.phase == "training":
                self._note_step(event.done)
            self._pending.append(event)

    def flush_if_due(self) -> None:
        """Write what has come together, about twice a second."""
        if self._pending and time.monotonic() - self._flushed_at >= FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Write what has come together. Failing never stops training: it is tried again, or dropped and logged.

        Raises:
            LeaseLostError: the run is not ours any more.
        """
        if not self._pending:
            return
        self._flushed_at = time.monotonic()
        try:
            with self._run.unit() as (session, _):
                self._write(session, lifecycle.lock(session, self._job_id))
        except LeaseLostError:
            raise
        except (OperationalError, InterfaceError):
            log.warning("events_wait_for_database", job=self._job_id, exc_info=True)
            return
        except Exception:
            log.exception("events_dropped", job=self._job_id, count=len(self._pending))
        self._pending.clear()

    def publish_leftovers(self, checkpoints: Path) -> int:
        """Store the whole checkpoints that a former attempt left here; step of the newest whole one, 0 without any.

        Of those that are in the store only the newest is read again: a run may go on from it.
        """
        newest = newest_whole(checkpoints)
        if newest is None:
            return 0
        for folder in sorted(checkpoints.glob("step-*")):
            manifest = stated(folder)
            if manifest is None or folder > newest[0]:
                continue
            if folder == newest[0] or self._is_published(manifest.step) or whole(folder) is not None:
                self._publish_checkpoint(announced(folder, manifest))
        return newest[1].step

    def _write(self, session: Session, job: Job) -> None:
        points: list[Point] = []
        progress: ProgressEvent | None = None
        for event in self._pending:
            if isinstance(event, MetricsEvent):
                points.append(Point(event.step, event.values))
            elif isinstance(event, ProgressEvent):
                progress = event
            elif isinstance(event, PhaseEvent):
                if progress is not None:
                    self._write_progress(session, job, progress)
                    progress = None
                lifecycle.entered_phase(session, job, event.phase)
            elif isinstance(event, ResumeEvent):
                repository.note_resume(session, self._run.lease, event.changed)
                lifecycle.resumed(session, job, step=event.step, changed=event.changed)
            elif isinstance(event, LogEvent):
                lifecycle.told(session, job, event.message, level=event.level, data=event.data)
        for start in range(0, len(points), _POINTS_AT_ONCE):  # a statement takes only so many parameters
            lifecycle.measured(session, job, points[start : start + _POINTS_AT_ONCE])
        if progress is not None:
            self._write_progress(session, job, progress)

    def _write_progress(self, session: Session, job: Job, event: ProgressEvent) -> None:
        now = time.monotonic()
        announce = now - self._announced_at >= _ANNOUNCE_S or event.done == event.total
        if announce:
            self._announced_at = now
        lifecycle.progressed(
            session,
            job,
            phase=event.phase,
            done=event.done,
            total=event.total,
            steps_per_second=self._rate() if event.phase == "training" else None,
            announce=announce,
        )

    def _note_step(self, step: int) -> None:
        now = time.monotonic()
        self._steps.append((now, step))
        while now - self._steps[0][0] > _RATE_WINDOW_S and len(self._steps) > 2:  # noqa: PLR2004  # a rate needs two
            self._steps.popleft()

    def _rate(self) -> float | None:
        """Steps a second over the last ten seconds."""
        if not self._steps:
            return None
        (began, first), (ended, last) = self._steps[0], self._steps[-1]
        return (last - first) / (ended - began) if ended > began and last > first else None

    def _publish_checkpoint(self, event: CheckpointEvent) -> None:
        """Files, then the row, then the acknowledgement. That of an earlier attempt at the same step stands."""
        if not self._run.insist(lambda: self._is_published(event.step)):
            folder = self._run.workspace.out / CHECKPOINTS / event.name
            prefix = f"{self._prefix}/{CHECKPOINTS}/{event.name}"
            files = [StoredFile(f"{prefix}/{file.path}", file.path, file.bytes, file.sha256) for file in event.files]
            for file, stored in zip(event.files, files, strict=True):
                self._run.upload(stored.key, inside(folder, file.path), file, content_type=type_of(file.path))
            dropped = self._run.insist(lambda: self._write_checkpoint(event, files))
            delete_objects(self._run.tools.store, dropped)
        self._acknowledge(event.name)

    def _is_published(self, step: int) -> bool:
        with self._run.tools.database.read() as session:
            return lifecycle.has_checkpoint(session, self._job_id, step)

    def _write_checkpoint(self, event: CheckpointEvent, files: list[StoredFile]) -> list[str]:
        with self._run.unit() as (session, _):
            job = lifecycle.lock(session, self._job_id)
            lifecycle.checkpoint_saved(
                session,
                job,
                fence=self._run.lease.fence,
                step=event.step,
                name=event.name,
                files=files,
                target_images=event.target_images,
            )
            return _dropped(session, job, spared=event.step)

    def _publish_best(self, event: BestEvent) -> None:
        delete_objects(self._run.tools.store, self._run.insist(lambda: self._write_best(event)))

    def _write_best(self, event: BestEvent) -> list[str]:
        """The one that was the best before has no claim to stay whole any more."""
        with self._run.unit() as (session, _):
            job = lifecycle.lock(session, self._job_id)
            lifecycle.best_found(session, job, step=event.step, metric=event.metric, value=event.value)
            return _dropped(session, job, spared=event.step)

    def _publish_sample(self, event: SampleEvent) -> None:
        """File, then row and event. That of an earlier attempt at the same step stands."""
        if self._run.insist(lambda: self._has_sample(event.step)):
            return
        stored = store_result(self._run, event, f"{self._prefix}/files/{event.step}")
        self._run.insist(lambda: self._write_sample(event, stored))

    def _has_sample(self, step: int) -> bool:
        with self._run.tools.database.read() as session:
            return lifecycle.sample(session, self._job_id, step) is not None

    def _write_sample(self, event: SampleEvent, stored: Result) -> None:
        with self._run.unit() as (session, _):
            lifecycle.sample_drawn(session, lifecycle.lock(session, self._job_id), stored, count=event.num_images)

    def _publish_file(self, event: ArtifactEvent) -> None:
        self._results.append(store_result(self._run, event, f"{self._prefix}/files/{event.step}"))


def _dropped(session: Session, job: Job, *, spared: int) -> list[str]:
    """Keys of what nobody needs any more. `spared` is the step that was just saved: it may yet become the best."""
    dropped = lifecycle.drop_old_resume_files(session, job, resume_file=RESUME, keep=_RESUMES_KEPT)
    return dropped + keeping.collect_surplus(session, job, spared=spared)
