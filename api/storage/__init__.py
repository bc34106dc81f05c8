"""The object store: a folder, or anything that speaks S3, behind one interface."""

from __future__ import annotations

from api.settings import Settings
from api.storage.base import ObjectInfo, ObjectStore, StoredFile, StoreError
from api.storage.local import LocalStore

__all__ = ["LocalStore", "ObjectInfo", "ObjectStore", "StoreError", "StoredFile", "open_store"]


def open_store(settings: Settings) -> ObjectStore:
    """The store that the settings name."""
    if settings.store_url is None:
        from api.storage.links import signing_secret

        return LocalStore(settings.data_dir / "objects", signing_secret(settings.data_dir), settings.base_url)
    if not settings.store_url.startswith("s3://"):
        raise ValueError(f"DIFFTUNE_STORE_URL must begin with s3://, not {settings.store_url!r}")
    from api.storage.s3 import S3Store

    return S3Store(settings)
