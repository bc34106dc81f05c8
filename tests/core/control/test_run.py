from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from difftune_core.checkpoint.manifest import MODEL, newest_whole
from difftune_core.config.card import read_card
from difftune_core.config.run import ResourcesConfig
from difftune_core.families.controlnet.base_model import StableDiffusion
from difftune_core.families.preparation import Folders
from difftune_core.files import sha256_file
from difftune_core.hooks import TaskError
from difftune_core.runtime.rng import generator
from difftune_core.train.run import train
from tests.core.clip_files import write_clip
from tests.core.conftest import RecordingHooks
from tests.core.control.toy import ToyRuns, write_scenes, write_stable_diffusion
from tests.core.runs import left_by
from tests.golden import assert_golden


def report_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return found


def delivered(folder: Path) -> str:
    found = newest_whole(folder / "checkpoints")
    assert found is not None
    return sha256_file(found[0] / MODEL)


def test_a_run_leaves_report_exports_and_checkpoints(toy_runs: ToyRuns) -> None:
    hooks, out = RecordingHooks(), toy_runs.root / "whole"
    write_clip(toy_runs.root / "models" / "small-clip", seed=0)
    config = toy_runs.config(evaluation={"every_steps": 2, "clip_model": "small-clip"})
    outcome = toy_runs.train(config, "whole", hooks)
    assert outcome.code == "succeeded", outcome
    report = report_of(out)
    assert [entry["step"] for entry in report["evaluations"]] == [2, 4]
    last = report["evaluations"][-1]
    assert 0 <= abs(last["ssim"]) <= 1
    read_beside = [found for name, found in report["references"].items() if name != "training_set"]
    for figures in (last, *read_beside):
        assert 0 <= figures["clip_score"] <= 100
    assert report["references"]["real_vs_real"]["clip_score"] > last["clip_score"]
    assert report["references"]["real_vs_real"]["clip_score_se"] > 0
    told = [event.values for event in hooks.events if event.type == "metrics" and event.step == 4]
    assert last["clip_score"] in [values.get("eval_clip_score") for values in told]
    assert report["recipe"]["clip_model"] == "small-clip"
    assert any("longer than the CLIP model takes" in note for note in report["notes"])
    assert last["num_compared"] == 2
    assert last["fid"] > 0
    assert last["forgetting"]["null_fid"] >= 0
    assert last["forgetting"]["empty_control_mse"] > 0
    assert len(last["forgetting"]["retention_loss_by_t"]) == 10
    assert report["references"]["real_vs_real"]["ssim"] > report["references"]["base_model"]["ssim"]
    untouched = report["references"]["base_model"]["forgetting"]
    assert (untouched["null_fid"], untouched["empty_control_mse"]) == (0.0, 0.0)
    assert len(untouched["retention_loss_by_t"]) == 10
    assert report["convergence"]["reason"] == "too_few_evaluations"
    assert report["best"]["metric"] == "ssim"
    assert report["dataset"] == report["dataset"] | {"num_train": 7, "num_held_out": 3, "controls": "given"}
    assert report["dataset"]["num_truncated_captions"] > 0
    warned = [event.message for event in hooks.events if event.type == "log" and event.level == "warn"]
    assert any("longer than the text encoder takes" in message for message in warned)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Sudden convergence" in page
    assert "CLIP score" in page
    assert "weights: raw" in page, "the toy card averages nothing"
    said = [event.message for event in hooks.events if event.type == "log"]
    assert "no sudden convergence of the condition edge: not judged: it takes 8 evaluations" in said
    kinds = {event.kind for event in hooks.events if event.type == "artifact"}
    assert kinds == {"report_json", "report_html", "samples", "export_diffusers", "export_single_file"}
    assert_golden("controlnet_run.json", left_by(hooks, out))


@pytest.mark.parametrize(
    "adapter",
    [
        pytest.param({"type": "full"}, id="full"),
        pytest.param({"type": "lora", "rank": 2}, id="lora", marks=pytest.mark.long),
    ],
)
def test_stop_and_resume_gives_the_same_bytes(toy_runs: ToyRuns, adapter: dict[str, Any]) -> None:
    name = adapter["type"]
    config = toy_runs.config(adapter=adapter)
    assert toy_runs.train(config, f"{name}-once", RecordingHooks()).code == "succeeded"
    assert toy_runs.train(config, f"{name}-cut", RecordingHooks(stop_at=2)).code == "stopped"
    hooks = RecordingHooks()
    assert toy_runs.train(config, f"{name}-cut", hooks).code == "succeeded"
    assert [(e.step, e.changed) for e in hooks.events if e.type == "resume"] == [(2, [])]
    assert delivered(toy_runs.root / f"{name}-cut") == delivered(toy_runs.root / f"{name}-once")
    other = toy_runs.config(adapter=adapter, control={"prompt_dropout": 1.0})  # the control: another run differs
    assert toy_runs.train(other, f"{name}-other", RecordingHooks()).code == "succeeded"
    assert delivered(toy_runs.root / f"{name}-other") != delivered(toy_runs.root / f"{name}-once")


