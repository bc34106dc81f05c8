"""Stable Diffusions, ControlNets, annotators and CLIP models that lie: refused by file and field; no code is run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import transformers
from safetensors.torch import load_file, save_file

import difftune_core
from difftune_core.families.convert.request import ImportRequest
from difftune_core.families.install import install
from difftune_core.hooks import TaskError
from difftune_core.runtime.foreign import refuse_links
from tests.core.conftest import RecordingHooks
from tests.core.control.toy import write_stable_diffusion

BUNDLED = Path(difftune_core.__path__[0]) / "weights"


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def damage(path: Path, content: Any) -> None:
    """Other fields, or something else in all."""
    if isinstance(content, dict):
        change(path, **content)
    else:
        path.write_text(json.dumps(content))


def refusal(source: Path, kind: str) -> TaskError:
    models = source.parent / "models"
    request = ImportRequest(source=str(source), kind=kind, id="new", models=models, licence="MIT")
    with pytest.raises(TaskError) as caught:
        install(request, RecordingHooks())
    assert not (models / "new").exists()
    return caught.value


@pytest.fixture
def stable_diffusion(tmp_path: Path) -> Path:
    return write_stable_diffusion(tmp_path / "toy-sd")


@pytest.fixture
def depth(tmp_path: Path) -> Path:
    return annotator(tmp_path, "tiny-depth")


@pytest.fixture
def segmentation(tmp_path: Path) -> Path:
    return annotator(tmp_path, "tiny-segmentation")


@pytest.fixture
def clip(tmp_path: Path, stable_diffusion: Path) -> Path:
    folder = tmp_path / "clip"
    words = json.loads((stable_diffusion / "text_encoder" / "config.json").read_text())
    small = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1, "num_hidden_layers": 1}
    counted = {name: words[name] for name in ("vocab_size", "max_position_embeddings")}
    config = transformers.CLIPConfig(
        text_config={**small, **counted}, vision_config={**small, "image_size": 32, "patch_size": 16}, projection_dim=4
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=size).save_pretrained(folder)
    for path in (stable_diffusion / "tokenizer").iterdir():
        shutil.copyfile(path, folder / path.name)
    return folder


def annotator(folder: Path, model: str) -> Path:
    copy = folder / "annotator"
    shutil.copytree(BUNDLED / model, copy)
    (copy / "card.json").unlink()
    return copy


CODE = """
from pathlib import Path

Path({mark!r}).touch()


class X:
    from_pretrained = from_dict = register_for_auto_class = classmethod(lambda cls, *_, **__: cls())
