from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.schemas import In, Listed, MetadataKey, MetadataValue, Out, Resolved
from api.subjects.schemas import Failure, Progress
from api.subjects.states import Status
from difftune_core.config.evaluation import GuidanceInterval
from difftune_core.config.generation import MAX_IMAGES, MAX_PROMPT, Seed
from difftune_core.config.origin import BeginningId
from difftune_core.config.sampling import Guidance, Sampler

Form = Literal["url", "b64_json"]
_MAX_METADATA = 16


class GenerationCreate(In):
    """What to draw, as OpenAI's clients ask for images, and how. What is left out is as the model was judged."""

    model: BeginningId
    """Id of a base model, or of a tuned one: the `fine_tuned_model` of a job, or any checkpoint."""
    prompt: Annotated[str, Field(max_length=MAX_PROMPT)] | None = None
    """The prompt; of a model that draws classes the name or the number of one, and `""` for none."""
    class_label: Annotated[str, Field(max_length=MAX_PROMPT)] | Annotated[int, Field(ge=0)] | None = None
    """The class by its name or number, of a model that draws classes."""
    n: Annotated[int, Field(ge=1, le=MAX_IMAGES)] = 1
    """How many images; an installation may allow fewer (`DIFFTUNE_MAX_IMAGES`)."""
    size: Annotated[str, Field(pattern=r"^(auto|[1-9]\d{0,3}x[1-9]\d{0,3})$")] = "auto"
    """Width and height. A model draws one size, its own: `auto` is that one."""
    seed: Seed | None = None
    """Images of equal seeds begin with equal noise, whatever the model. Left out: another one each time."""
    compare_to_base: bool = False
    """Have the base model draw too, from the same noise: a DiT without a class, a Stable Diffusion without control."""
    response_format: Form = "url"
    """Links, which expire and need no key, or the bytes themselves in base64."""
    control_image: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """What a ControlNet follows: id of a file that was uploaded with the purpose `vision`."""
    conditioning_scale: Annotated[float, Field(ge=0, le=10)] | None = None
    """How strongly a ControlNet follows the control image."""
    sampler: Sampler | None = None
    num_inference_steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    guidance_scale: Annotated[float, Field(ge=1, le=20)] | None = None
    guidance: Guidance | None = None
    """Whose null branch is guided away from: the model's own (`cfg`), its base model's (`domain`, Domain Guidance) or
    none's."""
    guidance_interval: GuidanceInterval | None = None
    guided_channels: Annotated[int, Field(ge=1, le=1024)] | None = None
    handover: Annotated[float, Field(ge=0, le=0.5)] | None = None
    """Share of the chain that the base model ends; of a tuned model that draws classes."""
    noise_guidance_scale: Annotated[float, Field(ge=1, le=20)] | None = None
    """Noise Awareness Guidance, 1 for none; of a tuned model that was trained with a `time_dropout`."""
    wait_s: Annotated[float, Field(ge=0, le=600)] | None = None
    """How long to wait for the images before the answer is 202, at most as long as the installation allows
    (`DIFFTUNE_IMAGES_WAIT_S`)."""
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=_MAX_METADATA)] | None = None
    """Up to 16 pairs of your own."""
    output_format: Literal["png"] = "png"
    user: Annotated[str, Field(max_length=512)] | None = None
    """Name of OpenAI's for a client's user; taken because clients may send it, and not kept."""


class GeneratedImage(Out):
    """An image: OpenAI's `url` or `b64_json`, and what belongs to it."""

    url: str | None = None
    """A link without a key, until `expires_at`; ask again for another."""
    b64_json: str | None = None
    source: Literal["model", "base"]
    """Which model has drawn the image; `base` with `compare_to_base`."""
    index: int
    """Number of the image: images of equal numbers begin with the same noise."""
    filename: str
    bytes: int
    sha256: str
    expires_at: int | None = None


class GenerationError(Failure):
    """Why there are no images."""


class GenerationOut(Listed):
    """Images in OpenAI's shape, or how far drawing them has got."""

    object: Literal["image.generation"] = "image.generation"
    created: int
    status: Status
    model: str
    class_label: int | None
    class_name: str | None
    prompt: str | None
    n: int
    size: str
    seed: int
    compare_to_base: bool
    settings: Resolved
    """How the images are drawn."""
    progress: Progress
    data: list[GeneratedImage] | None
    """The images once they are drawn, those of `model` first; null before, and in lists."""
    output_format: Literal["png"] = "png"
    metadata: dict[str, str] | None
    error: GenerationError | None
    created_at: int
    started_at: int | None
    finished_at: int | None
    deleted_at: int | None
    """When the generation and its images are deleted; null while it is not final."""
