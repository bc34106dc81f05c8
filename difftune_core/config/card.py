"""Cards: what a base model, a feature extractor or what stands beside a base model is, and how it was made.

A card of any role is `card.json` in a folder, whose name is the model's id. Which role it has is told by its fields,
since cards that were written before name none. Pydantic only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError, field_validator

from difftune_core.config.model_ids import CompanionKind
from difftune_core.config.sampling import ProcessName
from difftune_core.hooks import TaskError

CARD_FILE = "card.json"
Role = Literal["base_model", "companion", "extractor"]
"""A base model can be tuned, a companion stands beside one, a feature extractor judges images."""
InceptionResizing = Literal["clean-fid", "pytorch-fid", "torch-fidelity"]


class CardPart(BaseModel):
    """Immutable; unknown fields are kept, so that older code reads newer cards."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)


class Defaults(CardPart):
    """Defaults of the transfer config for this model, by part; field names as in `difftune_core.config.transfer`."""

    training: dict[str, Any] = {}
    retention_set: dict[str, Any] = {}
    evaluation: dict[str, Any] = {}
    control: dict[str, Any] = {}
    """What `control` of a Stable Diffusion leaves out: `default_prompt`, `prompt_dropout` and the like."""

    @field_validator("*")
    @classmethod
    def _check_finite(cls, values: Any) -> Any:
        """JSON as we write it has no NaN, but Python's reads it."""
        json.dumps(values, allow_nan=False)
        return values


class BaseModelCard(CardPart):
    """`card.json` of a base model's folder."""

    role: ClassVar[Role] = "base_model"
    schema_version: Literal[1] = 1
    id: str
    """Folder name and public id."""
    family: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
    """Name of the model's family (`difftune_core.config.families`)."""
    process: ProcessName = "ddpm"
    """How noise entered in the model's training: which samplers and recipes fit."""
    description: str = ""
    licence: str = "unknown"
    source: str = ""
    """Where the weights come from."""
    created_at: int = 0
    """When the card was made, in Unix seconds."""
    image_size: Annotated[int, Field(ge=1, le=8192)]
    """Pixels of an image's side; images are square."""
    num_classes: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Rows of the label table without the null row; 0 where there is none."""
    num_parameters: int = 0
    """Numbers in the weights. Left out: as many as the safetensors beside the card hold."""
    feature_extractor: str
    """Id of the feature extractor that judges this model's images."""
    annotators: dict[str, str] = {}
    """Condition -> id of the network that draws it by default; of a Stable Diffusion."""
    digest: Annotated[str, Field(max_length=64)]
    """sha256 over the model's files (name and content, sorted): identifies the weights."""
    defaults: Defaults = Defaults()
    unet: dict[str, Any] = {}
    """What a ControlNet must have in common with a Stable Diffusion's UNet."""
    anatomy: dict[str, Any] = {}
    """What memory depends on: the denoiser's shape, and under `autoencoder` that one's. Empty in cards of 0.3.0."""
    figures: dict[str, Any] = {}
    """What was measured of the model itself: its FID on its own source, the autoencoder's floor."""


class FeatureExtractorCard(CardPart):
    """`card.json` of a feature extractor's folder."""

    role: ClassVar[Role] = "extractor"
    schema_version: Literal[1] = 1
    kind: str = "tiny"
    """Which network: `tiny`, `inception` or `dinov2`."""
    id: str = ""
    """Folder name and public id."""
    description: str = ""
    licence: str = "unknown"
    source: str = ""
    """Where the weights come from."""
    created_at: int = 0
    """When the card was made, in Unix seconds."""
    num_parameters: int = 0
    digest: str = ""
    """sha256 of the weights' file."""
    comparable: bool = False
    """Whether distances over the extractor's features may be set beside published ones."""
    resizing: InceptionResizing = "clean-fid"
    """Whose way of bringing images to Inception's 299 pixels is followed."""


class CompanionCard(CardPart):
    """`card.json` of a ControlNet's, an annotator's or a CLIP model's folder."""

    role: ClassVar[Role] = "companion"
    schema_version: Literal[1] = 1
    kind: CompanionKind
    id: str
    """Folder name and public id."""
    description: str = ""
    licence: str = "unknown"
    source: str = ""
    """Where the weights come from."""
    created_at: int = 0
    """When the card was made, in Unix seconds."""
    num_parameters: int = 0
    digest: str
    """sha256 over the files, as of a base model."""
    conditions: tuple[str, ...] = ()
    """What an annotator draws; what a ControlNet follows, where that is known."""
    anatomy: dict[str, Any] = {}
    """What a ControlNet must have in common with a UNet (`difftune_core.config.controlnet_fit`)."""


