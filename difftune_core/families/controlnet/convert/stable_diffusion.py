"""A diffusers folder of `StableDiffusionPipeline`, in the layouts of Stable Diffusion 1 and 2, checked part by part."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from difftune_core.families.convert.vae import Vae, read_vae
from difftune_core.families.convert.weights import (
    State,
    check_tensors,
    read_component,
    read_json,
    read_safetensors,
    unwrapped,
)
from difftune_core.hooks import TaskError
from difftune_core.networks.state import CONFIG, WEIGHTS, check_state
from difftune_core.runtime.foreign import TOKENIZER, check_sizes, kept, reading

PARTS = ("unet", "text_encoder", "tokenizer", "scheduler")
SCHEDULER = "scheduler_config.json"
FACTOR = 8
"""Pixels to a latent's side, as ControlNet's embedding of the control expects."""
_VOCABULARIES = (("tokenizer.json",), ("vocab.json", "merges.txt"))
_FURTHER = ("special_tokens_map.json", "added_tokens.json")
_Size = Annotated[int, Field(ge=1, le=65_536)]


class StableDiffusionParts(NamedTuple):
    """What is written into a base model's folder."""

    unet: tuple[dict[str, Any], State]
    vae: Vae
    text_encoder: tuple[dict[str, Any], State]
    tokenizer: tuple[Path, ...]
    """Files of the tokenizer."""
    scheduler: dict[str, Any]
    image_size: int
    """Pixels of an image's side; images are square."""
    prediction: Literal["epsilon", "v_prediction"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


_AnyPart = TypeVar("_AnyPart", bound=_Part)


class _Unet(_Part):
    """What training relies on: latents and text states in, one prediction out, nothing else embedded."""

    class_name: Literal["UNet2DConditionModel"] = Field(alias="_class_name")
    sample_size: Annotated[int, Field(ge=1, le=1024)]
    in_channels: _Size = 4
    out_channels: _Size = 4
    cross_attention_dim: _Size = 1280
    encoder_hid_dim: None = None
    class_embed_type: None = None
    num_class_embeds: None = None
    addition_embed_type: None = None
    mid_block_type: Literal["UNetMidBlock2DCrossAttn"] = "UNetMidBlock2DCrossAttn"


class _Text(_Part):
    model_type: Literal["clip_text_model"]
    hidden_size: _Size = 512
    vocab_size: Annotated[int, Field(ge=1, le=1_000_000)] = 49_408
    max_position_embeddings: _Size = 77


class _Scheduler(_Part):
    """The noise; which solver the folder names does not matter."""

    class_name: Annotated[str, Field(alias="_class_name", pattern=r"^[A-Z][A-Za-z0-9]{1,60}Scheduler$")]
    timestep_spacing: Literal["leading", "trailing", "linspace"] = "leading"
    num_train_timesteps: Literal[1000] = 1000
    beta_schedule: Literal["linear", "scaled_linear"]
    beta_start: Annotated[float, Field(gt=0, lt=1)]
    beta_end: Annotated[float, Field(gt=0, lt=1)]
    trained_betas: None = None
    prediction_type: Literal["epsilon", "v_prediction"] = "epsilon"
    rescale_betas_zero_snr: Literal[False] = False


def read_stable_diffusion(folder: Path, vae_folder: Path) -> StableDiffusionParts:
    """Read all parts; `safety_checker/` and `feature_extractor/` are left where they are.

    Args:
        folder: with `unet/`, `text_encoder/`, `tokenizer/` and `scheduler/`.
        vae_folder: of the autoencoder, or with a `vae/`.

    Raises:
        TaskError: `component_missing`, `unsafe_weights`, `unreadable_weights`, `not_finite`, or `model_mismatch` naming
            the field or the weights at fault.
    """
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        message = f"{folder.name} is no whole Stable Diffusion: it lacks {', '.join(f'{part}/' for part in missing)}"
        raise TaskError("component_missing", message, missing[0])
    scheduler = read_json(folder / "scheduler" / SCHEDULER)
    noise = _parsed(_Scheduler, scheduler, "scheduler")
    unet = read_component(folder / "unet")
    anatomy = _parsed(_Unet, unet[0], "unet")
    if anatomy.in_channels != anatomy.out_channels:
        message = f"unet config, in_channels: {anatomy.in_channels} for {anatomy.out_channels} channels of latents"
        raise TaskError("model_mismatch", f"{message}: further inputs, as of inpainting, are not known", "in_channels")
    check_state(unet[1], _empty_unet(unet[0]))
    text, words = _read_text_encoder(folder / "text_encoder")
    if words.hidden_size != anatomy.cross_attention_dim:
        message = (
            f"unet, cross_attention_dim: {anatomy.cross_attention_dim}; the text encoder gives {words.hidden_size}"
        )
        raise TaskError("model_mismatch", message, "cross_attention_dim")
    tokenizer = tokenizer_files(folder / "tokenizer", words.vocab_size, words.max_position_embeddings)
    vae = read_vae(vae_folder, anatomy.in_channels)
    if vae.factor != FACTOR:
        message = f"autoencoder config, block_out_channels: {vae.factor} pixels to a latent, not {FACTOR}"
        raise TaskError("model_mismatch", message, "block_out_channels")
    size = anatomy.sample_size * FACTOR
    if noise.beta_start > noise.beta_end:
        message = f"scheduler config, beta_start: {noise.beta_start}, more than beta_end, {noise.beta_end}"
        raise TaskError("model_mismatch", message, "beta_start")
    return StableDiffusionParts(unet, vae, text, tokenizer, kept(scheduler), size, noise.prediction_type)


def _read_text_encoder(folder: Path) -> tuple[tuple[dict[str, Any], State], _Text]:
    """CLIP's, under the names that transformers gives its weights today."""
    if not (folder / WEIGHTS).is_file():
        pickled = sorted(path.name for path in folder.glob("*.bin"))
        code, more = ("unsafe_weights", f", only {pickled}") if pickled else ("component_missing", "")
        raise TaskError(code, f"{folder.name}/ has no {WEIGHTS}{more}", "text_encoder")
    config = read_json(folder / CONFIG)
    check_sizes(config, f"text_encoder/{CONFIG}")
    words = _parsed(_Text, config, "text_encoder")
    read = unwrapped(read_safetensors(folder / WEIGHTS))
    state = {n.removeprefix("text_model."): t.contiguous() for n, t in read.items() if not n.endswith(".position_ids")}
    check_tensors(state)
    from transformers import CLIPTextConfig, CLIPTextModel

    with reading(f"text_encoder/{CONFIG}", CONFIG), torch.device("meta"):
        encoder: Any = CLIPTextModel(CLIPTextConfig.from_dict(config))
    check_state(state, encoder)
    return (kept(config), state), words


def tokenizer_files(folder: Path, vocab_size: int, length: int) -> tuple[Path, ...]:
    """The files that decide how prompts are cut, read once to see that they belong to CLIP's text encoder.

    Args:
        folder: that has them.
        vocab_size: tokens that the encoder knows.
        length: tokens of a prompt that it takes.

    Raises:
        TaskError: `component_missing`, `unreadable_weights`, `model_mismatch`.
    """
    whole = next((v for v in _VOCABULARIES if all((folder / name).is_file() for name in v)), None)
    if whole is None or not (folder / TOKENIZER).is_file():
        message = f"{folder.name}/ lacks {TOKENIZER} or a vocabulary (vocab.json and merges.txt, or tokenizer.json)"
        raise TaskError("component_missing", message, "tokenizer")
    from transformers import CLIPTokenizer

    tokenizers: Any = CLIPTokenizer  # untyped in the library
    with reading(f"{folder.name}/, tokenizer", "tokenizer", "unreadable_weights"):
        tokenizer = tokenizers.from_pretrained(folder, local_files_only=True)
    if len(tokenizer) > vocab_size or tokenizer.model_max_length != length:
        found = f"{len(tokenizer)} tokens, at most {tokenizer.model_max_length} a prompt"
        message = f"the tokenizer has {found}; the text encoder takes {vocab_size}, and {length} a prompt"
        raise TaskError("model_mismatch", message, "tokenizer")
    names = {TOKENIZER, *_FURTHER, *(name for vocabulary in _VOCABULARIES for name in vocabulary)}
    return tuple(folder / name for name in sorted(names) if (folder / name).is_file())


def _empty_unet(config: dict[str, Any]) -> torch.nn.Module:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    maker: Any = UNet2DConditionModel
    with reading(f"unet/{CONFIG}", CONFIG), torch.device("meta"):
        made: torch.nn.Module = maker.from_config(config)
    return made


def _parsed(part: type[_AnyPart], raw: dict[str, Any], name: str) -> _AnyPart:
    try:
        return part.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        raise TaskError("model_mismatch", f"{name} config, {field}: {first['msg']}", field) from None
