"""A ControlNet that begins with a checkpoint of another run, and images of it on the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from difftune_core.checkpoint.manifest import MODEL, newest_whole
from difftune_core.families.table import find_base_model
from difftune_core.train.run import Run, prepared
from tests.core.conftest import RecordingHooks
from tests.core.control.toy import ToyRuns


def run_of(toy_runs: ToyRuns, out: str, start: Path | None = None) -> Run:
    torch.set_num_threads(1)
    config = toy_runs.config("supervised", num_samples=2, learning_rate=0.1)
    folders = replace(toy_runs.folders(out), start=start)
    base = find_base_model("toy-sd", toy_runs.models)
    return prepared(config, base, folders, RecordingHooks(), torch.device("cpu"))


def test_it_goes_on_with_its_weights_and_is_seen_on_the_way(toy_runs: ToyRuns) -> None:
    first = run_of(toy_runs, "parent")
    first.loop.samples.draw()
    first.loop.advance()
    first.loop.save()
    first.loop.samples.draw()
    picture = first.loop.samples.picture()
    assert (picture["rows"], len(picture["columns"])) == (["control", "step 0", "step 1"], 2)
    drawn = [path.read_bytes() for path in sorted((toy_runs.root / "parent" / "samples").iterdir())]
    assert drawn[0] != drawn[1], "it has learned"
    folder, _ = newest_whole(toy_runs.root / "parent" / "checkpoints")
    theirs = load_file(folder / MODEL)
    second = run_of(toy_runs, "child", folder)
    for model in (second.loop.state.average, second.task.open(folder)):
        ours = model.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    fresh = second.task.start().state_dict()
    assert not all(torch.equal(fresh[name], tensor) for name, tensor in theirs.items())
