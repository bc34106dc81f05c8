"""Base models on disk: a folder with a card, a DiT and an autoencoder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from difftune_core.adapters.select import adapt
from difftune_core.config.adapter import Adapter
from difftune_core.config.card import BaseModelCard, list_cards, read_card
from difftune_core.diffusion.process import Process, make_process
from difftune_core.diffusion.schedule import NoiseSchedule, linear_betas
from difftune_core.files import folder_digest
from difftune_core.hooks import TaskError
from difftune_core.models.autoencoder import Autoencoder
from difftune_core.models.dit import DiT, DiTConfig, position_embedding
from difftune_core.runtime.foreign import reading

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
_NUM_TIMESTEPS = 1000
_ADAPTER = "adapter"
_LATER_FIELDS = ("process", "prediction", "sigma_data")  # written only where not the default: older files have none
_ADAPTERS: TypeAdapter[Adapter] = TypeAdapter(Adapter)
_CONFIGS = TypeAdapter(DiTConfig)


@dataclass(frozen=True)
class BaseModel:
    """A base model's folder: `card.json`, `dit/`, `vae/`; what differs for Stable Diffusion is in its subclass."""

    folder: Path
    card: BaseModelCard

    def dit_config(self) -> DiTConfig:
        """The published anatomy."""
        return read_dit_config(self.folder / "dit")

    def load_dit(self, device: torch.device | str = "cpu") -> DiT:
        """The pre-trained denoiser in float32.

        Raises:
            TaskError: `model_mismatch`, it is no DiT; `adapter_not_mergeable` where it is a tuned model with an adapter
                inside; else as `load_dit`.
        """
        if self.card.family != "dit":
            raise TaskError("model_mismatch", f"{self.card.id!r} is no DiT", "model")
        adapter = _fields(self.folder / "dit").get(_ADAPTER)
        if adapter is not None:
            kind = adapter.get("type") if isinstance(adapter, dict) else adapter
            message = f"{self.card.id!r} has {kind} inside, which cannot be merged: only a plain DiT can be tuned"
            raise TaskError("adapter_not_mergeable", message, "model")
        return load_dit(self.folder / "dit", self.dit_config(), device)

    def load_autoencoder(self, device: torch.device | str = "cpu") -> Autoencoder:
        """The frozen autoencoder."""
        return Autoencoder(self.folder / "vae", device)

    def anatomy(self) -> dict[str, Any]:
        """What the card repeats of the files.

        Raises:
            TaskError: `unreadable_weights` or `model_mismatch`, naming the file.
        """
        config = self.dit_config()
        size = config.input_size * self.pixels_per_latent()
        return {"process": config.process, "num_classes": config.num_classes, "image_size": size}

    def pixels_per_latent(self) -> int:
        """Of its autoencoder.

        Raises:
            TaskError: `unreadable_weights`.
        """
        with reading(f"vae/{CONFIG}", "vae", "unreadable_weights"):
            return pixels_per_latent(_fields(self.folder / "vae")["block_out_channels"])

    def autoencoder_digest(self) -> str:
        """Identifies the autoencoder's weights and config: part of the key of latent caches."""
        return folder_digest(self.folder / "vae")

    def process(self) -> Process:
        """How noise enters, as in its training."""
        return make_process(self.dit_config())

    def schedule(self) -> NoiseSchedule:
        """The noise schedule that it was trained with."""
        return NoiseSchedule(linear_betas(_NUM_TIMESTEPS))


def find_base_model(model_id: str, roots: list[Path]) -> BaseModel:
    """The base model of that id.

    Raises:
        TaskError: `model_not_found`, or `model_mismatch` where the files do not fit the card's digest.
    """
    folder = list_cards(roots).get(model_id)
    if folder is None:
        raise TaskError("model_not_found", f"there is no base model {model_id!r}", "model")
    card = read_card(folder)
    model = BaseModel(folder, card) if card.family == "dit" else _stable_diffusion(folder, card)
    if model.card.digest != folder_digest(folder):
        raise TaskError("model_mismatch", f"the files of {model_id!r} do not fit the digest in its card", "model")
    for name, made in model.anatomy().items():
        if (said := getattr(card, name)) != made:
            raise TaskError(
                "model_mismatch", f"the card of {model_id!r} says {name} {said!r}, its files {made!r}", "model"
            )
    return model


