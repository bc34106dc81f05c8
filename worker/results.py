"""Files that a child has finished, on their way into the store."""

from __future__ import annotations

import mimetypes
from pathlib import Path, PurePosixPath

from api.subjects.files import Result
from difftune_core.hooks import ArtifactEvent, SampleEvent, TaskError
from worker.run import Run

_BINARY = "application/octet-stream"


def store_result(run: Run, event: ArtifactEvent | SampleEvent, prefix: str) -> Result:
    """Upload a result file under `prefix`; what its row needs.

    Raises:
        TaskError: `internal_error`, it lies outside the child's folder; `damaged_file`.
        StoreError: the store did not take it.
    """
    info = event.file
    key, content_type = f"{prefix}/{info.path}", type_of(info.path)
    run.upload(key, inside(run.workspace.out, info.path), info, content_type=content_type)
    name = PurePosixPath(info.path).name
    return Result(key, name, info.bytes, info.sha256, content_type, kind=event.kind, step=event.step)


def inside(folder: Path, relative: str) -> Path:
    """A file that the child named.

    Raises:
        TaskError: `internal_error`, the path leads out of the folder.
    """
    path = (folder / relative).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise TaskError("internal_error", f"The child process named a file outside its folder: {relative!r}.")
    return path


def type_of(path: str) -> str:
    """Media type by the name's ending."""
    return mimetypes.guess_type(path)[0] or _BINARY
