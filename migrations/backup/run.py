"""Backup of a running service, and restore into an empty one.

The database is dumped in one consistent state; objects are never rewritten, so those that this state names can be
listed, and copied, afterwards.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy import update
from sqlalchemy.orm import Session

from api import __version__
from api.db import Database
from api.private import make_private_folder
from api.settings import Settings
from api.storage import ObjectStore, open_store
from api.storage.s3 import S3Store
from api.subjects.references import named_keys
from api.work.models import WorkItem
from api.work.states import WorkState
from difftune_core.files import sha256_file
from migrations.backup.dump import check_database, count_rows, dump, restore, revision_of
from migrations.backup.manifest import MANIFEST, OBJECTS, BackupError, Manifest, ObjectEntry
from migrations.run import check_current, knows, upgrade

_CHUNK_BYTES = 1 << 20
_MODELS = "models/"
_FENCES = 1_000
"""Attempts that may have been made, and have written objects, between backup and restore."""


@dataclass(frozen=True)
class _Seen:
    keys: dict[str, str | None]
    rows: dict[str, int]
    revision: str


def make_backup(settings: Settings, folder: Path, *, with_objects: bool) -> Manifest:
    """Write a backup to `folder`, which appears whole or not at all.

    Raises:
        BackupError: the folder is there already, or the database cannot be dumped.
        RevisionError: the database is not at this version's revision.
        StoreError: the store does not answer.
    """
    if folder.exists():
        raise BackupError(f"{folder} is there already")
    check_database(settings.database)
    check_current(settings.database)
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True, mode=0o700)
    path, seen = dump(settings.database, aside, _look)
    store = open_store(settings)
    keys = seen.keys | {found.key: None for found in store.list(_MODELS)}
    objects, missing = _objects(store, keys, aside / OBJECTS if with_objects else None)
    manifest = Manifest(
        difftune=__version__,
        created_at=time.time(),
        revision=seen.revision,
        database="sqlite" if settings.database.startswith("sqlite") else "postgresql",
        file=path.name,
        sha256=sha256_file(path),
        rows=seen.rows,
        with_objects=with_objects,
        objects=objects,
        missing=missing,
    )
    (aside / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
    aside.rename(folder)
    return manifest


@dataclass(frozen=True)
class Restored:
    """What a restore found: keys of objects that the store lacks, and of those that it has with other bytes."""

    manifest: Manifest
    missing: list[str]
    damaged: list[str]


def restore_backup(settings: Settings, folder: Path) -> Restored:
    """Bring a backup into the empty database of the settings, and its objects, if it has them, into the store.

    Raises:
        BackupError: it is no whole backup, or the database is not empty.
        StoreError: the store does not answer.
    """
    manifest = _read(folder)
    make_private_folder(settings.data_dir)
    restore(settings.database, folder / manifest.file)
    database = Database(settings.database)
    try:
        with database.read() as session:
            rows = count_rows(session)
        if rows != manifest.rows:
            differing = sorted(name for name in {*rows, *manifest.rows} if rows.get(name) != manifest.rows.get(name))
            raise BackupError(f"these tables have another number of rows than the backup says: {', '.join(differing)}")
        upgrade(settings.database)
        with database.write() as session:  # attempts after the backup have left objects under the next fences
            waiting = update(WorkItem).where(WorkItem.state != WorkState.DONE)
            session.execute(waiting.values(fence=WorkItem.fence + _FENCES))
    finally:
        database.close()
    store = open_store(settings)
    if isinstance(store, S3Store):
        store.ensure_bucket()
    missing, damaged = [], []
    for entry in manifest.objects:
        if manifest.with_objects:
            _put(store, entry, folder / OBJECTS / entry.key)
        state = _state(store, entry)
        missing += [entry.key] if state == "missing" else []
        damaged += [entry.key] if state == "damaged" else []
    return Restored(manifest, [*manifest.missing, *missing], damaged)


def _look(session: Session) -> _Seen:
    return _Seen(named_keys(session), count_rows(session), revision_of(session))


def _objects(
    store: ObjectStore, keys: dict[str, str | None], copies: Path | None
) -> tuple[list[ObjectEntry], list[str]]:
    entries, missing = [], []
    for key, known in sorted(keys.items()):
        try:
            if known is not None and copies is None:
                entries.append(ObjectEntry(key=key, bytes=store.stat(key).bytes, sha256=known))
            else:
                entries.append(_copied(store, key, copies / key if copies else None))
        except FileNotFoundError:
            missing.append(key)
    return entries, missing


def _copied(store: ObjectStore, key: str, path: Path | None) -> ObjectEntry:
    digest, size = hashlib.sha256(), 0
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") if path else Path("/dev/null").open("wb") as file:
        for chunk in store.read(key):
            digest.update(chunk)
            size += len(chunk)
            file.write(chunk)
    return ObjectEntry(key=key, bytes=size, sha256=digest.hexdigest())


def _read(folder: Path) -> Manifest:
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise BackupError(f"{folder} is no backup: it has no {MANIFEST}") from None
    except ValidationError as error:
        raise BackupError(f"{folder / MANIFEST} cannot be read: {error.errors()[0]['msg']}") from None
    if not knows(manifest.revision):
        message = f"{folder} was made by difftune {manifest.difftune}, which is newer than this one, {__version__}"
        raise BackupError(f"{message}: restore it with that version")
    dumped = folder / manifest.file
    if dumped.parent != folder or not dumped.is_file() or sha256_file(dumped) != manifest.sha256:
        raise BackupError(f"{dumped} is missing or damaged: its sha256 is not {manifest.sha256}")
    return manifest


def _put(store: ObjectStore, entry: ObjectEntry, path: Path) -> None:
    """A copy that is damaged or missing itself is left out: what the store has then is judged all the same."""
    if not path.is_file() or sha256_file(path) != entry.sha256:
        return
    try:
        store.stat(entry.key)
    except FileNotFoundError:
        store.put_stream(entry.key, _chunks(path))


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _state(store: ObjectStore, entry: ObjectEntry) -> str:
    digest = hashlib.sha256()
    try:
        for chunk in store.read(entry.key):
            digest.update(chunk)
    except FileNotFoundError:
        return "missing"
    return "whole" if digest.hexdigest() == entry.sha256 else "damaged"
