"""Held-out images that a run trains on are told in its events, its report and its page; both families."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from difftune_core.families.preparation import Folders
from difftune_core.families.table import find_base_model
from difftune_core.hooks import LogEvent
from difftune_core.networks.dit import DiT
from difftune_core.train.run import prepared, train
from tests.core.conftest import RecordingHooks
from tests.core.control.toy import ToyRuns, write_scenes, write_stable_diffusion
from tests.core.runs import BUNDLED, ToyFolders, toy_folders

UNJUDGED = {"every_steps": None, "holdout_fraction": 0.3}
PROMPTS = {"type": "vpt", "num_tokens": 3, "zero_gate": False}  # no export, which would take most of the time
SHARED = "2 of 4 held-out images are training images too: figures are better than they would be of images that the "


@pytest.fixture
def toy(toy_model: DiT, tmp_path: Path) -> ToyFolders:
    return toy_folders(toy_model, tmp_path)


def told(hooks: RecordingHooks) -> list[str]:
    return [event.message for event in hooks.events if isinstance(event, LogEvent) and event.level == "warn"]


def test_a_report_counts_images_that_are_trained_on_and_judged_by(toy: ToyFolders) -> None:
    """One under another name, one saved again as BMP; and one training image is there twice, once in either class."""
    held_out = toy.root / "held-out"
    for number, name in enumerate(("0/0.png", "1/1.png")):
        place = held_out / str(number)
        place.mkdir(parents=True)
        with Image.open(toy.data / name) as picture:
            picture.save(place / "again.bmp")
            picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(place / "another.png")
    shutil.copyfile(toy.data / "0" / "2.png", toy.data / "1" / "copy.png")
    hooks, out = RecordingHooks(), toy.root / "out"
    out.mkdir()
    config = toy.config(evaluation=UNJUDGED, recipe="distillation", max_steps=1, adapter=PROMPTS)
    train(config, Folders(toy.data, held_out, [toy.models, BUNDLED], toy.root / "cache", out), hooks)
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    counts = {name: report["dataset"][name] for name in ("num_shared", "num_repeated", "num_relabelled")}
    assert counts == {"num_shared": 2, "num_repeated": 1, "num_relabelled": 1}
    sentences = told(hooks)[:3]
    assert sentences[0].startswith(SHARED)
    assert sentences[1:] == ["1 picture occurs with more than one class.", "1 training image is a copy of another."]
    assert report["notes"][:3] == sentences
    assert SHARED in (out / "report.html").read_text(encoding="utf-8")


def test_copies_within_one_set_are_trained_on_or_judged_by_never_both(toy: ToyFolders) -> None:
    for name in sorted(path.relative_to(toy.data).as_posix() for path in toy.data.glob("*/*.png")):
        shutil.copyfile(toy.data / name, toy.data / f"{name.removesuffix('.png')}-copy.png")
    (toy.root / "out").mkdir()
    folders = Folders(toy.data, None, [toy.models, BUNDLED], toy.root / "cache", toy.root / "out")
    config = toy.config(evaluation=UNJUDGED, recipe="distillation")
    base = find_base_model("toy", folders.models)
    run = prepared(config, base, folders, RecordingHooks(), torch.device("cpu"))
    assert [len(rows) for rows in run.task.rows] == [16, 8]
    assert (run.copies.num_shared, run.copies.num_repeated) == (0, 8)


def test_a_controlnet_is_judged_by_rows_of_pictures_that_it_has_not_seen(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    write_stable_diffusion(tmp_path / "models" / "toy-sd")
    toy = ToyRuns(tmp_path)
    write_scenes(toy.data, controls=None)
    rows = [json.loads(line) for line in (toy.data / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    for row in rows[:]:
        shutil.copyfile(toy.data / row["file_name"], toy.data / f"copy-{row['file_name']}")
        rows.append({"file_name": f"copy-{row['file_name']}", "text": "the same picture in other words"})
    (toy.data / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    hooks, config = RecordingHooks(), toy.config("supervised", evaluation=UNJUDGED)
    run = prepared(config, find_base_model("toy-sd", toy.models), toy.folders("out"), hooks, torch.device("cpu"))
    target, held_out = run.task.rows
    assert set(target.keys).isdisjoint(held_out.keys)
    assert run.copies.num_shared == 0
    assert "10 pictures occur with more than one caption." in told(hooks)
