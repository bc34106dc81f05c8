"""Fine-tune diffusion models with Diff-Tuning, through a service or in this process.

    import difftune

    run = difftune.train("flowers.zip", model="tiny-dit", steps=400)    # in this process
    run.figures, run.images, run.sample("rose", 4), run.evaluate("held-out.zip")

    client = difftune.Client()                                          # of the service on this machine
    job = client.submit("flowers.zip", steps=400).watch()
    job.figures, job.images, job.download()

Nothing heavy is loaded before it is used: a client needs the extra `client`, training in this process `core` and
`report`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from difftune.client import Client
    from difftune.flowers import sample_data
    from difftune.jobs import Job, JobFailedError
    from difftune.judging import evaluate
    from difftune.local import Places, Run, Step, open_run, train
    from difftune.service import ServiceError
    from difftune_core.hooks import TaskError

__all__ = [
    "Client",
    "Job",
    "JobFailedError",
    "Places",
    "Run",
    "ServiceError",
    "Step",
    "TaskError",
    "__version__",
    "evaluate",
    "open_run",
    "sample_data",
    "train",
]

_FROM = {
    "Client": "difftune.client",
    "Job": "difftune.jobs",
    "JobFailedError": "difftune.jobs",
    "Places": "difftune.local",
    "Run": "difftune.local",
    "ServiceError": "difftune.service",
    "Step": "difftune.local",
    "TaskError": "difftune_core.hooks",
    "evaluate": "difftune.judging",
    "open_run": "difftune.local",
    "sample_data": "difftune.flowers",
    "train": "difftune.local",
}


if not TYPE_CHECKING:  # a type checker knows the names by the imports above, and no others

    def __getattr__(name: str) -> Any:
        """Load what is asked for.

        Raises:
            ImportError: a package is missing; the message names the extra that brings it.
        """
        if name == "__version__":
            from importlib.metadata import version

            return version("difftune")
        if name not in _FROM:
            raise AttributeError(f"module 'difftune' has no attribute {name!r}")
        try:
            return getattr(import_module(_FROM[name]), name)
        except ModuleNotFoundError as error:
            from difftune.extras import told_of

            raise ImportError(told_of(error) or str(error)) from error


def __dir__() -> list[str]:
    """Name what is public, for completion."""
    return __all__
