"""Base models and feature extractors in the object store: every node finds them there, whatever its own folders hold.

`models/ID/DIGEST/...` are a model's files, named by the digest over them, and never written twice; `index.json` among
them, written last, is its card and the list of its files. A model without an index is not there yet.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from api.storage import ObjectStore
from api.storage.cleaning import delete_objects
from difftune_core.config.card import CARD_FILE, Role, role_of
from difftune_core.files import file_info, folder_digest
from difftune_core.hooks import FileInfo

_PREFIX = "models/"
_INDEX = "index.json"
_TYPES = {".json": "application/json"}
_KEY_PARTS = 4


class StoredModel(BaseModel):
    """`index.json`."""

    model_config = ConfigDict(frozen=True)
    schema_version: Literal[1] = 1
    id: str
    digest: str
    """The digest over names and contents of the weights and configs, as `difftune_core.files.folder_digest` makes it.
    """
    card: dict[str, Any]
    """`card.json`, whole."""
    files: list[FileInfo]
    """Files by paths relative to the model's folder."""

    @property
    def role(self) -> Role | None:
        """Kind of the model's card."""
        return role_of(self.card)

    def key(self, file: FileInfo) -> str:
        """Key of one of the model's files."""
        return f"{_folder(self.id, self.digest)}/{file.path}"


class _Found(NamedTuple):
    key: str
    etag: str | None


_read: dict[_Found, StoredModel] = {}
"""Indexes read before: a key and its etag have one content for ever."""


def publish(store: ObjectStore, folder: Path) -> StoredModel:
    """Store the model in `folder`, which is named by its id and has a card; it is there whole or not at all.

    Raises:
        FileExistsError: the store has a model of that id.
    """
    if find(store, folder.name) is not None:
        raise FileExistsError(folder.name)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [file_info(path, folder) for path in paths]
    card = json.loads((folder / CARD_FILE).read_bytes())
    model = StoredModel(id=folder.name, digest=folder_digest(folder), card=card, files=files)
    for path, file in zip(paths, files, strict=True):
        kind = _TYPES.get(path.suffix, "application/octet-stream")
        store.put_file(model.key(file), path, content_type=kind, sha256=file.sha256)
    index = model.model_dump_json(indent=1, exclude={"files": {"__all__": {"v"}}})
    store.put_stream(f"{_folder(model.id, model.digest)}/{_INDEX}", [index.encode()])
    return model


def find(store: ObjectStore, model_id: str) -> StoredModel | None:
    """Return the model with the id; None where there is none.

    Raises:
        ValidationError: its index cannot be read.
    """
    return next((_index(store, found) for found in _indexes(store, f"{_PREFIX}{model_id}/")), None)


def listed(store: ObjectStore) -> Iterator[tuple[str, StoredModel | None]]:
    """Id and model of all there are, by id; None for one whose index cannot be read."""
    for found in _indexes(store, _PREFIX):
        model_id = PurePosixPath(found.key).parts[1]
        try:
            yield model_id, _index(store, found)
        except ValidationError:
            yield model_id, None


def remove(store: ObjectStore, model_id: str) -> bool:
    """Delete all of a model, the index first; whether there was anything."""
    keys = [found.key for found in store.list(f"{_PREFIX}{model_id}/")]
    delete_objects(store, sorted(keys, key=lambda key: not key.endswith(f"/{_INDEX}")))
    return bool(keys)


def _folder(model_id: str, digest: str) -> str:
    return f"{_PREFIX}{model_id}/{digest}"


def _indexes(store: ObjectStore, prefix: str) -> Iterator[_Found]:
    for found in store.list(prefix):
        if found.key.endswith(f"/{_INDEX}") and found.key.count("/") == _KEY_PARTS - 1:
            yield _Found(found.key, found.etag)


def _index(store: ObjectStore, found: _Found) -> StoredModel:
    if found not in _read:
        _read[found] = StoredModel.model_validate_json(b"".join(store.read(found.key)))
    return _read[found]
