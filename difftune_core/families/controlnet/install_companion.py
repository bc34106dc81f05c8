"""Bring in what stands beside a base model: a ControlNet, a network that draws control images, a CLIP model."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from difftune_core.config.card import CARD_FILE, CompanionCard
from difftune_core.config.controlnet_fit import anatomy_of
from difftune_core.families.controlnet.convert.companions import (
    Companion,
    check_annotator,
    check_clip,
    read_annotator,
    read_clip,
    read_controlnet,
)
from difftune_core.families.controlnet.trial import try_controlnet
from difftune_core.families.convert.request import ImportRequest, refuse_options
from difftune_core.families.convert.weights import DIFFUSERS_WEIGHTS
from difftune_core.families.install_parts import incoming, origin, stated_licence, write_part
from difftune_core.files import folder_aside, folder_digest
from difftune_core.hooks import Hooks, OutcomeEvent, PhaseEvent
from difftune_core.networks.state import WEIGHTS
from difftune_core.runtime.foreign import copy_config

_READERS: dict[str, Callable[[Path], Companion]] = {
    "controlnet": read_controlnet,
    "annotator": read_annotator,
    "clip": read_clip,
}
_TRIALS: dict[str, Callable[[Path, Companion], None]] = {
    "controlnet": lambda folder, _: try_controlnet(folder),
    "annotator": check_annotator,
    "clip": check_clip,
}
"""Each is run once, from the folder that jobs will read."""


def install_companion(request: ImportRequest, hooks: Hooks) -> OutcomeEvent:
    """Write `<models>/<id>/`: a folder that diffusers or transformers opens, and a card; as a whole or not at all.

    Raises:
        TaskError: `model_exists`, `invalid_option`, `licence_missing`, or why the files were refused.
    """
    refuse_options(request)
    with incoming(request, hooks) as (source, _):
        licence = stated_licence(request)
        read = _READERS[request.kind](source)
        hooks.emit(PhaseEvent(phase="exporting"))
        with folder_aside(request.models / request.id) as folder:
            write_part(folder, read.config, read.state, DIFFUSERS_WEIGHTS if request.kind == "controlnet" else WEIGHTS)
            for path in read.files:
                copy_config(path, folder)
            _TRIALS[request.kind](folder, read)
            library = "diffusers" if request.kind == "controlnet" else "transformers"
            card = _card(request, read, folder, licence, origin(request.source, source, library))
            (folder / CARD_FILE).write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return OutcomeEvent(code="succeeded", message=f"{card.id}: {card.description}; licence: {card.licence}")


def _card(request: ImportRequest, read: Companion, folder: Path, licence: str, source: str) -> CompanionCard:
    return CompanionCard.model_validate(
        {
            "kind": request.kind,
            "id": request.id,
            "description": request.description or _described(request, read),
            "licence": licence,
            "source": source,
            "created_at": int(time.time()),
            "num_parameters": sum(tensor.numel() for tensor in read.state.values()),
            "digest": folder_digest(folder),
            "conditions": read.conditions,
            "anatomy": anatomy_of(read.config) if request.kind == "controlnet" else {},
        }
    )


def _described(request: ImportRequest, read: Companion) -> str:
    conditions = " and ".join(read.conditions)
    if request.kind == "annotator":
        return f"{read.config['architectures'][0]}, draws {conditions}"
    if request.kind == "clip":
        vision = read.config.get("vision_config") or {}
        return f"CLIP, images of {vision.get('image_size', 224)} pixels in patches of {vision.get('patch_size', 32)}"
    anatomy = anatomy_of(read.config)
    follows = f", follows {conditions}" if conditions else ""
    return f"ControlNet for text states of width {anatomy['cross_attention_dim']}{follows}"
