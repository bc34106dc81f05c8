"""Images on request, by a process that stays for the next request of the same model."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

from api.images.kind import Generation
from api.images.stored import Stored
from api.jobs.models import Checkpoint
from api.vision_files.kind import VisionFile
from api.work.endings import SUCCEEDED, Ending
from api.work.states import Request
from difftune_core.checkpoint.manifest import MANIFEST, MODEL
from difftune_core.hooks import TaskError
from worker.child import Child
from worker.inputs import model_arguments
from worker.kinds.base import Activity
from worker.warm import Wanted, WarmChild
from worker.workspace import ensure_file, fetch_object

_NEEDED = (MODEL, "config.json", MANIFEST)
_STAYS_AFTER = {SUCCEEDED, *(request.ending for request in Request)}


class GenerationRun(Activity):
    """One attempt. What an earlier one has drawn on this node lies in the workspace and is not drawn again."""

    command = "serve"
    goes_on = True
    _wanted: Wanted | None = None
    _child: WarmChild | None = None

    def prepare(self) -> list[str]:
        """Fetch weights and control image; the request.

        Raises:
            TaskError: an input is missing or damaged.
        """
        workspace, settings = self.run.workspace, self.run.tools.settings
        with self.run.tools.database.read() as session:
            stored = Stored.of(session.get_one(Generation, self.run.lease.subject_id))
            checkpoint = session.get(Checkpoint, stored.checkpoint) if stored.checkpoint else None
            shown = session.get(VisionFile, stored.control_image) if stored.control_image else None
        config = stored.generation
        self.num_threads = config.num_threads or settings.num_threads
        complete = config.model_copy(update={"num_threads": self.num_threads})
        path = workspace.write_config(complete.model_dump(mode="json"))
        arguments = ["generate", str(path), "--resolved", "--out", str(workspace.out)]
        arguments += model_arguments(self.run, [config.model])
        if stored.checkpoint is not None:
            arguments += ["--checkpoint", str(self._weights(stored.checkpoint, checkpoint))]
        if stored.control_image is not None:
            arguments += ["--control", str(self._control(stored.control_image, shown))]
        self.least_files = config.total
        self._model = stored.checkpoint or config.model
        return arguments

    def spawn(self, arguments: list[str], *, gpu: str | None, **options: Any) -> Child:
        """Hand the request to a process that has the model, or to a new one."""
        self._wanted, warm = Wanted(self._model, gpu), self.run.tools.warm
        child = warm.take(self._wanted)
        if child is None:
            folder = self.run.tools.settings.data_dir.resolve() / "warm"
            folder.mkdir(parents=True, exist_ok=True)
            options |= {"folder": folder, "keep_fds": list(self.run.held)}  # not the workspace's lock: it outlives it
            options["environment"] |= {"HOME": str(folder), "TMPDIR": str(folder)}
            child = WarmChild(self.program(), **options)
        self._child = child
        child.ask(arguments)
        return child

    def complete(self, ending: Ending) -> Ending:
        """Let the process wait for the next request, unless something has gone wrong in it."""
        child, self._child = self._child, None
        if child is not None and child.is_alive():
            if ending.code in _STAYS_AFTER and self.run.request is not Request.DRAIN and self._wanted is not None:
                self.run.tools.warm.keep(self._wanted, child)
            else:
                child.close()
        return super().complete(ending)

    def release(self) -> None:
        """End a process whose attempt broke off: it waits for nobody."""
        child, self._child = self._child, None
        if child is not None and child.is_alive():
            child.close()

    def _weights(self, checkpoint_id: str, checkpoint: Checkpoint | None) -> Path:
        if checkpoint is None:
            raise TaskError("model_not_found", f"The model {checkpoint_id} was deleted.", "model")
        folder = self.run.workspace.folder / "weights"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        files = {file.filename: file for file in checkpoint.stored}
        cache = self.run.tools.settings.data_dir / "cache" / "checkpoints"
        for name in _NEEDED:
            if name not in files:
                raise TaskError("object_missing", f"{name} of {checkpoint_id} is not in the store.", "model")
            file = files[name]
            path = cache / f"{file.sha256}{Path(name).suffix}"
            store, check = self.run.tools.store, self.run.check
            cached = self.run.using(path, partial(ensure_file, store, file.key, file.sha256, path, check))
            (folder / name).symlink_to(cached.resolve())
        return folder

    def _control(self, file_id: str, shown: VisionFile | None) -> Path:
        if shown is None:
            raise TaskError("file_not_found", f"The file {file_id} was deleted.", "control_image")
        path = self.run.workspace.folder / "control"
        path.unlink(missing_ok=True)
        fetch_object(self.run.tools.store, shown.stored.key, shown.stored.sha256, path, self.run.check)
        return path
