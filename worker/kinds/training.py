"""A fine-tuning job: its inputs, its child's arguments, its checkpoints."""

from __future__ import annotations

from pathlib import Path

import structlog

from api.datasets.models import Dataset
from api.jobs import lifecycle
from api.jobs.models import Checkpoint, Job
from api.retention_sets.models import RetentionSet
from api.work.endings import Ending
from difftune_core.checkpoint.manifest import whole
from difftune_core.hooks import Command, Event, LogEvent, TaskError
from worker.beginnings import beginning_arguments
from worker.child import Child
from worker.inputs import about_arguments, dataset_arguments, model_arguments, validated_arguments
from worker.kinds.base import Activity
from worker.kinds.retention import ensure_retention_set
from worker.publish import Publisher
from worker.run import Run
from worker.samples import fetch_samples
from worker.workspace import CHECKPOINTS, fetch_files

log = structlog.get_logger(__name__)


class Training(Activity):
    """One attempt at a job."""

    command = "train"
    goes_on = True

    def __init__(self, run: Run) -> None:
        """Make the attempt's activity; nothing happens yet."""
        super().__init__(run)
        self._publisher = Publisher(run, self._acknowledge, self.stored)
        self._child: Child | None = None
        self._early: list[str] = []
        """Checkpoints to acknowledge once there is a child."""

    def prepare(self) -> list[str]:
        """Fetch what this node lacks; the child's arguments.

        Raises:
            TaskError: an input is missing or damaged.
        """
        job, datasets = self._rows()
        config = job.transfer
        self.num_threads = config.num_threads or self.run.tools.settings.num_threads
        workspace, settings = self.run.workspace, self.run.tools.settings
        arguments = [str(workspace.write_config(config.model_dump(mode="json"))), "--resolved"]
        arguments += about_arguments(job.id, job.suffix, job.created_at, datasets)
        for option, dataset in datasets.items():
            arguments += dataset_arguments(self.run, option, dataset)
            arguments += validated_arguments(self.run, option, dataset)
        if job.retention_set:
            arguments += ["--retention", str(self._retention_set(job.retention_set).resolve())]
        arguments += beginning_arguments(self.run, job)
        named = [model.id for model in config.models()]
        arguments += model_arguments(self.run, named)
        self._restore(workspace.out / CHECKPOINTS)
        return [*arguments, "--cache", str((settings.data_dir / "cache").resolve()), "--out", str(workspace.out)]

    def begin(self, child: Child) -> None:
        """The child has started."""
        self._child = child
        for name in self._early:
            self._acknowledge(name)

    def handle(self, event: Event) -> None:
        """Publish what the trainer says."""
        self._publisher.handle(event)

    def idle(self) -> None:
        """Called several times a second."""
        self._publisher.flush_if_due()

    def complete(self, ending: Ending) -> Ending:
        """The child has ended: write what is left. A job's success is its checkpoint."""
        self._publisher.flush()
        return ending

    def _rows(self) -> tuple[Job, dict[str, Dataset]]:
        with self.run.tools.database.read() as session:
            job = session.get_one(Job, self.run.lease.subject_id)
            named = {"data": job.training_file, "validation": job.validation_file}
            return job, {option: session.get_one(Dataset, id_) for option, id_ in named.items() if id_}

    def _retention_set(self, set_id: str) -> Path:
        with self.run.tools.database.read() as session:
            artifact = session.get_one(RetentionSet, set_id).artifact
        return ensure_retention_set(self.run, artifact)

    def _restore(self, checkpoints: Path) -> None:
        """Publish what a former attempt left here unpublished; fetch the checkpoints that this node lacks."""
        checkpoints.mkdir(exist_ok=True)
        here = self._publisher.publish_leftovers(checkpoints)
        self._fetch_best(checkpoints)
        fetch_samples(self.run)
        for row in self._resumable():
            if row.step <= here:
                return
            try:
                fetch_files(self.run.tools.store, row.stored, checkpoints / row.name, self.run.check)
            except TaskError as error:
                log.exception("checkpoint_not_fetched", checkpoint=row.id)
                self._publisher.handle(LogEvent(level="warn", message=f"passed over {row.name}: damaged. {error}"))
            else:
                self._acknowledge(row.name)
                return

    def _fetch_best(self, checkpoints: Path) -> None:
        """The best checkpoint so far, where it is what the job may deliver; without it the job cannot end."""
        with self.run.tools.database.read() as session:
            row = lifecycle.best_to_deliver(session, self.run.lease.subject_id)
        if row is not None and whole(checkpoints / row.name) is None:
            fetch_files(self.run.tools.store, row.stored, checkpoints / row.name, self.run.check)
            self._acknowledge(row.name)

    def _resumable(self) -> list[Checkpoint]:
        with self.run.tools.database.read() as session:
            return lifecycle.resumable_checkpoints(session, self.run.lease.subject_id)

    def _acknowledge(self, name: str) -> None:
        if self._child is None:
            self._early.append(name)
        else:
            self._child.send(Command(type="ack", checkpoint=name))
