"""Bring a Stable Diffusion in: a diffusers folder, checked part by part and put under its id with a card."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from difftune_core.config.card import CARD_FILE, BaseModelCard, Defaults
from difftune_core.config.controlnet_fit import anatomy_of
from difftune_core.families.controlnet.anatomy import unet_anatomy
from difftune_core.families.controlnet.base_model import StableDiffusion
from difftune_core.families.controlnet.convert.stable_diffusion import (
    SCHEDULER,
    StableDiffusionParts,
    read_stable_diffusion,
)
from difftune_core.families.controlnet.trial import try_stable_diffusion
from difftune_core.families.convert.request import ImportRequest, refuse_options
from difftune_core.families.convert.weights import State
from difftune_core.families.install_parts import (
    autoencoder_anatomy,
    incoming,
    origin,
    stated_licence,
    vae_folder,
    write_part,
    write_vae,
)
from difftune_core.files import folder_aside, folder_digest
from difftune_core.hooks import Hooks, LogEvent, OutcomeEvent, PhaseEvent
from difftune_core.networks.state import WEIGHTS
from difftune_core.runtime.foreign import copy_config

DEFAULTS = Defaults(
    training={
        "max_steps": 15_000,
        "batch_size": 4,
        "learning_rate": 1e-5,
        "ema_decay": 0.0,
        "checkpoint_every_steps": 1000,
    },
    retention_set={"num_images": 5000, "num_inference_steps": 50, "guidance_scale": 7.5},
    evaluation={"num_images": 5000, "num_inference_steps": 50, "guidance_scale": 7.5, "every_steps": 100},
    control={"default_prompt": "a high-quality, detailed, and professional image"},
)
"""Steps and batch size are those of the paper's ControlNets (its section 4.2), the prompt is its for ADE20k; all else
is our own choice."""
_NAMES = {768: "Stable Diffusion, layout of version 1", 1024: "Stable Diffusion, layout of version 2"}


def install_stable_diffusion(request: ImportRequest, hooks: Hooks) -> OutcomeEvent:
    """Write `<models>/<id>/`, a folder that `StableDiffusionPipeline` opens, as a whole or not at all.

    Raises:
        TaskError: `model_exists`, `invalid_option`, `licence_missing`, or why the files were refused.
    """
    refuse_options(request, "vae", "feature_extractor")
    with incoming(request, hooks) as (source, scratch):
        licence = stated_licence(request)
        parts = read_stable_diffusion(source, vae_folder(source, request, scratch / "vae"))
        hooks.emit(PhaseEvent(phase="exporting"))
        with folder_aside(request.models / request.id) as folder:
            _write(folder, parts)
            card = _card(request, parts, licence, origin(request.source, source))
            card = card.model_copy(update={"digest": folder_digest(folder)})
            try_stable_diffusion(StableDiffusion(folder, card))
            (folder / CARD_FILE).write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")
    if (source / "safety_checker").is_dir():
        hooks.emit(LogEvent(message="the folder's safety_checker is not taken along"))
    return OutcomeEvent(code="succeeded", message=f"{card.id}: {card.description}; licence: {card.licence}")


def _write(folder: Path, parts: StableDiffusionParts) -> None:
    write_part(folder / "unet", *parts.unet)
    write_part(folder / "text_encoder", *parts.text_encoder, weights=WEIGHTS)
    write_vae(folder, parts.vae)
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / SCHEDULER).write_text(json.dumps(parts.scheduler, indent=2) + "\n", encoding="utf-8")
    (folder / "tokenizer").mkdir()
    for path in parts.tokenizer:
        copy_config(path, folder / "tokenizer")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "scheduler": ["diffusers", parts.scheduler["_class_name"]],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "safety_checker": [None, None],
        "requires_safety_checker": False,
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _card(request: ImportRequest, parts: StableDiffusionParts, licence: str, source: str) -> BaseModelCard:
    return BaseModelCard(
        id=request.id,
        family="stable-diffusion",
        description=request.description or _described(parts),
        licence=licence,
        source=source,
        created_at=int(time.time()),
        image_size=parts.image_size,
        num_parameters=sum(tensor.numel() for tensor in parts.unet[1].values()),
        feature_extractor=request.feature_extractor,
        digest="",
        defaults=DEFAULTS,
        unet=anatomy_of(parts.unet[0]),
        anatomy=stable_diffusion_anatomy(parts.unet[0], parts.text_encoder, autoencoder_anatomy(parts.vae)),
    )


def stable_diffusion_anatomy(
    unet: dict[str, Any], text: tuple[dict[str, Any], State], autoencoder: dict[str, Any]
) -> dict[str, Any]:
    """Say what memory depends on: shapes of the autoencoder, of the text encoder, and of a UNet of known parts."""
    config, state = text
    encoder = {
        "hidden_size": config.get("hidden_size", 512),
        "tokens": config.get("max_position_embeddings", 77),
        "num_parameters": sum(tensor.numel() for tensor in state.values()),
    }
    stated = unet_anatomy(unet)
    return {"autoencoder": autoencoder, "text_encoder": encoder} | ({} if stated is None else {"unet": stated})


def _described(parts: StableDiffusionParts) -> str:
    unet: dict[str, Any] = anatomy_of(parts.unet[0])
    size, width = parts.image_size, unet["cross_attention_dim"]
    name = _NAMES.get(width, "Stable Diffusion")
    return f"{name}, {size} x {size} pixels, text states of width {width}, {parts.prediction}"