def role_of(card: object) -> Role | None:
    """Return which card this is: an instance, or the JSON object of one; None for what is neither."""
    if not isinstance(card, Mapping):
        return getattr(card, "role", None)
    if "family" in card:
        return "base_model"
    return "companion" if card.get("kind") in get_args(CompanionKind) else "extractor"


Card = Annotated[
    Annotated[BaseModelCard, Tag("base_model")]
    | Annotated[CompanionCard, Tag("companion")]
    | Annotated[FeatureExtractorCard, Tag("extractor")],
    Discriminator(role_of),
]
CardT = TypeVar("CardT", BaseModelCard, CompanionCard, FeatureExtractorCard)
_LONGEST_HEADER = 100_000_000  # bytes, as safetensors itself allows
_ANY: TypeAdapter[Card] = TypeAdapter(Card)


def read_card(folder: Path) -> BaseModelCard:
    """The card in a base model's folder, whose name is the model's id: a copied folder is a model of its own.

    Raises:
        OSError: there is no `card.json`, or it cannot be read.
        pydantic.ValidationError: it is not a base model's card.
    """
    return read_card_of(BaseModelCard, folder)


def read_card_of(kind: type[CardT], folder: Path) -> CardT:
    """The card in the folder of a model of a role; raises as `read_card`."""
    card = kind.model_validate_json((folder / CARD_FILE).read_bytes())
    changed: dict[str, Any] = {} if card.id == folder.name else {"id": folder.name}
    if not card.num_parameters:
        changed["num_parameters"] = _count_parameters(folder)
    return card.model_copy(update=changed) if changed else card


def _count_parameters(folder: Path) -> int:
    """Return how many numbers the folder's safetensors hold, by their headers; other files count for nothing."""
    found = 0
    for path in folder.glob("*.safetensors"):
        with suppress(OSError, ValueError, KeyError, AttributeError), path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length <= _LONGEST_HEADER:
                tensors = json.loads(file.read(length))
                found += sum(math.prod(one["shape"]) for name, one in tensors.items() if name != "__metadata__")
    return found


def read_any_card(folder: Path) -> Card:
    """The card in the folder of a model of any role; raises as `read_card`."""
    return _ANY.validate_json((folder / CARD_FILE).read_bytes())


def read_extractor_card(folder: Path) -> FeatureExtractorCard:
    """The card in `folder`; where there is none, that of a tiny network.

    Raises:
        pydantic.ValidationError: it is not a feature extractor's card.
    """
    path = folder / CARD_FILE
    card = FeatureExtractorCard.model_validate_json(path.read_bytes() if path.is_file() else b"{}")
    return card if card.id else card.model_copy(update={"id": folder.name})


def list_cards(roots: list[Path], role: Role = "base_model") -> dict[str, Path]:
    """Id -> folder of the models of that role over all `roots`; the first root that has an id wins.

    A card that is no JSON, of which nobody can tell what it was, counts as a base model's: it is missed as one.
    """
    found: dict[str, Path] = {}
    for folder, content in _contents(roots):
        if (role_of(content) or "base_model") == role:
            found.setdefault(folder.name, folder)
    return found


def readable_cards(kind: type[CardT], roots: list[Path]) -> dict[str, tuple[CardT, Path]]:
    """Card and folder of the models of a role by id, sorted; one that cannot be read is left out."""
    found: dict[str, tuple[CardT, Path]] = {}
    for model_id, folder in sorted(list_cards(roots, kind.role).items()):
        with suppress(ValidationError, OSError):
            found[model_id] = read_card_of(kind, folder), folder
    return found


def find_card(model_id: str, roots: list[Path]) -> BaseModelCard:
    """The card of the base model of that id.

    Raises:
        TaskError: `model_not_found`.
    """
    folder = list_cards(roots).get(model_id)
    if folder is None:
        raise TaskError("model_not_found", f"there is no base model {model_id!r}", "model")
    return read_card(folder)


def _contents(roots: list[Path]) -> Iterator[tuple[Path, object]]:
    """Folder and JSON of each card, None where it is none; one that cannot be read must not hide the others."""
    for root in roots:
        for path in sorted(root.glob(f"[!.]*/{CARD_FILE}")) if root.is_dir() else []:  # a dot: not whole yet
            try:
                yield path.parent, json.loads(path.read_bytes())
            except OSError:  # removed at this moment, or no file that we may read
                continue
            except (ValueError, RecursionError):
                yield path.parent, None
