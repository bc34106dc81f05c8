"""How a retention set comes about: part of the transfer config, and a resource of its own. Pydantic only."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from difftune_core.config.frozen import Frozen
from difftune_core.config.model_ids import ModelId
from difftune_core.config.sampling import Sampler
from difftune_core.files import sha256_json

_FORMAT = 1
_DDPM_FORMAT = 3
"""Format of DDPM's images: before 2 the last step added noise; before 3 some counts had steps off by one."""
RetentionSetId = Annotated[str, Field(pattern=r"^rset_[0-9A-Z]{26}$")]


class ClassWeight(Frozen):
    """A class of the base model and its share of the images."""

    label: Annotated[int, Field(ge=0)]
    """Row of the base model's label table."""
    weight: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Images are in proportion to the weights, rounded by the largest remainders."""


class RetentionSetConfig(Frozen):
    """How images are sampled from the base model before tuning (the paper's memory bank)."""

    num_images: Annotated[int, Field(ge=1, le=2_000_000)] = 5000
    """Images to sample. 5,000 already help in the paper (Fig. 6d)."""
    sampler: Sampler = "ddim"
    """Reverse process."""
    num_inference_steps: Annotated[int, Field(ge=1, le=1000)] = 50
    """Denoising steps per image; the paper found this to matter little (Fig. 7a)."""
    guidance_scale: Annotated[float, Field(ge=1, le=20)] = 1.5
    """Classifier-free guidance, 1 for none: e_null + s (e_class - e_null)."""
    class_distribution: (
        Literal["uniform"] | Annotated[tuple[ClassWeight, ...], Field(min_length=1, max_length=10_000, strict=False)]
    ) = "uniform"
    """`uniform`: all classes of the base model in equal shares; or a list of classes with their weights."""
    prompt: Annotated[str, Field(max_length=1000)] | None = None
    """Stable Diffusion only: the prompt of every image. Null: the base model's default prompt."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of the images; jobs with equal settings share one retention set."""

    @field_validator("class_distribution")
    @classmethod
    def _each_class_once(
        cls, value: Literal["uniform"] | tuple[ClassWeight, ...]
    ) -> Literal["uniform"] | tuple[ClassWeight, ...]:
        """Put the classes in order of the labels, so that one distribution has one digest."""
        if value == "uniform":
            return value
        ordered = tuple(sorted(value, key=lambda share: share.label))
        for one, other in pairwise(ordered):
            if one.label == other.label:
                raise PydanticCustomError("class_twice", "class {label} is listed twice", {"label": one.label})
        return ordered


class JudgedImagesConfig(RetentionSetConfig):
    """How the base model's images are sampled that a judge compares with: as it draws those that it judges."""

    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Noise levels as shares of the chain between which guidance is on."""
    guided_channels: int | None = None
    """Guide the first latent channels only; None guides all."""


class RetentionSetRequest(RetentionSetConfig):
    """What `python -m difftune_core retain` reads: settings, and the base model that they are for."""

    model: ModelId
    """Id of the base model."""
    base_digest: str | None = None
    """Digest that the base model must have; null takes the one that is there."""
    images_sha256: str | None = None
    """sha256 of the archive that the images come from, where they are not sampled."""
    num_threads: Annotated[int, Field(ge=1, le=256)] = 1
    """CPU threads of the child process."""


class RetentionSetInfo(BaseModel):
    """What a retention set's file says of itself, in its header."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    digest: str
    """Identifies base model and settings, or base model and uploaded images."""
    model: str
    base_digest: str
    """Digest of the base model that sampled the images, or that they were uploaded for."""
    settings: dict[str, Any] | None
    """The settings that the images were sampled with; null for uploaded images."""


def retention_fields(config: RetentionSetConfig) -> dict[str, Any]:
    """The settings as they are hashed and shown; what came later is left out at its default, as before it was there."""
    fields = config.model_dump(mode="json", include=set(RetentionSetConfig.model_fields))
    if config.class_distribution == "uniform":
        del fields["class_distribution"]
    if config.prompt is None:
        del fields["prompt"]
    if isinstance(config, JudgedImagesConfig):
        own = JudgedImagesConfig.model_fields.keys() - RetentionSetConfig.model_fields.keys()
        fields |= config.model_dump(mode="json", include=own, exclude_defaults=True)
    return fields


def retention_digest(base_digest: str, config: RetentionSetConfig) -> str:
    """Content address of sampled images: equal for equal base model and settings."""
    version = _DDPM_FORMAT if config.sampler == "ddpm" else _FORMAT
    return sha256_json({"format": version, "base": base_digest, **retention_fields(config)})


def uploaded_digest(base_digest: str, images_sha256: str) -> str:
    """Content address of uploaded images: equal for equal base model and equal archive."""
    return sha256_json({"format": _FORMAT, "base": base_digest, "images": images_sha256})
