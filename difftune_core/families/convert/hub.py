"""Finds an import's files: on this machine, or a hub at a pinned revision."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from difftune_core.hooks import TaskError
from difftune_core.runtime.foreign import refuse_links

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.))*"
_PINNED = re.compile(rf"({_NAME}/{_NAME})@([0-9a-f]{{40}})")
_WANTED = (
    "config.json",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model-*.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
)
_PARTS = ("", "transformer/", "unet/", "vae/")
_PATTERNS = [
    *(f"{part}{name}" for part in _PARTS for name in _WANTED),
    "model.safetensors",
    "preprocessor_config.json",
    "palette.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/*.json",
    "tokenizer/merges.txt",
]


def pinned(source: str) -> tuple[str, str]:
    """Repository and revision of `org/name@<40 hex digits>`.

    Raises:
        TaskError: `source_not_found`, it is neither that nor something on this machine.
    """
    matched = _PINNED.fullmatch(source)
    if matched is None:
        message = f"there is no file or folder {source!r}; a hub id needs its pinned revision: org/name@<40 hex digits>"
        raise TaskError("source_not_found", message, "source")
    return matched[1], matched[2]


def fetch(source: str, folder: Path) -> Path:
    """The local path of `source`: itself where it exists, otherwise a hub's safetensors and JSON put into `folder`.

    No token is read: gated repositories are downloaded by hand.

    Raises:
        TaskError: `source_not_found`, `download_failed`; `unsafe_weights` for links that lead out of a folder.
    """
    path = Path(source).expanduser()
    if path.exists():
        if path.is_dir():
            refuse_links(path)
        return path
    repository, revision = pinned(source)
    import huggingface_hub

    download: Any = huggingface_hub.snapshot_download
    try:
        download(repository, revision=revision, local_dir=folder, allow_patterns=_PATTERNS, token=False)
    except (OSError, ValueError, huggingface_hub.errors.HfHubHTTPError) as error:
        raise TaskError("download_failed", f"{source}: {type(error).__name__}: {error}", "source") from None
    return folder
