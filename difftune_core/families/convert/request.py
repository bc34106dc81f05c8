"""What an operator asks of `python -m difftune_core import`. Pydantic only."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from difftune_core.config.card import InceptionResizing
from difftune_core.config.model_ids import ModelId
from difftune_core.config.sampling import Prediction, ProcessName
from difftune_core.hooks import TaskError

Count = Annotated[int, Field(ge=1, le=65_536)]


class ImportRequest(BaseModel):
    """A model to bring in; field names are the command's options."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    source: Annotated[str, Field(min_length=1)]
    """An original `.pt`, a `.safetensors`, a diffusers or transformers folder, or `org/name@<40 hex digits>`."""
    id: ModelId
    """Public id: the name of the model's folder."""
    models: Path
    """Folder of base models."""
    kind: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")] = "dit"
    """A base model (`dit`, `stable-diffusion`), a `controlnet` to go on from, an `annotator` that draws control images,
    a `clip` model that scores captions, or a feature extractor: `inception` of FID, or `dinov2`; or what a family from
    elsewhere brings in."""
    resizing: InceptionResizing = "clean-fid"
    """Whose way of bringing an Inception's images to 299 pixels is followed."""
    vae: str | None = None
    """Folder or hub id of the AutoencoderKL; left out, the pipeline's own."""
    licence: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    """Licence of the weights; may be left out for DiT-XL/2, whose published weights' licence is then stated."""
    description: Annotated[str, Field(max_length=2000)] | None = None
    """Shown to users; left out, its anatomy."""
    feature_extractor: ModelId = "inception"
    """Id of the network that judges its images."""
    num_heads: Count | None = None
    """Attention heads of an original `.pt` of no published size."""
    input_size: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Latent height and width of an original `.pt` without `pos_embed`."""
    process: ProcessName | None = None
    """How noise entered in the training of an original `.pt`, which no file says: `flow` reads it as SiT, under DiT's
    names; `edm`, it puts out Karras' F for an input scaled by c_in and ln(sigma) / 4; left out, `ddpm`."""
    prediction: Prediction | None = None
    """What an original `.pt` of the process `ddpm` puts out: `v`, `x0`, or left out the noise (`epsilon`)."""
    sigma_data: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Standard deviation of the latents that a model of the process `edm` was trained with; left out, 0.5."""
    num_classes: Count | None = None
    """Classes of a diffusers folder whose label table was padded to 1001 rows."""
    timestep_frequencies: Literal["original", "diffusers"] | None = None
    """The timestep frequencies of a diffusers folder: `original` for weights trained with the original code; left out,
    as diffusers computes."""


def refuse_options(request: ImportRequest, *taken: str) -> None:
    """Refuse what was stated and is none of the options that every kind has, or of `taken`.

    Raises:
        TaskError: `invalid_option`, naming it.
    """
    known = {"source", "id", "models", "kind", "licence", "description", *taken}
    given = sorted(request.model_fields_set - known)
    if given:
        raise TaskError("invalid_option", f"a model of kind {request.kind} has no option {given[0]}", given[0])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add an option for each field; `source` is the argument."""
    for name, field in ImportRequest.model_fields.items():
        text = (field.description or "").replace("%", "%%")
        if name == "source":
            parser.add_argument(name, help=text)
        else:
            parser.add_argument(f"--{name.replace('_', '-')}", required=field.is_required(), help=text)


def request_of(args: argparse.Namespace) -> ImportRequest:
    """The request behind a parsed command line.

    Raises:
        pydantic.ValidationError: names the option.
    """
    given = {name: getattr(args, name) for name in ImportRequest.model_fields}
    return ImportRequest.model_validate({name: value for name, value in given.items() if value is not None})
