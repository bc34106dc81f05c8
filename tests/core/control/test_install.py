"""`difftune models import` of Stable Diffusion, ControlNets and annotators, on folders as others publish them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from difftune_core.config.card import CARD_FILE, CompanionCard, list_cards, read_card, readable_cards
from difftune_core.config.controlnet_fit import check_controlnet_fits
from difftune_core.config.resolution import resolve
from difftune_core.config.transfer import TransferConfig
from difftune_core.families.controlnet.convert.controlnet_single import write_single_file
from difftune_core.families.convert.request import ImportRequest
from difftune_core.families.install import install
from difftune_core.families.table import find_base_model
from difftune_core.hooks import TaskError
from tests.core.conftest import RecordingHooks
from tests.core.control.toy import ToyRuns, write_stable_diffusion
from tests.golden import assert_golden

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def published(toy_runs: ToyRuns, tmp_path: Path) -> Path:
    """A pipeline's folder with a safety checker, as others publish it: no card."""
    folder = tmp_path / "published"
    shutil.copytree(toy_runs.root / "models" / "toy-sd", folder)
    (folder / "card.json").unlink()
    (folder / "safety_checker").mkdir()
    return folder


@pytest.fixture(scope="module")
def controlnet(toy_runs: ToyRuns, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from diffusers.models.controlnets.controlnet import ControlNetModel
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    unets: Any = UNet2DConditionModel
    folder = tmp_path_factory.mktemp("published") / "controlnet"
    ControlNetModel.from_unet(unets.from_pretrained(toy_runs.root / "models" / "toy-sd" / "unet")).save_pretrained(
        folder
    )
    (folder / "difftune.json").write_text('{"condition": "edge"}')
    return folder


def imported(tmp_path: Path, source: Path, kind: str, **options: Any) -> Path:
    given = {"id": "new", "models": tmp_path / "models", "licence": "MIT", **options}
    asked = ImportRequest(source=str(source), kind=kind, **{n: v for n, v in given.items() if v is not None})
    assert install(asked, RecordingHooks()).code == "succeeded"
    return tmp_path / "models" / "new"


def refused(tmp_path: Path, source: Path, kind: str, match: str, **options: Any) -> TaskError:
    with pytest.raises(TaskError, match=match) as caught:
        imported(tmp_path, source, kind, **options)
    assert not list((tmp_path / "models").glob("*")) if (tmp_path / "models").is_dir() else True
    return caught.value


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_published_folder_becomes_a_base_model(published: Path, tmp_path: Path) -> None:
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

    state = load_file(published / "text_encoder" / "model.safetensors")  # older names, and a buffer of older versions
    old = {f"text_model.{name}": tensor for name, tensor in state.items()}
    old["text_model.embeddings.position_ids"] = torch.arange(16)[None]
    save_file(old, published / "text_encoder" / "model.safetensors")
    folder = imported(tmp_path, published, "stable-diffusion", feature_extractor="tiny-features")
    model = find_base_model("new", [tmp_path / "models"])
    card = model.card
    assert (card.family, card.image_size, card.licence) == ("stable-diffusion", 64, "MIT")
    assert card.source == "diffusers folder published"
    assert_golden("card_of_stable_diffusion.json", json.loads((folder / CARD_FILE).read_text()) | {"created_at": 0})
    assert card.num_parameters == sum(tensor.numel() for tensor in load_file(published / UNET).values())
    assert (folder / UNET).read_bytes() == (published / UNET).read_bytes()
    assert not (folder / "safety_checker").exists()
    opener: Any = StableDiffusionPipeline
    opened = opener.from_pretrained(folder, local_files_only=True)
    assert opened.safety_checker is None
    assert all(torch.equal(opened.text_encoder.state_dict()[name], tensor) for name, tensor in state.items())
    config = TransferConfig.model_validate({"model": "new", "control": {"condition": "edge"}})
    resolved = resolve(config, card, num_threads=1)
    training = resolved.method.hyperparameters
    assert (training.max_steps, training.batch_size, training.ema_decay) == (15_000, 4, 0.0)
    assert resolved.evaluation.every_steps == 100


def test_the_kind_of_prediction_is_the_scheduler_s(tmp_path: Path) -> None:
    velocity = write_stable_diffusion(tmp_path / "v" / "toy-v", prediction="v_prediction")
    folder = imported(tmp_path, velocity, "stable-diffusion")
    assert "v_prediction" in read_card(folder).description
    model: Any = find_base_model("new", [tmp_path / "models"])
    assert model.process().prediction == "v"


@pytest.mark.parametrize("part", ["unet", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_part_is_named(published: Path, tmp_path: Path, part: str) -> None:
    shutil.rmtree(published / part)
    error = refused(tmp_path, published, "stable-diffusion", f"lacks {part}/")
    assert (error.code, error.param) == ("component_missing", part)


def test_pickles_are_refused(published: Path, tmp_path: Path) -> None:
    (published / UNET).rename(published / "unet" / "diffusion_pytorch_model.bin")
    assert refused(tmp_path, published, "stable-diffusion", "carry code").code == "unsafe_weights"
    (published / "unet" / "diffusion_pytorch_model.bin").rename(published / UNET)
    text = published / "text_encoder" / "model.safetensors"
    text.rename(text.with_name("pytorch_model.bin"))
    assert refused(tmp_path, published, "stable-diffusion", "pytorch_model.bin").code == "unsafe_weights"


@pytest.mark.parametrize(
    ("file", "fields", "match"),
    [
        ("unet/config.json", {"in_channels": 9}, "unet config, in_channels"),
        ("unet/config.json", {"addition_embed_type": "text_time"}, "unet config, addition_embed_type"),
        ("unet/config.json", {"cross_attention_dim": 12}, "other shape"),
        ("unet/config.json", {"sample_size": None}, "unet config, sample_size"),
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "scheduler config, prediction_type"),
        ("scheduler/scheduler_config.json", {"rescale_betas_zero_snr": True}, "scheduler config, rescale_betas"),
        ("tokenizer/tokenizer_config.json", {"model_max_length": 77}, "at most 77 a prompt"),
        ("text_encoder/config.json", {"hidden_size": 32}, "other shape"),
        ("text_encoder/config.json", {"model_type": "t5"}, "text_encoder config, model_type"),
    ],
)
def test_what_does_not_fit_is_named(
    published: Path, tmp_path: Path, file: str, fields: dict[str, Any], match: str
) -> None:
    change(published / file, **fields)
    assert refused(tmp_path, published, "stable-diffusion", match).code == "model_mismatch"


def test_licence_and_options_are_checked(published: Path, tmp_path: Path) -> None:
    assert refused(tmp_path, published, "stable-diffusion", "licence", licence=None).code == "licence_missing"
    assert refused(tmp_path, published, "stable-diffusion", "num_heads", num_heads=2).code == "invalid_option"
    assert refused(tmp_path, published, "dit", "--kind stable-diffusion").param == "kind"


def test_a_controlnet_is_imported_from_folder_and_single_file(
    toy_runs: ToyRuns, controlnet: Path, tmp_path: Path
) -> None:
    weights = "diffusion_pytorch_model.safetensors"
    folder = imported(tmp_path, controlnet, "controlnet")
    assert (folder / weights).read_bytes() == (controlnet / weights).read_bytes()
    card = readable_cards(CompanionCard, [tmp_path / "models"])["new"][0]
    assert (card.kind, card.conditions, card.anatomy["cross_attention_dim"]) == ("controlnet", ("edge",), 16)
    unet = json.loads((toy_runs.root / "models" / "toy-sd" / "unet" / "config.json").read_text())
    check_controlnet_fits(card.anatomy, unet)
    with pytest.raises(TaskError, match="cross_attention_dim is 16, the UNet's 768"):
        check_controlnet_fits(card.anatomy, {**unet, "cross_attention_dim": 768})
    assert list_cards([tmp_path / "models"], "extractor") == {}
    config = json.loads((controlnet / "config.json").read_text())
    write_single_file(load_file(controlnet / weights), config, tmp_path / "single.safetensors", {})
    again = imported(tmp_path / "other", tmp_path / "single.safetensors", "controlnet")
    assert (again / weights).read_bytes() == (folder / weights).read_bytes()
    with pytest.raises(TaskError, match="remove it first"):
        imported(tmp_path, controlnet, "controlnet")


def test_other_controlnets_are_refused(controlnet: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(controlnet, copy)
    change(copy / "config.json", controlnet_conditioning_channel_order="bgr")
    refused(tmp_path, copy, "controlnet", "channel_order: bgr")
    change(copy / "config.json", _class_name="UNet2DConditionModel")
    refused(tmp_path, copy, "controlnet", "_class_name: 'UNet2DConditionModel'")


@pytest.fixture(scope="module")
def depth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import transformers

    folder = tmp_path_factory.mktemp("glpn")
    config = transformers.GLPNConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 8, 8], num_attention_heads=[1, 1, 1, 1], decoder_hidden_size=8
    )
    transformers.GLPNForDepthEstimation(config).save_pretrained(folder)
    transformers.GLPNImageProcessorPil(size_divisor=32).save_pretrained(folder)
    return folder


def test_an_annotator_is_imported(depth: Path, tmp_path: Path) -> None:
    imported(tmp_path, depth, "annotator")
    card = readable_cards(CompanionCard, [tmp_path / "models"])["new"][0]
    assert (card.kind, card.conditions) == ("annotator", ("depth", "normal"))
    assert card.num_parameters > 0


def test_what_is_no_annotator_is_refused(depth: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(depth, copy)
    state = load_file(copy / "model.safetensors")
    name = next(iter(state))
    save_file({n: t for n, t in state.items() if n != name}, copy / "model.safetensors", {"format": "pt"})
    assert name in str(refused(tmp_path, copy, "annotator", "missing"))
    change(copy / "config.json", architectures=["BertModel"])
    refused(tmp_path, copy, "annotator", "neither a depth estimator")
    (copy / "preprocessor_config.json").unlink()
    assert refused(tmp_path, copy, "annotator", "lacks preprocessor_config.json").code == "component_missing"
