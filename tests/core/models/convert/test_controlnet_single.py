"""The single file of a ControlNet: the original's names, opened by diffusers, both ways without a byte changed."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file

from difftune_core.families.controlnet.convert import controlnet_single
from difftune_core.families.controlnet.convert.controlnet_single import (
    METADATA,
    PREFIX,
    original_names,
    read_single_file,
    to_diffusers,
    to_original,
    unlike_published,
    write_single_file,
)
from difftune_core.hooks import TaskError
from tests.core.models.convert.published_controlnet import published_shapes

State = dict[str, torch.Tensor]
SD_15 = {"_class_name": "ControlNetModel", "cross_attention_dim": 768, "attention_head_dim": 8}
SD_21 = {**SD_15, "cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True}
SMALL = {
    **SD_15,
    "block_out_channels": [8, 8, 16],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"],
    "layers_per_block": 1,
    "cross_attention_dim": 12,
    "attention_head_dim": 4,
    "norm_num_groups": 4,
    "conditioning_embedding_out_channels": [4, 4, 8, 8],
}
ANATOMIES = {
    "small": SMALL,
    "linear": {**SMALL, "use_linear_projection": True, "attention_head_dim": [2, 2, 4]},
    "two_layers": {**SMALL, "layers_per_block": 2, "transformer_layers_per_block": 2},
    "two_blocks": {
        **SMALL,
        "block_out_channels": [8, 16],
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    },
}


def made(config: dict[str, Any], device: str = "cpu") -> Any:
    from diffusers.models.controlnets.controlnet import ControlNetModel

    maker: Any = ControlNetModel
    with torch.device(device):
        return maker.from_config(config)


@pytest.fixture(params=list(ANATOMIES))
def controlnet(request: pytest.FixtureRequest) -> Any:
    """Every value random, the zero convolutions' too."""
    torch.manual_seed(0)
    model = made(ANATOMIES[request.param])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.1)
    return model.eval()


def outputs(model: Any) -> list[torch.Tensor]:
    stream = torch.Generator().manual_seed(1)
    latents, text = torch.randn(2, 4, 8, 8, generator=stream), torch.randn(2, 5, 12, generator=stream)
    with torch.no_grad():
        down, middle = model(latents, 7, text, torch.rand(2, 3, 64, 64, generator=stream), return_dict=False)
    return [*down, middle]


def refused(match: str, call: Any, *arguments: Any) -> TaskError:
    with pytest.raises(TaskError, match=match) as caught:
        call(*arguments)
    return caught.value


@pytest.mark.parametrize(("config", "width", "linear"), [(SD_15, 768, False), (SD_21, 1024, True)])
def test_names_and_shapes_at_full_size_are_the_originals(config: dict[str, Any], width: int, linear: bool) -> None:
    names = original_names(config)
    shapes = {names[name]: list(tensor.shape) for name, tensor in made(config, "meta").state_dict().items()}
    assert shapes == published_shapes(width, linear=linear)
    assert len(shapes) == 340
    if config is SD_15:
        assert sum(math.prod(shape) for shape in shapes.values()) == 361_279_120
    assert unlike_published(config) == []


