"""What every import does: fetch aside, say where weights come from, write an autoencoder."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from difftune_core.families.convert.hub import fetch, pinned
from difftune_core.families.convert.request import ImportRequest
from difftune_core.families.convert.vae import Vae
from difftune_core.families.convert.weights import DIFFUSERS_WEIGHTS, State
from difftune_core.files import sha256_file
from difftune_core.hooks import Hooks, PhaseEvent, TaskError
from difftune_core.networks.state import CONFIG
from difftune_core.runtime.tensors import save_tensors


@contextmanager
def incoming(request: ImportRequest, hooks: Hooks) -> Iterator[tuple[Path, Path]]:
    """The source on this machine, and a folder for what else is fetched, which goes when the block ends.

    Raises:
        TaskError: `model_exists`, `source_not_found`, `download_failed`.
    """
    if (request.models / request.id).exists():
        raise TaskError("model_exists", f"there is a model {request.id!r} in {request.models}; remove it first", "id")
    request.models.mkdir(parents=True, exist_ok=True)
    hooks.emit(PhaseEvent(phase="loading_model"))
    with tempfile.TemporaryDirectory(prefix=".import-", dir=request.models) as scratch:
        yield fetch(request.source, Path(scratch) / "source"), Path(scratch)


def stated_licence(request: ImportRequest) -> str:
    """The licence that the import states.

    Raises:
        TaskError: `licence_missing`.
    """
    if request.licence is None:
        raise TaskError("licence_missing", "state the licence of the weights", "licence")
    return request.licence


def vae_folder(source: Path, request: ImportRequest, scratch: Path) -> Path:
    """The folder of the autoencoder that was named, or of the pipeline's own.

    Raises:
        TaskError: `vae_missing`, `source_not_found`, `download_failed`.
    """
    if request.vae is not None:
        folder = fetch(request.vae, scratch)
    elif (source / "vae").is_dir():
        folder = source
    else:
        raise TaskError("vae_missing", f"{source.name} has no vae/: name an autoencoder", "vae")
    if not folder.is_dir():
        raise TaskError("source_not_found", f"{request.vae} is no folder", "vae")
    return folder


def origin(named: str, found: Path, library: str = "diffusers") -> str:
    """Return where the weights come from, without a path of this machine; a folder is one of `library`."""
    if found.is_dir():
        return "@".join(pinned(named)) if not Path(named).expanduser().exists() else f"{library} folder {found.name}"
    return f"{found.name}, sha256 {sha256_file(found)}"


def autoencoder_anatomy(vae: Vae) -> dict[str, Any]:
    """Return what a card says of an autoencoder's shape."""
    levels = list(vae.config.get("block_out_channels", [64]))
    return {
        "block_out_channels": levels,
        "num_parameters": sum(tensor.numel() for tensor in vae.state.values()),
    }


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """`config.json`."""
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def write_part(folder: Path, config: dict[str, Any], state: State, weights: str = DIFFUSERS_WEIGHTS) -> None:
    """A component of a diffusers folder."""
    folder.mkdir(exist_ok=True)
    write_config(folder, config)
    save_tensors(state, folder / weights, metadata={"format": "pt"})


def write_vae(folder: Path, vae: Vae) -> None:
    """`vae/`."""
    write_part(folder / "vae", vae.config, vae.state)
