"""Reading what stands beside a base model: ControlNets, networks that draw control images, CLIP models that judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from difftune_core.control_config import CONDITIONS
from difftune_core.data.conditions.networks import PALETTE_FILE
from difftune_core.hooks import TaskError
from difftune_core.models.convert.controlnet_single import read_single_file, to_original
from difftune_core.models.convert.stable_diffusion import tokenizer_files
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
    """Further files."""


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
    config = _config_of_whole(folder, "annotator")
    named = [str(name) for name in config.get("architectures") or ()]
    conditions = next((drawn for end, drawn in _TASKS.items() if any(name.endswith(end) for name in named)), None)
    if conditions is None:
        message = f"{CONFIG}, architectures: {named}: neither a depth estimator nor a semantic segmentation"
        raise TaskError("model_mismatch", message, "architectures")
    state = _floating(folder)
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


def read_clip(folder: Path) -> Companion:
    """A transformers folder of a `CLIPModel` with its tokenizer; names are checked where it is loaded.

    Raises:
        TaskError: `component_missing`, `unsafe_weights`, `unreadable_weights`, `not_finite`, `model_mismatch`.
    """
    config = _config_of_whole(folder, "CLIP model")
    if config.get("model_type") != "clip":
        message = f"{CONFIG}, model_type: {config.get('model_type')!r}, not 'clip'"
        raise TaskError("model_mismatch", message, "model_type")
    from transformers import CLIPConfig

    text: Any = CLIPConfig.from_dict(config).text_config
    state = _floating(folder)
    positions = [name for name in state if name.endswith(".position_ids")]  # a buffer that older versions kept
    kept = {name: tensor for name, tensor in state.items() if name not in positions}
    files = tokenizer_files(folder, text.vocab_size, text.max_position_embeddings)
    return Companion(_kept(config), kept, (), (folder / PREPROCESSOR, *files))


def check_clip(folder: Path) -> None:
    """Load the model in `folder` as jobs do, and score a picture.

    Raises:
        TaskError: `model_mismatch` with what is missing, unexpected or misshapen.
    """
    import numpy as np

    from difftune_core.evaluate.clip_score import ClipScorer

    scorer = ClipScorer(folder)
    try:
        scorer(np.zeros((1, 64, 64, 3), np.uint8), ["a picture"])
    except (ValueError, RuntimeError) as error:  # a crop of another size than the network's
        raise TaskError("model_mismatch", f"CLIP model: {str(error).splitlines()[0]}", PREPROCESSOR) from None


def _config_of_whole(folder: Path, what: str) -> dict[str, Any]:
    """`config.json` of a transformers folder that has all its parts."""
    missing = [name for name in (CONFIG, PREPROCESSOR, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        pickled = sorted(path.name for path in folder.glob("*.bin"))
        is_pickled = bool(pickled) and WEIGHTS in missing
        code, more = ("unsafe_weights", f", only {pickled}") if is_pickled else ("component_missing", "")
        raise TaskError(code, f"the {what} {folder.name} lacks {', '.join(missing)}{more}", missing[0])
    return read_json(folder / CONFIG)


def _floating(folder: Path) -> State:
    """All weights, those that are no whole numbers checked to be finite."""
    state = read_safetensors(folder / WEIGHTS)
    check_tensors({name: tensor for name, tensor in state.items() if tensor.is_floating_point()})
    return state


def _task(conditions: tuple[str, ...]) -> str:
    return next(end for end, drawn in _TASKS.items() if drawn == conditions)


def _kept(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in _FOREIGN_FIELDS}