def _stable_diffusion(folder: Path, card: BaseModelCard) -> BaseModel:
    from difftune_core.models.stable_diffusion import StableDiffusion

    return StableDiffusion(folder, card)


def load_dit(folder: Path, config: DiTConfig, device: torch.device | str = "cpu") -> DiT:
    """A DiT from `model.safetensors`, names and shapes checked, as float32.

    Where `config.json` beside it names an adapter (one that cannot be merged), the model comes with it.

    Raises:
        TaskError: `model_mismatch` with the missing, unexpected or misshapen names; `not_finite` for NaN or infinity;
            `unreadable_weights` for a file that is no whole safetensors file.
    """
    with torch.device("meta"):
        model = DiT(config)
    adapter = _fields(folder).get(_ADAPTER) if (folder / CONFIG).is_file() else None
    if adapter is not None:
        adapt(model, _ADAPTERS.validate_python(adapter))
    try:
        state = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise TaskError("unreadable_weights", f"{folder.name}/{WEIGHTS}: {error}", WEIGHTS) from None
    if "pos_embed" not in state:  # fixed by the anatomy, so files may leave it out
        state["pos_embed"] = position_embedding(config.hidden_size, config.input_size // config.patch_size)
    check_state(state, model)
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)
    model.pos_embed.requires_grad_(False)  # noqa: FBT003  # the argument has no name in the library
    return model.to(device)


def check_state(state: dict[str, torch.Tensor], model: torch.nn.Module) -> None:
    """Refuse weights that do not fit `model` exactly, or are not finite."""
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    missing, extra = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    shaped = sorted(k for k in wanted.keys() & state.keys() if wanted[k] != state[k].shape)
    if missing or extra or shaped:
        raise TaskError("model_mismatch", f"weights: missing {missing}, unexpected {extra}, other shape {shaped}")
    broken = sorted(name for name, tensor in state.items() if not tensor.isfinite().all())
    if broken:
        raise TaskError("not_finite", f"weights hold NaN or infinity: {broken}", broken[0])


def write_dit_config(folder: Path, config: DiTConfig, adapter: Adapter | None = None) -> None:
    """`config.json` beside the weights; with the adapter where the weights are not those of a plain DiT."""
    default = DiTConfig()
    unsaid = {name for name in _LATER_FIELDS if getattr(config, name) == getattr(default, name)}
    fields = {name: value for name, value in asdict(config).items() if name not in unsaid}
    fields |= {_ADAPTER: adapter.model_dump()} if adapter is not None else {}
    (folder / CONFIG).write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")


def read_dit_config(folder: Path) -> DiTConfig:
    """The anatomy in `config.json`.

    Raises:
        TaskError: `unreadable_weights` for what is no JSON object, `model_mismatch` naming the field at fault.
    """
    fields = {name: value for name, value in _fields(folder).items() if name != _ADAPTER}
    unknown = sorted(fields.keys() - {field.name for field in dataclass_fields(DiTConfig)})
    if unknown:
        raise TaskError("model_mismatch", f"{CONFIG} has fields that this version does not know: {unknown}", unknown[0])
    try:
        config = _CONFIGS.validate_json(json.dumps(fields), strict=True)  # from Python it would want the class itself
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        raise TaskError("model_mismatch", f"{CONFIG}, {field}: {first['msg']}", field) from None
    if config.num_heads < 1 or config.hidden_size % config.num_heads:
        message = f"{CONFIG}: a width of {config.hidden_size} is not divided by {config.num_heads} heads"
        raise TaskError("model_mismatch", message, "num_heads")
    return config


def pixels_per_latent(block_out_channels: Sequence[int]) -> int:
    """Of a side; each of an autoencoder's blocks but the last halves it."""
    return int(2 ** (len(block_out_channels) - 1))


def _fields(folder: Path) -> dict[str, Any]:
    try:
        fields = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError) as error:
        raise TaskError("unreadable_weights", f"{folder.name}/{CONFIG}: {error}", CONFIG) from None
    if not isinstance(fields, dict):
        raise TaskError("unreadable_weights", f"{folder.name}/{CONFIG} is no JSON object", CONFIG)
    return fields
