from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, ColumnElement, Double, String
from sqlalchemy.orm import Mapped, mapped_column

from api.datasets.states import ALLOWED, DatasetStatus
from api.db import Base
from api.subjects.models import Owned, Stated, one_of
from difftune_core.config.dataset import DatasetOptions, identity


class Dataset(Owned, Stated, Base):
    """An uploaded archive of images and what its validation found."""

    __tablename__ = "datasets"
    __table_args__ = (one_of(DatasetStatus),)
    noun = "dataset"
    transitions = ALLOWED

    status: Mapped[str] = mapped_column(String(16), default=DatasetStatus.VALIDATING)
    filename: Mapped[str] = mapped_column(String(255))
    purpose: Mapped[str] = mapped_column(String(32))
    bytes: Mapped[int] = mapped_column(BigInteger)
    parts: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    """The file, in order: `[{"key": ..., "bytes": ...}]`."""
    sha256: Mapped[str | None] = mapped_column(String(64))
    """Digest of the whole file, computed by validation."""
    expected_md5: Mapped[str | None] = mapped_column(String(32))
    """Hex md5 that the client stated at completion; a mismatch makes the data set invalid."""
    expected_sha256: Mapped[str | None] = mapped_column(String(64))
    """Hex sha256 that the client stated; as above."""
    options: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """What the owner says of the data set (`DatasetOptions`); null where nothing was said."""
    source: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """Where an import comes from, `{"uri", "etag"}`; its one part is written when it has been copied."""
    num_items: Mapped[int | None]
    class_names: Mapped[list[str] | None] = mapped_column(JSON)
    report: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """Summary and at most the first 100 errors; the whole is the object `report_key`."""
    report_key: Mapped[str | None] = mapped_column(String(512))
    items_key: Mapped[str | None] = mapped_column(String(512))
    """JSON Lines, one accepted image each: path, class, width, height, sha256."""
    previews_key: Mapped[str | None] = mapped_column(String(512))
    """Small pictures of its images (`difftune_core.config.previews`); null of those validated by 0.3.0."""
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(String(2000))
    settled_at: Mapped[float | None] = mapped_column(Double)
    deleted_at: Mapped[float | None] = mapped_column(Double)

    @classmethod
    def seen_by(cls, tenant_id: str) -> list[ColumnElement[bool]]:
        """The tenant's data sets that are not deleted: rows of deleted ones stay for the jobs that used them."""
        return [*super().seen_by(tenant_id), cls.deleted_at.is_(None)]

    @property
    def form(self) -> str | None:
        """`class_folders` or `captioned`, once it is known."""
        if self.report is None and self.class_names is None:
            return None
        return str((self.report or {}).get("form", "class_folders"))

    @property
    def settings(self) -> DatasetOptions:
        """What the owner says of the data set, complete."""
        return DatasetOptions.model_validate(self.options or {})

    @property
    def identity(self) -> str | None:
        """What identifies the data set's images: the file, and what is taken of it; known once the file is."""
        return None if self.sha256 is None else identity(self.sha256, self.settings)

    @property
    def has_controls(self) -> bool:
        """Whether the data set's rows name control images."""
        return bool((self.report or {}).get("has_controls"))

    @property
    def keys(self) -> list[str]:
        """Keys of the data set's objects: the file's parts, and what the validation has left."""
        left = (self.report_key, self.items_key, self.previews_key)
        return [part["key"] for part in self.parts] + [key for key in left if key]
