"""Base models and feature extractors for a trainer: the node's own folders, and what the store has besides."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from api.base_models import store as stored
from api.base_models.store import StoredModel
from api.settings import Settings
from api.storage import ObjectStore
from difftune_core.config.card import CARD_FILE, BaseModelCard, read_any_card
from difftune_core.files import folder_digest, fsync, sha256_json, whole_folder_digest
from difftune_core.hooks import TaskError
from worker.workspace import Check, aside_of, fetch_object

MODELS = "models-2"  # before, the card was not in the name


def model_roots(store: ObjectStore, settings: Settings, ids: Iterable[str], check: Check) -> list[Path]:
    """Folders in which a child finds each of these models, the store's fetched if this node lacks them.

    A base model brings the feature extractor that its card names. What is nowhere is left to the child to miss.

    Raises:
        TaskError: `object_missing`, `damaged_file`, `model_unreadable`.
    """
    roots = settings.model_roots
    wanted, seen = list(ids), set[str]()
    while wanted:
        model_id = wanted.pop()
        if model_id in seen:
            continue
        seen.add(model_id)
        if _here(model_id, roots) is None and (model := _in_store(store, model_id)) is not None:
            roots = [*roots, ensure_model(store, model, settings.data_dir, check)]
        wanted += _extractor_of(_here(model_id, roots))
    return roots


def ensure_model(store: ObjectStore, model: StoredModel, data_dir: Path, check: Check) -> Path:
    """The folder `cache/models-2/CONTENTS`, with the model's folder in it, fetched if this node does not have it.

    Raises:
        TaskError: `object_missing`, or `damaged_file`: the store gives other bytes than its index says.
    """
    cache = data_dir / "cache" / MODELS
    root = cache / contents_of(model)
    final = _inside(root, model.id)
    if final.is_dir() and whole_folder_digest(final) != root.name:  # damaged since: no job here could use it
        shutil.rmtree(final, ignore_errors=True)
    if not final.is_dir():
        with aside_of(cache) as aside:
            for file in model.files:
                path = _inside(aside, file.path)
                path.parent.mkdir(parents=True, exist_ok=True)
                fetch_object(store, model.key(file), file.sha256, path, check)
                fsync(path)
            if folder_digest(aside) != model.digest:
                raise TaskError("damaged_file", f"The files of model {model.id} in the store do not have its digest.")
            fsync(aside)
            root.mkdir(exist_ok=True)
            with suppress(FileExistsError):  # another run was first
                _rename(aside, final)
    with suppress(OSError):
        os.utime(root)  # last use, for eviction
    return root


def contents_of(model: StoredModel) -> str:
    """Return the sha256 over all files of a model: a card imported anew beside the same weights is another model."""
    return sha256_json(sorted([file.path, file.sha256] for file in model.files))


def _rename(aside: Path, final: Path) -> None:
    try:
        aside.rename(final)
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:
            raise FileExistsError from None
        raise


def _inside(folder: Path, name: str) -> Path:
    """A path below `folder`, for a name that an index gives."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise TaskError("model_unreadable", f"The index of model {folder.name} names a file {name!r}.")
    return folder / path


def _in_store(store: ObjectStore, model_id: str) -> StoredModel | None:
    try:
        return stored.find(store, model_id)
    except ValidationError:
        raise TaskError("model_unreadable", f"The index of model {model_id} in the store cannot be read.") from None


def _here(model_id: str, roots: list[Path]) -> Path | None:
    """Return a model's folder on this node; an extractor needs no card."""
    return next((root / model_id for root in roots if (root / model_id).is_dir()), None)


def _extractor_of(folder: Path | None) -> list[str]:
    if folder is None or not (folder / CARD_FILE).is_file():
        return []
    try:
        card = read_any_card(folder)
    except ValidationError:  # left to the child
        return []
    return [card.feature_extractor] if isinstance(card, BaseModelCard) else []
