from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from api.retention_sets.models import RetentionSet
from api.schemas import Listed, MetadataKey, MetadataValue, Out, seconds
from api.subjects.schemas import Progress
from api.subjects.states import Status
from difftune_core.config.retention import RetentionSetConfig

_MAX_METADATA = 16


class RetentionSetCreate(RetentionSetConfig):
    """Images to sample from a base model, or to take from a data set. What is left out comes from the model's card."""

    model: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    """Id of the base model."""
    training_file: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Id of a data set whose images are taken instead of sampling; its labels are ignored."""
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=_MAX_METADATA)] | None = None
    """Up to 16 pairs of your own."""

    def stated_settings(self) -> list[str]:
        """Names of the sampling settings that the request states."""
        return [name for name in RetentionSetConfig.model_fields if name in self.model_fields_set]


class RetentionSetError(Out):
    """Why a set could not be made."""

    code: str
    message: str


class RetentionSetProgress(Progress):
    """Images that are there, of all."""


class RetentionSetOut(Listed):
    """Images that Diff-Tuning replays while it tunes a base model."""

    object: Literal["retention_set"] = "retention_set"
    status: Status
    digest: str
    """Content address: equal for equal base model and settings (or images)."""
    model: str
    base_digest: str
    """Digest of the base model; jobs on another one cannot use the set."""
    source: Literal["sampled", "uploaded"]
    training_file: str | None
    sampler: str | None
    """Sampler that drew the images; null for uploaded ones, as the five fields below."""
    num_inference_steps: int | None
    guidance_scale: float | None
    class_distribution: Literal["uniform"] | list[dict[str, Any]] | None
    prompt: str | None
    """The prompt of a Stable Diffusion's images; null for classes."""
    seed: int | None
    num_images: int
    progress: RetentionSetProgress
    bytes: int | None
    """Size of the file, once it is made."""
    sha256: str | None
    """Hex, of the file."""
    metadata: dict[str, str] | None
    created_at: int
    settled_at: int | None
    error: RetentionSetError | None
    content_url: str


def retention_set_out(row: RetentionSet) -> RetentionSetOut:
    made, status = row.artifact, row.status
    cancelled = status == Status.CANCELLED
    settings = made.settings or {}
    code, message = made.error_code, made.error_message
    return RetentionSetOut(
        id=row.id,
        status=status,
        digest=made.digest,
        model=made.model,
        base_digest=made.base_digest,
        source="uploaded" if made.settings is None else "sampled",
        training_file=row.training_file,
        sampler=settings.get("sampler"),
        num_inference_steps=settings.get("num_inference_steps"),
        guidance_scale=settings.get("guidance_scale"),
        class_distribution=settings.get("class_distribution"),
        prompt=settings.get("prompt"),
        seed=settings.get("seed"),
        num_images=made.total,
        progress=RetentionSetProgress(done=made.done, total=made.total),
        bytes=None if cancelled else made.bytes,
        sha256=None if cancelled else made.sha256,
        metadata=row.metadata_,
        created_at=int(row.created_at),
        settled_at=seconds(row.cancelled_at or made.finished_at),
        error=RetentionSetError(code=code, message=message or "") if code and not cancelled else None,
        content_url=f"/v1/retention_sets/{row.id}/content",
    )
