"""Bring a DiT in: an original checkpoint or a diffusers folder, put under its id with a card."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import difftune_core
from difftune_core.config.card import CARD_FILE, BaseModelCard, Defaults, list_cards
from difftune_core.families.convert.request import ImportRequest
from difftune_core.families.convert.vae import Vae, read_vae
from difftune_core.families.dit.convert.diffusers_dit import read_diffusers
from difftune_core.families.dit.convert.fitted import Converted
from difftune_core.families.dit.convert.original import preset_name, read_original
from difftune_core.families.dit.convert.sit import from_sit
from difftune_core.families.dit.files import write_dit_config
from difftune_core.families.install_parts import autoencoder_anatomy, incoming, origin, vae_folder, write_vae
from difftune_core.files import folder_aside, folder_digest
from difftune_core.hooks import Hooks, LogEvent, OutcomeEvent, PhaseEvent, TaskError
from difftune_core.networks.dit import DiTConfig
from difftune_core.networks.state import WEIGHTS
from difftune_core.runtime.tensors import save_tensors

DIT_XL_LICENCE = (
    "CC-BY-NC-4.0, non-commercial: the licence under which the DiT-XL/2 weights were published, to be checked by the "
    "operator"
)
_BUNDLED = Path(difftune_core.__path__[0]) / "weights"


def install_dit(request: ImportRequest, hooks: Hooks) -> OutcomeEvent:
    """Write `<models>/<id>/` with `card.json`, `dit/` and `vae/`, as a whole or not at all.

    Raises:
        TaskError: `model_exists`, `licence_missing`, or why the files were refused.
    """
    if "resizing" in request.model_fields_set:
        raise TaskError("invalid_option", "a base model has no option resizing", "resizing")
    with incoming(request, hooks) as (source, scratch):
        if (source / "unet").is_dir():
            raise TaskError("invalid_option", f"{source.name} has a unet/: state --kind stable-diffusion", "kind")
        converted = _converted(source, request)
        licence = _licence(request, converted)
        vae = read_vae(vae_folder(source, request, scratch / "vae"), converted.config.in_channels)
        hooks.emit(PhaseEvent(phase="exporting"))
        with folder_aside(request.models / request.id) as folder:
            _write_weights(folder, converted, vae)
            card = _card(request, converted, vae, licence, origin(request.source, source))
            card = card.model_copy(update={"digest": folder_digest(folder)})
            (folder / CARD_FILE).write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")
    for note in [*converted.notes, *_remarks(request, card)]:
        hooks.emit(LogEvent(message=note))
    return OutcomeEvent(code="succeeded", message=f"{card.id}: {card.description}; licence: {card.licence}")


def _converted(source: Path, request: ImportRequest) -> Converted:
    """The DiT, from whichever form; an option that does not belong to that form is refused."""
    folder = source.is_dir()
    of_file = ("num_heads", "input_size", "process", "prediction", "sigma_data")
    foreign = of_file if folder else ("num_classes", "timestep_frequencies")
    for name in foreign:
        if getattr(request, name) is not None:
            form = "a diffusers folder" if folder else "an original checkpoint"
            raise TaskError("invalid_option", f"{form} has no option {name}", name)
    if folder:
        frequencies = request.timestep_frequencies or "diffusers"
        return read_diffusers(source, num_classes=request.num_classes, timestep_frequencies=frequencies)
    read = read_original(source, num_heads=request.num_heads, input_size=request.input_size)
    return _as_trained(read, request)


def _as_trained(read: Converted, request: ImportRequest) -> Converted:
    """Weights with the process and the prediction of their training, which the file does not say."""
    process = request.process or "ddpm"
    for name, of in (("prediction", "ddpm"), ("sigma_data", "edm")):
        if getattr(request, name) is not None and process != of:
            raise TaskError("invalid_option", f"a model of the process {process!r} has no option {name}", name)
    if process == "flow":
        return from_sit(read)
    sigma_data = read.config.sigma_data if request.sigma_data is None else request.sigma_data
    config = replace(read.config, process=process, prediction=request.prediction or "epsilon", sigma_data=sigma_data)
    return Converted(read.state, config, read.notes)


def _licence(request: ImportRequest, converted: Converted) -> str:
    if request.licence is not None:
        return request.licence
    if preset_name(converted.config) == "DiT-XL/2":
        return DIT_XL_LICENCE
    raise TaskError("licence_missing", "state the licence of the weights", "licence")


def _write_weights(folder: Path, converted: Converted, vae: Vae) -> None:
    (folder / "dit").mkdir()
    write_dit_config(folder / "dit", converted.config)
    save_tensors(converted.state, folder / "dit" / WEIGHTS)
    write_vae(folder, vae)


def _card(request: ImportRequest, converted: Converted, vae: Vae, licence: str, origin: str) -> BaseModelCard:
    config = converted.config
    size = config.input_size * vae.factor
    return BaseModelCard(
        id=request.id,
        family="dit",
        description=request.description or f"{_anatomy(config)}, {size} x {size} pixels, {config.num_classes} classes",
        licence=licence,
        source=origin,
        created_at=int(time.time()),
        process=config.process,
        image_size=size,
        num_classes=config.num_classes,
        num_parameters=sum(tensor.numel() for tensor in converted.state.values()),
        feature_extractor=request.feature_extractor,
        digest="",
        defaults=Defaults(evaluation=_evaluation(config)),
        anatomy=asdict(config) | {"autoencoder": autoencoder_anatomy(vae)},
    )


def _anatomy(config: DiTConfig) -> str:
    """The published name or the size, and how it was trained where that is not DiT's way; `SiT` where it is SiT's."""
    published = preset_name(replace(config, process="ddpm", prediction="epsilon", sigma_data=DiTConfig.sigma_data))
    named = published or f"DiT of width {config.hidden_size}, depth {config.depth}"
    if config.process == "flow":
        return named.replace("DiT", "SiT")
    if config.process == "edm":
        return f"{named} (EDM)"
    return named if config.prediction == "epsilon" else f"{named} ({config.prediction} prediction)"


def _evaluation(config: DiTConfig) -> dict[str, Any]:
    """Return what of the paper's protocol is no default of the config: ancestral sampling, the learned variance."""
    return {"sampler": "ddpm"} if config.learn_sigma and config.process == "ddpm" else {}


def _remarks(request: ImportRequest, card: BaseModelCard) -> list[str]:
    roots, wanted = [request.models, _BUNDLED], card.feature_extractor
    if wanted not in list_cards(roots) and any((root / wanted / CARD_FILE).is_file() for root in roots):
        return []
    return [f"the feature extractor {wanted!r} is not installed: nothing can be judged before it is"]