def test_diffusers_opens_the_file_with_the_same_weights_and_outputs(controlnet: Any, tmp_path: Path) -> None:
    from diffusers.models.controlnets.controlnet import ControlNetModel

    controlnet.save_pretrained(tmp_path / "folder")
    path = tmp_path / "controlnet.safetensors"
    write_single_file(controlnet.state_dict(), dict(controlnet.config), path, {"base_model": "toy"})
    opener: Any = ControlNetModel
    opened = opener.from_single_file(str(path), config=str(tmp_path / "folder"), local_files_only=True)
    assert save(opened.state_dict()) == save(controlnet.state_dict())
    assert all(torch.equal(*pair) for pair in zip(outputs(opened), outputs(controlnet), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_both_ways_no_byte_changes(controlnet: Any, tmp_path: Path, dtype: torch.dtype) -> None:
    state, config = controlnet.to(dtype).state_dict(), dict(controlnet.config)
    path = tmp_path / "controlnet.safetensors"
    write_single_file(state, config, path, {"step": 3})
    stated, read = read_single_file(path)
    assert save(read) == save(state)
    again = tmp_path / "again.safetensors"
    write_single_file(read, stated, again, {"step": 3})
    assert again.read_bytes() == path.read_bytes()
    bare = {name.removeprefix(PREFIX): tensor for name, tensor in load_file(path).items()}
    assert save(to_diffusers(bare, config)) == save(state), "without the prefix"


def test_the_file_says_what_it_is(controlnet: Any, tmp_path: Path) -> None:
    config = {**controlnet.config, "_name_or_path": "/home/somebody/model"}
    path = tmp_path / "controlnet.safetensors"
    write_single_file(controlnet.state_dict(), config, path, {"base_model": "toy", "step": 3})
    with safe_open(path, "pt") as file:
        told = json.loads(file.metadata()[METADATA])
    assert (told["base_model"], told["step"]) == ("toy", 3)
    assert told["config"]["cross_attention_dim"] == 12
    assert "_name_or_path" not in told["config"]
    assert "block_out_channels" in unlike_published(config), "ComfyUI knows the published sizes only"


def test_a_file_of_others_is_read_by_its_shapes(tmp_path: Path) -> None:
    """At full size without storage: the config is found, and so every name."""
    state = {name: torch.empty(shape, device="meta") for name, shape in published_shapes(1024, linear=True).items()}
    config = controlnet_single._config_by_shape(state, "file")
    assert original_names(config) == original_names(SD_21)
    assert unlike_published(config) == []
    save_file({"control_model.zero_convs.0.0.weight": torch.ones(1)}, tmp_path / "odd.safetensors")
    refused("no ControlNet of Stable Diffusion 1 or 2", read_single_file, tmp_path / "odd.safetensors")


def test_names_at_fault_are_listed() -> None:
    state = made(SMALL).state_dict()
    lacking = {name: tensor for name, tensor in state.items() if name != "conv_in.bias"}
    refused(r"missing \['conv_in.bias'\], unexpected \['odd'\]", to_original, lacking | {"odd": torch.ones(1)}, SMALL)
    original = to_original(state, SMALL)
    zero = original.pop("control_model.zero_convs.0.0.weight")
    error = refused(
        r"missing \['control_model.zero_convs.0.0.weight'\], unexpected \['x'\]",
        to_diffusers, original | {"x": zero}, SMALL,
    )  # fmt: skip
    assert error.code == "model_mismatch"
    misshapen = original | {"control_model.zero_convs.0.0.weight": zero[:1]}
    refused(r"other shape \['controlnet_down_blocks.0.weight'\]", to_diffusers, misshapen, SMALL)
    broken = original | {"control_model.zero_convs.0.0.weight": zero * float("nan")}
    assert refused("NaN", to_diffusers, broken, SMALL).code == "not_finite"


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (torch.tensor([float("nan")]), "not_finite"),
        (torch.tensor([1e300], dtype=torch.float64), "not_finite"),
        (torch.tensor([1], dtype=torch.int8), "model_mismatch"),
    ],
    ids=["NaN", "infinite as the float32 that it is loaded as", "integers"],
)
def test_a_file_with_numbers_that_no_weights_have_is_refused_by_name(
    tmp_path: Path, bad: torch.Tensor, code: str
) -> None:
    name = "control_model.zero_convs.0.0.bias"
    state = to_original(made(SMALL).state_dict(), SMALL)
    state[name] = bad.expand(state[name].shape).contiguous()
    save_file(state, tmp_path / "bad.safetensors")
    error = refused(re.escape(name), read_single_file, tmp_path / "bad.safetensors", SMALL)
    assert (error.code, error.param) == (code, name)


def test_what_is_no_controlnet_of_stable_diffusion_is_refused(tmp_path: Path) -> None:
    pickled = tmp_path / "controlnet.pth"
    torch.save({}, pickled)
    assert refused("safetensors", read_single_file, pickled).code == "unsafe_weights"
    (tmp_path / "cut.safetensors").write_bytes(b"\x10")
    assert refused("cut", read_single_file, tmp_path / "cut.safetensors").code == "unreadable_weights"
    xl = {**SMALL, "class_embed_type": "timestep"}
    refused("no place for class_embedding", original_names, xl)
    refused("halves 1 times", original_names, {**SMALL, "conditioning_embedding_out_channels": [4, 8]})
    refused("config", original_names, {**SMALL, "block_out_channels": [8]})
