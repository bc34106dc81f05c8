from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from api.datasets.models import Dataset
from api.schemas import Filename, In, Listed, Out, seconds
from difftune_core.config.dataset import DatasetOptions, OnBadFiles, Splits


class DatasetSettings(DatasetOptions, In):
    """What the owner says of a data set when it is made."""

    def options(self) -> DatasetOptions:
        """Return the settings without what else a request says."""
        return DatasetOptions(**self.model_dump(include=set(DatasetOptions.model_fields)))


class DatasetImport(DatasetSettings):
    """An archive of images in a bucket that the operator allows."""

    uri: Annotated[str, Field(max_length=1024, pattern=r"^s3://")]
    """`s3://bucket/key`."""
    filename: Filename | None = None
    """Name of the file; null: the last part of the key."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None
    """Hex, of the whole file; validation compares it."""


class DatasetError(Out):
    """Why a data set is invalid."""

    code: str
    message: str


class DatasetOut(Listed):
    """An uploaded archive of images, and what its validation found."""

    object: Literal["dataset"] = "dataset"
    status: str
    """`validating`, then `ready` or `invalid` for good."""
    filename: str
    purpose: str
    bytes: int
    sha256: str | None
    """Hex, of the whole archive."""
    form: Literal["class_folders", "captioned"] | None
    """`class_folders` for base models that draw classes, `captioned` for Stable Diffusion; null until validated."""
    num_items: int | None
    """Accepted images."""
    class_names: list[str] | None
    """Sorted; the position is the label. Null for captioned images."""
    has_controls: bool
    """Whether the rows of captioned images name control images; otherwise a job has them drawn."""
    on_bad_files: OnBadFiles
    """What files that cannot be used do: `refuse` the set, or are left out of it (`skip`)."""
    max_skipped_share: float
    """The most that `skip` may leave out, as a share of all."""
    splits: Splits
    """Which folder this is of an archive with folders like `train/` and `val/`. See `docs/datasets.md`."""
    num_skipped: int | None
    """Files and rows that were left out; the report lists them. Null until validated."""
    num_ignored: int | None
    """Files that were never meant to be used, as a README; the report lists them. Null until validated."""
    num_warnings: int | None
    """What the report warns of. Null until validated."""
    created_at: int
    settled_at: int | None
    error: DatasetError | None
    report_url: str
    items_url: str


class DatasetReport(Out):
    """What validation found.

    Of errors, warnings, skipped and ignored files the first hundred are here, all of them in the file behind
    `full_report_url`.
    """

    model_config = ConfigDict(extra="allow")

    object: Literal["dataset.report"] = "dataset.report"
    dataset_id: str
    status: str
    full_report_url: str | None
    """A link that expires soon."""


class DatasetItem(Listed):
    """An accepted image: its path in the archive, class, width and height in pixels, sha256."""

    model_config = ConfigDict(extra="allow")

    object: Literal["dataset.item"] = "dataset.item"


def dataset_out(dataset: Dataset) -> DatasetOut:
    url = f"/v1/datasets/{dataset.id}"
    counts = dataset.report or {}
    code, message = dataset.error_code, dataset.error_message
    return DatasetOut(
        id=dataset.id,
        status=dataset.status,
        filename=dataset.filename,
        purpose=dataset.purpose,
        bytes=dataset.bytes,
        sha256=dataset.sha256,
        form=dataset.form,
        num_items=dataset.num_items,
        class_names=dataset.class_names,
        has_controls=dataset.has_controls,
        **dataset.settings.model_dump(),
        num_skipped=counts.get("num_skipped"),
        num_ignored=counts.get("ignored"),
        num_warnings=counts.get("num_warnings"),
        created_at=int(dataset.created_at),
        settled_at=seconds(dataset.settled_at),
        error=DatasetError(code=code, message=message or "") if code else None,
        report_url=f"{url}/report",
        items_url=f"{url}/items",
    )


def report_out(dataset: Dataset, full_report_url: str | None) -> DatasetReport:
    found: dict[str, Any] = dict(dataset.report or {})
    own = {"dataset_id": dataset.id, "status": dataset.status, "full_report_url": full_report_url}
    return DatasetReport.model_validate({**found, **own})
