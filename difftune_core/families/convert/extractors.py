"""Reading the weights of metrics: FID's Inception in the published layouts, DINOv2 as transformers holds it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from difftune_core.evaluate.inception import FEATURES, InceptionV3
from difftune_core.families.convert.pickled import load_weights
from difftune_core.families.convert.weights import State, check_tensors, read_json, read_safetensors, unwrapped
from difftune_core.files import sha256_file
from difftune_core.hooks import TaskError
from difftune_core.networks.state import CONFIG, WEIGHTS, check_state

PUBLISHED_INCEPTION = "6726825d"
"""How the sha256 of the ported weights begins: part of the file's name at pytorch-fid and at torch-fidelity."""
_CLASSIFIER = {"fc.weight": (1008, FEATURES), "fc.bias": (1008,)}
_COUNTERS = ".num_batches_tracked"  # of training, in files that newer versions of torch wrote
_VIT_L_14 = (1024, 24, 16, 14)

Size = Annotated[int, Field(ge=1, le=65_536)]


class Dinov2Anatomy(BaseModel):
    """What of a DINOv2 `config.json` shapes the network; the rest is left out."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    model_type: Literal["dinov2"]
    hidden_size: Size = 768
    num_hidden_layers: Size = 12
    num_attention_heads: Size = 12
    mlp_ratio: Size = 4
    hidden_act: Literal["gelu"] = "gelu"
    layer_norm_eps: float = 1e-6
    image_size: Size = 224
    patch_size: Literal[14, 16] = 14
    num_channels: Literal[3] = 3
    qkv_bias: bool = True
    use_swiglu_ffn: bool = False
    use_mask_token: bool = True


class ReadExtractor(NamedTuple):
    """A feature extractor in the names that it is kept under."""

    state: State
    description: str
    comparable: bool
    anatomy: Dinov2Anatomy | None = None
    notes: tuple[str, ...] = ()
    """What the operator should know of how the model was read."""


def read_inception(path: Path) -> ReadExtractor:
    """FID's Inception from a `.pth` or safetensors file of pytorch-fid's or torch-fidelity's layout, which are alike.

    The classifier is checked and left out. Only the published file is called comparable.

    Raises:
        TaskError: `unsafe_weights`, `unreadable_weights`, `not_finite`, or `model_mismatch` with the names at fault.
    """
    if path.is_dir():
        raise TaskError("source_not_found", f"{path.name} is a folder; Inception is one file of weights", "source")
    state, notes = load_weights(path)
    state = {name: tensor for name, tensor in state.items() if not name.endswith(_COUNTERS)}
    check_tensors(state)
    for name, shape in _CLASSIFIER.items():
        found = state.pop(name, None)
        if found is not None and tuple(found.shape) != shape:
            message = f"{name} has shape {list(found.shape)}, not {list(shape)}: another Inception than FID's"
            raise TaskError("model_mismatch", message, name)
    net = InceptionV3()
    check_state(state, net)
    published = sha256_file(path).startswith(PUBLISHED_INCEPTION)
    if not published:
        start = (
            f"the sha256 of {path.name} does not begin with {PUBLISHED_INCEPTION}, as that of the published file does"
        )
        notes = (*notes, f"{start}: distances over it are not called comparable with published ones")
    ordered = {name: state[name].float().contiguous() for name in net.state_dict()}
    return ReadExtractor(ordered, "Inception-v3 of FID, 2048 features", published, notes=notes)


def read_dinov2(folder: Path) -> ReadExtractor:
    """A transformers folder of a `Dinov2Model`: `config.json` and `model.safetensors`, nothing else is opened.

    ViT-L/14 is called comparable, for published FD-DINOv2 is over it. Names are checked where it is loaded.

    Raises:
        TaskError: `unreadable_weights`, `not_finite`, or `model_mismatch` naming the field.
    """
    if not folder.is_dir():
        raise TaskError(
            "source_not_found", f"{folder.name} is no folder; DINOv2 is config.json and {WEIGHTS}", "source"
        )
    try:
        anatomy = Dinov2Anatomy.model_validate(read_json(folder / CONFIG))
    except ValidationError as error:
        first = error.errors()[0]
        field = "/".join(map(str, first["loc"]))
        raise TaskError("model_mismatch", f"{CONFIG}: {field}: {first['msg']}", field) from None
    state = unwrapped(read_safetensors(folder / WEIGHTS))
    check_tensors(state)
    shape = (anatomy.hidden_size, anatomy.num_hidden_layers, anatomy.num_attention_heads, anatomy.patch_size)
    name = "ViT-L/14" if shape == _VIT_L_14 else f"width {shape[0]}, depth {shape[1]}, patches of {shape[3]}"
    notes = () if shape == _VIT_L_14 else ("published FD-DINOv2 is over ViT-L/14: distances are not called comparable",)
    return ReadExtractor(state, f"DINOv2, {name}, {shape[0]} features", shape == _VIT_L_14, anatomy, notes)
