"""Training in this process, without a service: what a job with the same config makes, to the byte."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import difftune_core
from difftune.bodies import OF_SERVICE, job_body
from difftune.listening import Listener, Step, interruptible
from difftune.places import data_folder
from difftune.runs import CONFIG, Run, open_run
from difftune_core.config.card import find_card
from difftune_core.config.dataset import DatasetOptions, OnBadFiles, Splits
from difftune_core.config.resolution import resolve
from difftune_core.config.transfer import TransferConfig
from difftune_core.families.preparation import Folders
from difftune_core.files import write_durably
from difftune_core.holding import holding
from difftune_core.hooks import TaskError

__all__ = ["Places", "Run", "Step", "open_run", "train"]

_BUNDLED = Path(difftune_core.__file__).parent / "weights"
_RUNS, _CACHE = Path("runs"), Path("~/.cache/difftune")
PathLike = str | Path


@dataclass(frozen=True)
class Places:
    """Where a run in this process finds what is not its images, and what of those it takes."""

    models: Sequence[PathLike] = ()
    """Further folders of base models, before that of the service on this machine and the bundled ones."""
    cache: PathLike = _CACHE
    """What runs share: latents, retention sets."""
    start: PathLike | None = None
    """Folder of a checkpoint of another run (`run.checkpoint`), to begin with its weights."""

    on_bad_files: OnBadFiles = "refuse"
    """What becomes of image files that are unfit."""
    splits: Splits = "refuse"
    """Which folder is trained on, of images in train/ and val/; with `hold_out` it is judged by the other."""

    @property
    def roots(self) -> list[Path]:
        """All folders of base models."""
        return [*(Path(folder).expanduser() for folder in self.models), data_folder() / "models", _BUNDLED]


def train(
    images: PathLike,
    *,
    model: str | None = None,
    method: str | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    validation: PathLike | None = None,
    out: PathLike | None = None,
    config: Mapping[str, Any] | None = None,
    on_step: Callable[[Step], object] | None = None,
    show: bool = True,
    places: Places = Places(),  # immutable
    **fields: Any,
) -> Run:
    """Tune a model on images in this process. One that Ctrl-C has ended goes on when called again with its `out`.

    Args:
        images: an archive or a folder: class folders, or captioned images.
        model: id of a base model; default `tiny-dit`.
        method: `diff_tuning` (default), or `supervised`: plain fine-tuning.
        steps: optimizer steps; default: the model card's.
        epochs: in place of steps, passes over the training images.
        validation: held-out images to judge by; default: a tenth of each class.
        out: folder of the run; default: a new one in `runs/`.
        config: fields of a job, as for `POST /v1/fine_tuning/jobs`.
        on_step: called after each step, or each `log_every_steps`; if it returns False the run ends in order.
        show: whether progress is shown, in a cell of a notebook that changes or as lines on stderr.
        places: where base models, caches and a beginning are, and what of the images is taken.
        fields: any other field (`seed`, `evaluation`), or hyper-parameter of the method (`tau`, `batch_size`).

    Raises:
        TaskError: why not, with a code and the field or file at fault.
    """
    body = job_body(config, model=model, method=method, steps=steps, epochs=epochs, **fields)
    resolved = resolved_config(body if on_step is None else _each_step(body), places.roots)
    folder = _new_folder(resolved.model) if out is None else Path(out).expanduser()
    folders = _folders(places, folder, {"images": images, "validation": validation, "start": places.start})
    title = f"{resolved.model} by {resolved.method.type}"
    return _trained(resolved, folders, Listener(title, show=show, on_step=on_step))


def resolved_config(body: Mapping[str, Any], roots: Sequence[Path]) -> TransferConfig:
    """Return the complete config of a job's fields, as a service resolves it at submission; its files are left out."""
    stated = {
        name: value for name, value in body.items() if name not in {*OF_SERVICE, "training_file", "validation_file"}
    }
    parsed = TransferConfig.model_validate_json(json.dumps(stated))  # as the API reads it
    return resolve(parsed, find_card(parsed.model, list(roots)), num_threads=1)


def _folders(places: Places, out: Path, given: Mapping[str, PathLike | None]) -> Folders:
    """The folders of a run, whose own is made.

    Raises:
        TaskError: `file_not_found`.
    """
    paths = {name: None if path is None else Path(path).expanduser() for name, path in given.items()}
    for name, path in paths.items():
        if path is not None and not path.exists():
            raise TaskError("file_not_found", f"{name}: there is no {path}", name)
    images, validation, start = paths.values()
    assert images is not None, "no default"
    out.mkdir(parents=True, exist_ok=True)
    return Folders(
        images,
        validation,
        places.roots,
        Path(places.cache).expanduser(),
        out,
        data_options=DatasetOptions(on_bad_files=places.on_bad_files, splits=places.splits),
        validation_options=DatasetOptions(on_bad_files=places.on_bad_files),
        start=start,
    )


def _trained(config: TransferConfig, folders: Folders, listener: Listener) -> Run:
    from difftune_core.train.run import train as train_in

    write_durably(folders.out / CONFIG, config.model_dump_json(indent=1).encode())
    with _torch_as_before(), interruptible(listener), holding():
        outcome = train_in(config, folders, listener)
    listener.board.end(outcome.code)
    if outcome.step == 0:
        message = f"the run in {folders.out} was ended before its first step; called again with this `out` it goes on"
        raise TaskError("stopped", message)
    return open_run(folders.out, models=folders.models)


def _each_step(body: dict[str, Any]) -> dict[str, Any]:
    """The body with every step logged, unless it says how often."""
    kind = body["method"]["type"]
    spec = body["method"].get(kind) or {}
    hyperparameters = {"log_every_steps": 1, **(spec.get("hyperparameters") or {})}
    return {**body, "method": {"type": kind, kind: {**spec, "hyperparameters": hyperparameters}}}


def _new_folder(model: str) -> Path:
    """A folder that is not there yet."""
    name, number = f"{model}-{time.strftime('%Y%m%d-%H%M%S')}", 1
    while (folder := _RUNS / (name if number == 1 else f"{name}-{number}")).exists():
        number += 1
    return folder


@contextmanager
def _torch_as_before() -> Iterator[None]:
    """Open a block after which torch is set up as it was: a run chooses threads and deterministic kernels."""
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