"""


def name_code(folder: Path, tmp_path: Path) -> Path:
    """Have an annotator's configs name a class of the publisher's; the file that appears when it is loaded."""
    mark, code = tmp_path / "mark", tmp_path / "code"
    code.mkdir()
    (code / "mod.py").write_text(CODE.format(mark=str(mark)))
    foreign = {"AutoImageProcessor": f"{code}--mod.X", "AutoModelForDepthEstimation": f"{code}--mod.X"}
    for name in ("preprocessor_config.json", "config.json"):
        change(folder / name, auto_map=foreign)
    return mark


def test_no_code_of_the_publisher_is_run_whatever_is_answered(tmp_path: Path, depth: Path) -> None:
    """Through the command line, whose user would say yes to everything; the class is one that no library has."""
    mark = name_code(depth, tmp_path)
    change(depth / "preprocessor_config.json", image_processor_type="Nope")
    line = [sys.executable, "-m", "cli", "models", "import", str(depth), "--kind", "annotator", "--id", "new"]
    line += ["--licence", "MIT", "--data-dir", str(tmp_path / "data")]
    done = subprocess.run(line, input="y\n" * 20, capture_output=True, text=True, check=False)
    assert not mark.exists()
    assert (done.returncode, "preprocessor_config.json" in done.stderr) == (1, True), done.stderr


def test_code_that_is_named_beside_a_known_class_is_left_out(tmp_path: Path, depth: Path) -> None:
    mark, models = name_code(depth, tmp_path), tmp_path / "models"
    request = ImportRequest(source=str(depth), kind="annotator", id="new", models=models, licence="MIT")
    assert install(request, RecordingHooks()).code == "succeeded"
    assert not mark.exists()
    assert not [path for path in (models / "new").glob("*.json") if "auto_map" in path.read_text()]


def test_links_out_of_the_folder_are_refused_but_for_weights(tmp_path: Path, stable_diffusion: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text('{"password": "hunter2"}')
    link = stable_diffusion / "tokenizer" / "special_tokens_map.json"
    link.unlink(missing_ok=True)
    link.symlink_to(secret)
    error = refusal(stable_diffusion, "stable-diffusion")
    assert (error.code, error.param) == ("unsafe_weights", "tokenizer/special_tokens_map.json")
    link.unlink()
    weights = stable_diffusion / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(tmp_path / "elsewhere.safetensors")
    weights.symlink_to(tmp_path / "elsewhere.safetensors")
    refuse_links(stable_diffusion)


@pytest.mark.parametrize(
    ("file", "fields", "named"),
    [
        ("text_encoder/config.json", {"num_hidden_layers": 1_000_000}, "text_encoder/config.json, num_hidden_layers"),
        ("text_encoder/config.json", {"num_hidden_layers": "x"}, "text_encoder/config.json"),
        ("text_encoder/config.json", {"hidden_act": "nope"}, "text_encoder/config.json"),
        ("text_encoder/config.json", {"num_attention_heads": 0}, "text_encoder/config.json"),
        ("text_encoder/config.json", {"layer_norm_eps": "a"}, "text_encoder"),
        ("unet/config.json", {"layers_per_block": 1_000_000}, "unet/config.json, layers_per_block"),
        ("unet/config.json", {"norm_eps": "a"}, "unet"),
        ("unet/config.json", {"norm_eps": float("nan")}, "unet/config.json, norm_eps"),
        ("unet/config.json", {"freq_shift": "x"}, "unet"),
        ("scheduler/scheduler_config.json", {"beta_start": 0.5, "beta_end": 0.1}, "scheduler config, beta_start"),
        ("scheduler/scheduler_config.json", {"_class_name": "os.system"}, "scheduler config, _class_name"),
        ("scheduler/scheduler_config.json", {"timestep_spacing": "nope"}, "scheduler config, timestep_spacing"),
        ("vae/config.json", {"scaling_factor": 1e-300}, "autoencoder config, scaling_factor"),
        ("vae/config.json", {"force_upcast": "x"}, "autoencoder config, force_upcast"),
        ("tokenizer/tokenizer_config.json", {"model_max_length": "x"}, "token"),
    ],
)
def test_a_stable_diffusion_that_cannot_run(
    stable_diffusion: Path, file: str, fields: dict[str, Any], named: str
) -> None:
    change(stable_diffusion / file, **fields)
    error = refusal(stable_diffusion, "stable-diffusion")
    assert error.code in {"model_mismatch", "unreadable_weights"}
    assert named in str(error)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", {"num_hidden_layers": "x"}),
        ("config.json", {"num_hidden_layers": 10**9}),
        ("config.json", {"model_type": ["a"]}),
        ("config.json", {"architectures": 5}),
        ("config.json", {"architectures": "DPTForDepthEstimation"}),
        ("config.json", {"quantization_config": 5}),
        ("config.json", {"torch_dtype": "nope"}),
        ("preprocessor_config.json", [1]),
        ("preprocessor_config.json", {"do_resize": True, "size": {"height": 10**6, "width": 10**6}}),
        ("preprocessor_config.json", {"image_processor_type": 5}),
        ("preprocessor_config.json", {"do_normalize": True, "image_mean": ["a", "b", "c"]}),
        ("preprocessor_config.json", {"do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0, 0, 0]}),
        ("preprocessor_config.json", {"do_rescale": True, "rescale_factor": "a"}),
    ],
)
def test_an_annotator_that_cannot_run(depth: Path, file: str, content: Any) -> None:
    damage(depth / file, content)
    error = refusal(depth, "annotator")
    assert error.code in {"model_mismatch", "unreadable_weights"}
    assert file in str(error) or error.param == file


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[[1, 2, 3], [1, 2]]", b'{"a": 1}', b"[]"])
def test_a_palette_that_is_none_is_named(segmentation: Path, content: bytes) -> None:
    (segmentation / "palette.json").write_bytes(content)
    error = refusal(segmentation, "annotator")
    assert (error.code, "palette.json" in str(error)) == ("model_mismatch", True)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", {"text_config": 5}),
        ("config.json", {"vision_config": []}),
        ("config.json", {"projection_dim": "x"}),
        ("config.json", {"projection_dim": 10**12}),
        ("preprocessor_config.json", [1]),
        ("preprocessor_config.json", {"size": {"shortest_edge": 10**6}}),
        ("preprocessor_config.json", {"rescale_factor": "x"}),
        ("preprocessor_config.json", {"image_std": [0, 0, 0]}),
    ],
)
def test_a_clip_model_that_cannot_run(clip: Path, file: str, content: Any) -> None:
    damage(clip / file, content)
    error = refusal(clip, "clip")
    assert error.code in {"model_mismatch", "unreadable_weights"}
    assert file in str(error) or error.param in {file, "text_config"}


@pytest.mark.parametrize("part", [{"text_config": {"vocab_size": 9_000_000}}, {"vision_config": {"image_size": 4096}}])
def test_a_network_far_larger_than_its_weights_takes_no_memory(clip: Path, part: dict[str, Any]) -> None:
    config = json.loads((clip / "config.json").read_text())
    (name, fields), *_ = part.items()
    change(clip / "config.json", **{name: {**config[name], **fields, "hidden_size": 4096, "num_attention_heads": 1}})
    assert "describes a network of" in str(refusal(clip, "clip"))


def test_a_controlnet_that_cannot_run(tmp_path: Path, stable_diffusion: Path) -> None:
    from diffusers.models.controlnets.controlnet import ControlNetModel
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    unets: Any = UNet2DConditionModel
    folder = tmp_path / "controlnet"
    ControlNetModel.from_unet(unets.from_pretrained(stable_diffusion / "unet")).save_pretrained(folder)
    whole = (folder / "config.json").read_text()
    for field, value in (("norm_eps", "a"), ("freq_shift", "x"), ("layers_per_block", 10**6), ("down_block_types", 5)):
        (folder / "config.json").write_text(whole)
        change(folder / "config.json", **{field: value})
        assert "ontrol" in str(refusal(folder, "controlnet")), field


def test_weights_of_another_shape_are_named(depth: Path) -> None:
    state = load_file(depth / "model.safetensors")
    name = next(name for name, tensor in state.items() if tensor.ndim == 1)
    save_file({**state, name: state[name][:-1].contiguous()}, depth / "model.safetensors", {"format": "pt"})
    assert name in str(refusal(depth, "annotator"))
