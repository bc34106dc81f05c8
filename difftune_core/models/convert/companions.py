"""Reading what stands beside a base model: ControlNets, and transformers' networks that draw control images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from difftune_core.control_config import CONDITIONS
from difftune_core.data.conditions.networks import PALETTE_FILE
from difftune_core.hooks import TaskError
from difftune_core.models.convert.controlnet_single import read_single_file, to_original
from difftune_core.models.convert.weights import State, check_tensors, read_component, read_json, read_safetensors
from difftune_core.models.registry import CONFIG, WEIGHTS

PREPROCESSOR = "preprocessor_config.json"
_TASKS = {"ForDepthEstimation": ("depth", "normal"), "ForSemanticSegmentation": ("segmentation",)}
_OURS = "difftune.json"  # beside the weights in an export of ours
_FOREIGN_FIELDS = ("_name_or_path", "auto_map")  # a path of whoever saved it; code of whoever published it


class Companion(NamedTuple):
    """What is written into its folder."""

    config: dict[str, Any]
    state: State
    conditions: tuple[str, ...]
    files: tuple[Path, ...] = ()
    """Further JSON files."""


def read_controlnet(source: Path) -> Companion:
    """A ControlNet of Stable Diffusion from a diffusers folder or a single `.safetensors`.

    Raises:
        TaskError: `unsafe_weights`, `unreadable_weights`, `not_finite`, or `model_mismatch` naming field or weights.
    """
    config, state = read_component(source) if source.is_dir() else read_single_file(source)
    if config.get("_class_name", "ControlNetModel") != "ControlNetModel":
        raise TaskError("model_mismatch", f"{source.name} holds a {config['_class_name']}, no ControlNetModel", CONFIG)
    to_original(state, config)  # the anatomy of Stable Diffusion, and every weight of it
    for name, wanted in (("conditioning_channels", 3), ("controlnet_conditioning_channel_order", "rgb")):
        if config.get(name, wanted) != wanted:
            raise TaskError("model_mismatch", f"ControlNet config, {name}: {config[name]}, not {wanted}", name)
    told = read_json(source / _OURS) if (source / _OURS).is_file() else {}
    condition = told.get("condition")
    kept = {"_class_name": "ControlNetModel", **_kept(config)}
    return Companion(kept, state, (condition,) if condition in CONDITIONS else ())


def read_annotator(folder: Path) -> Companion:
    """A transformers folder of a depth estimator or a semantic segmentation; names are checked where it is loaded.

    Raises:
        TaskError: `component_missing`, `unsafe_weights`, `unreadable_weights`, `not_finite`, `model_mismatch`.
    """
    missing = [name for name in (CONFIG, PREPROCESSOR, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        pickled = sorted(path.name for path in folder.glob("*.bin"))
        is_pickled = bool(pickled) and WEIGHTS in missing
        code, more = ("unsafe_weights", f", only {pickled}") if is_pickled else ("component_missing", "")
        raise TaskError(code, f"the annotator {folder.name} lacks {', '.join(missing)}{more}", missing[0])
    config = read_json(folder / CONFIG)
    named = [str(name) for name in config.get("architectures") or ()]
    conditions = next((drawn for end, drawn in _TASKS.items() if any(name.endswith(end) for name in named)), None)
    if conditions is None:
        message = f"{CONFIG}, architectures: {named}: neither a depth estimator nor a semantic segmentation"
        raise TaskError("model_mismatch", message, "architectures")
    state = read_safetensors(folder / WEIGHTS)
    check_tensors({name: tensor for name, tensor in state.items() if tensor.is_floating_point()})
    further = [folder / PREPROCESSOR, *(path for path in [folder / PALETTE_FILE] if path.is_file())]
    return Companion(_kept(config), state, conditions, tuple(further))


def check_annotator(folder: Path, conditions: tuple[str, ...]) -> None:
    """Load the network in `folder` as jobs do; weights that are missing there would be random ones.

    Raises:
        TaskError: `model_mismatch` with the missing or misshapen names.
    """
    import numpy as np
    import transformers

    from difftune_core.data.conditions import annotator

    family: Any = getattr(transformers, f"AutoModel{_task(conditions)}")
    try:
        _, told = family.from_pretrained(folder, local_files_only=True, use_safetensors=True, output_loading_info=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise TaskError("model_mismatch", f"annotator: {str(error).splitlines()[0]}", CONFIG) from None
    wrong = sorted([*told["missing_keys"], *(str(name) for name in told.get("mismatched_keys") or ())])
    if wrong:
        raise TaskError("model_mismatch", f"weights of the annotator: missing or of another shape {wrong}", WEIGHTS)
    for condition in conditions:
        annotator(condition, folder)(np.zeros((64, 64, 3), np.uint8))


def _task(conditions: tuple[str, ...]) -> str:
    return next(end for end, drawn in _TASKS.items() if drawn == conditions)


def _kept(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in _FOREIGN_FIELDS}
