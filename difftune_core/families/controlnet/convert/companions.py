"""Reading what stands beside a base model: ControlNets, networks that draw control images, CLIP models that judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from difftune_core.config.conditions import all_conditions, drawn_by_networks
from difftune_core.data.conditions.networks import PALETTE_FILE
from difftune_core.families.controlnet.convert.controlnet_single import read_single_file, to_original
from difftune_core.families.controlnet.convert.stable_diffusion import tokenizer_files
from difftune_core.families.convert.weights import (
    State,
    check_tensors,
    read_component,
    read_json,
    read_safetensors,
    unwrapped,
)
from difftune_core.hooks import TaskError
from difftune_core.networks.state import CONFIG, WEIGHTS
from difftune_core.runtime.foreign import PREPROCESSOR, check_sizes, check_volume, kept, reading

_OURS = "difftune.json"  # beside the weights in an export of ours


class Companion(NamedTuple):
    """A model beside a base model: what is written into its folder."""

    config: dict[str, Any]
    state: State
    conditions: tuple[str, ...]
    files: tuple[Path, ...] = ()
    """Further files."""


def read_controlnet(source: Path) -> Companion:
    """A ControlNet of Stable Diffusion from a diffusers folder or a single `.safetensors`.

    Raises:
        TaskError: `unsafe_weights`, `unreadable_weights`, `not_finite`, or `model_mismatch` naming field or weights.
    """
    config, state = read_component(source) if source.is_dir() else read_single_file(source)
    if config.get("_class_name", "ControlNetModel") != "ControlNetModel":
        message = f"{CONFIG}, _class_name: {config['_class_name']!r}, not 'ControlNetModel'"
        raise TaskError("model_mismatch", message, "_class_name")
    with reading("ControlNet config", CONFIG):
        to_original(state, config)  # the anatomy of Stable Diffusion, and every weight of it
    for name, wanted in (("conditioning_channels", 3), ("controlnet_conditioning_channel_order", "rgb")):
        if config.get(name, wanted) != wanted:
            raise TaskError("model_mismatch", f"ControlNet config, {name}: {config[name]}, not {wanted}", name)
    told = read_json(source / _OURS) if (source / _OURS).is_file() else {}
    condition = told.get("condition")
    ours = {"_class_name": "ControlNetModel", **kept(config)}
    return Companion(ours, state, (condition,) if condition in all_conditions() else ())


def read_annotator(folder: Path) -> Companion:
    """A transformers folder of a depth estimator or a semantic segmentation; names are checked where it is loaded.

    Raises:
        TaskError: `component_missing`, `unsafe_weights`, `unreadable_weights`, `not_finite`, `model_mismatch`.
    """
    config = _config_of_whole(folder, "annotator")
    stated = config.get("architectures")
    named = [str(name) for name in stated] if isinstance(stated, list) else []
    conditions = next(
        (drawn for end, drawn in drawn_by_networks().items() if any(name.endswith(end) for name in named)), None
    )
    if conditions is None:
        message = f"{CONFIG}, architectures: {stated!r}: neither a depth estimator nor a semantic segmentation"
        raise TaskError("model_mismatch", message, "architectures")
    if config.get("use_pretrained_backbone"):
        message = f"{CONFIG}, use_pretrained_backbone: a part of its weights would be downloaded by whoever opens it"
        raise TaskError("unsafe_weights", message, "use_pretrained_backbone")
    state = _floating(folder)
    has_palette = "segmentation" in conditions and (folder / PALETTE_FILE).is_file()
    further = [folder / PREPROCESSOR, *([folder / PALETTE_FILE] if has_palette else [])]
    return Companion(kept(config), state, conditions, tuple(further))


def check_annotator(folder: Path, read: Companion) -> None:
    """Load the network in `folder` as jobs do, and draw; weights that are missing there would be random ones.

    Raises:
        TaskError: `model_mismatch` with the missing or misshapen names.
    """
    import numpy as np
    import transformers

    from difftune_core.data.conditions import annotator

    family: Any = getattr(transformers, f"AutoModel{_task(read.conditions)}")
    plain: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    with reading(f"the annotator's {CONFIG}", CONFIG):
        with torch.device("meta"):
            empty = family.from_config(transformers.AutoConfig.from_pretrained(folder, **plain))
        check_volume(empty, read.state, CONFIG)
        asked = {"use_safetensors": True, "output_loading_info": True, "ignore_mismatched_sizes": True}
        _, told = family.from_pretrained(folder, **plain, **asked)
    wrong = sorted([*told["missing_keys"], *(str(name) for name in told.get("mismatched_keys") or ())])
    if wrong:
        raise TaskError("model_mismatch", f"weights of the annotator: missing or of another shape {wrong}", WEIGHTS)
    for condition in read.conditions:
        draw = annotator(condition, folder)
        with reading(f"the annotator's {PREPROCESSOR} or {CONFIG}", PREPROCESSOR):
            draw(np.zeros((64, 64, 3), np.uint8))


def read_clip(folder: Path) -> Companion:
    """A transformers folder of a `CLIPModel` with its tokenizer; names are checked where it is loaded.

    Raises:
        TaskError: `component_missing`, `unsafe_weights`, `unreadable_weights`, `not_finite`, `model_mismatch`.
    """
    config = _config_of_whole(folder, "CLIP model")
    if config.get("model_type") != "clip":
        message = f"{CONFIG}, model_type: {config.get('model_type')!r}, not 'clip'"
        raise TaskError("model_mismatch", message, "model_type")
    from transformers import CLIPConfig, CLIPModel

    read = _floating(folder)  # older versions kept a buffer of positions
    state = {name: tensor for name, tensor in read.items() if not name.endswith(".position_ids")}
    with reading(f"the CLIP model's {CONFIG}", CONFIG):
        with torch.device("meta"):
            empty: Any = CLIPModel(CLIPConfig.from_dict(config))
        check_volume(empty, state, CONFIG)
        text = empty.config.text_config
    files = tokenizer_files(folder, text.vocab_size, text.max_position_embeddings)
    return Companion(kept(config), state, (), (folder / PREPROCESSOR, *files))


def check_clip(folder: Path, _: Companion) -> None:
    """Load the model in `folder` as jobs do, and score a picture.

    Raises:
        TaskError: `model_mismatch` with what is missing, unexpected or misshapen.
    """
    import numpy as np

    from difftune_core.evaluate.clip_score import ClipScorer

    scorer = ClipScorer(folder)
    with reading(f"the CLIP model's {PREPROCESSOR}", PREPROCESSOR):  # a crop of another size than the network's
        scores = scorer(np.zeros((1, 64, 64, 3), np.uint8), ["a picture"])
    if not np.isfinite(scores).all():
        raise TaskError("model_mismatch", f"CLIP model: its score of a picture is {scores[0]}", PREPROCESSOR)


def _config_of_whole(folder: Path, what: str) -> dict[str, Any]:
    """`config.json` of a transformers folder that has all its parts."""
    missing = [name for name in (CONFIG, PREPROCESSOR, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        pickled = sorted(path.name for path in folder.glob("*.bin"))
        is_pickled = bool(pickled) and WEIGHTS in missing
        code, more = ("unsafe_weights", f", only {pickled}") if is_pickled else ("component_missing", "")
        raise TaskError(code, f"the {what} {folder.name} lacks {', '.join(missing)}{more}", missing[0])
    config = read_json(folder / CONFIG)
    check_sizes(config, CONFIG)
    return config


def _floating(folder: Path) -> State:
    """All weights, those that are no whole numbers checked to be finite."""
    state = unwrapped(read_safetensors(folder / WEIGHTS))
    check_tensors({name: tensor for name, tensor in state.items() if tensor.is_floating_point()})
    return state


def _task(conditions: tuple[str, ...]) -> str:
    return next(end for end, drawn in drawn_by_networks().items() if drawn == conditions)
