"""Sample images that former attempts at a job have drawn, for the report of the one that ends it."""

from __future__ import annotations

import structlog

from api.jobs import lifecycle
from difftune_core.hooks import TaskError
from worker.run import Run
from worker.workspace import ensure_file

FOLDER = "samples"
log = structlog.get_logger(__name__)


def fetch_samples(run: Run) -> None:
    """Bring sample images that this node lacks into the trainer's folder; the report lacks those that cannot be had."""
    with run.tools.database.read() as session:
        rows = session.scalars(lifecycle.samples_of(run.lease.subject_id)).all()
    for row in rows:
        path = run.workspace.out / FOLDER / row.filename
        try:
            ensure_file(run.tools.store, row.key, row.sha256, path, run.check)
        except TaskError as error:
            log.warning("sample_not_fetched", file=row.id, error=str(error))
