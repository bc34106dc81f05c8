from __future__ import annotations

from collections.abc import Iterable

import structlog

from api.storage.base import ObjectStore, StoreError

log = structlog.get_logger(__name__)


def delete_objects(store: ObjectStore, keys: Iterable[str]) -> None:
    """Delete objects after the commit since which no row names them; what a crash leaves behind belongs to no row."""
    for key in keys:
        try:
            store.delete(key)
        except StoreError as error:
            log.warning("object_not_deleted", key=key, error=str(error))