def test_controls_are_drawn_where_the_data_set_has_none(toy_runs: ToyRuns) -> None:
    data = write_scenes(toy_runs.root / "plain", controls=None)
    folders = Folders(data, None, toy_runs.models, toy_runs.root / "cache", toy_runs.root / "drawn")
    folders.out.mkdir()
    assert train(toy_runs.config("supervised"), folders, RecordingHooks()).code == "succeeded"
    report = report_of(folders.out)
    assert report["dataset"]["controls"] == "drawn"
    assert report["references"]["real_vs_real"]["ssim"] == pytest.approx(1.0)  # the same annotator drew both


def test_controls_in_one_file_alone_are_refused(toy_runs: ToyRuns) -> None:
    plain = write_scenes(toy_runs.root / "uncontrolled", rows=4, controls=None)
    folders = Folders(toy_runs.data, plain, toy_runs.models, toy_runs.root / "cache", toy_runs.root / "mismatch")
    folders.out.mkdir()
    with pytest.raises(TaskError) as found:
        train(toy_runs.config(), folders, RecordingHooks())
    assert (found.value.code, found.value.param) == ("control_mismatch", "validation_file")


def test_a_velocity_model_is_trained_on_velocity(tmp_path: Path) -> None:
    """Stable Diffusion 2.1's prediction, read from its scheduler's config; the target is diffusers' own."""
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    folder = write_stable_diffusion(tmp_path / "toy-v", prediction="v_prediction")
    base = StableDiffusion(folder, read_card(folder))
    process = base.process()
    assert process.prediction == "v"
    x0, noise = torch.randn(2, 3, 4, 8, 8, generator=generator("velocity")).unbind()
    t = torch.tensor([0, 500, 999])
    scheduler: Any = DDPMScheduler.from_config(base.noise_fields())
    wanted = scheduler.get_velocity(x0, noise, t)
    torch.testing.assert_close(process.target(x0, noise, t), wanted, rtol=1e-4, atol=1e-5)


def test_a_controlnet_of_another_anatomy_is_refused(toy_runs: ToyRuns) -> None:
    from diffusers.models.controlnets.controlnet import ControlNetModel

    blocks = ("CrossAttnDownBlock2D", "DownBlock2D")
    other = ControlNetModel(
        block_out_channels=(8, 16), down_block_types=blocks, cross_attention_dim=8, norm_num_groups=4
    )
    other.save_pretrained(toy_runs.root / "models" / "other-net")
    hooks = RecordingHooks()
    with pytest.raises(TaskError) as found:
        toy_runs.train(toy_runs.config(control={"init_from": "other-net"}), "unfit", hooks)
    assert (found.value.code, found.value.param) == ("model_mismatch", "control.init_from")
    assert "cross_attention_dim is 8, the UNet's 16" in str(found.value)
    with pytest.raises(TaskError) as missing:
        toy_runs.train(toy_runs.config(control={"init_from": "nothing"}), "missing", hooks)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "control.init_from")


def test_going_on_from_a_tuned_controlnet(toy_runs: ToyRuns) -> None:
    """A checkpoint's export opens in diffusers and is where another job can begin."""
    from diffusers.models.controlnets.controlnet import ControlNetModel

    out = toy_runs.root / "first"
    assert toy_runs.train(toy_runs.config(), "first", RecordingHooks()).code == "succeeded"
    folder = toy_runs.root / "models" / "tuned-net"
    with zipfile.ZipFile(out / "diffusers.zip") as archive:
        archive.extractall(folder)
    opened: Any = ControlNetModel.from_pretrained(folder)
    newest = newest_whole(out / "checkpoints")
    assert newest is not None
    for name, tensor in load_file(newest[0] / MODEL).items():
        assert torch.equal(opened.state_dict()[name], tensor)
    card = json.loads((folder / "difftune.json").read_text())
    assert (card["base_model"], card["condition"], card["step"]) == ("toy-sd", "edge", 4)
    again = toy_runs.config("supervised", control={"init_from": "tuned-net"})
    hooks = RecordingHooks()
    assert toy_runs.train(again, "second", hooks).code == "succeeded"
    tuned = newest_whole(toy_runs.root / "second" / "checkpoints")
    assert tuned is not None
    assert str(toy_runs.root) not in (tuned[0] / "config.json").read_text(encoding="utf-8")


def test_two_processes_do_what_one_does(toy_runs: ToyRuns) -> None:
    found: list[tuple[list[float], dict[str, torch.Tensor]]] = []
    for processes in (1, 2):
        hooks, out = RecordingHooks(stop_at=3), f"by-{processes}"
        config = toy_runs.config(max_grad_norm=0.5)
        config = config.model_copy(update={"resources": ResourcesConfig(gpus=processes)})
        assert toy_runs.train(config, out, hooks).code == "stopped"
        losses = [e.values["train_loss"] for e in hooks.events if e.type == "metrics" and "train_loss" in e.values]
        newest = newest_whole(toy_runs.root / out / "checkpoints")
        assert newest is not None
        found.append((losses, load_file(newest[0] / MODEL)))
    (one, alone), (two, together) = found
    assert len(one) == 3
    assert two == pytest.approx(one, rel=1e-5)
    apart = max(float((together[name] - tensor).abs().max()) for name, tensor in alone.items())
    assert apart < 1e-4, "a tenth of a step: Adam divides a gradient by its size, and one that is nearly 0 is rounding"
