"""What two processes draw is what one draws: images of an evaluation, and a retention set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from difftune_core.config.retention import RetentionSetConfig
from difftune_core.config.run import ResourcesConfig
from difftune_core.data.pixels import Made
from difftune_core.evaluate.together import AT_ONCE, Together, draw_parts
from difftune_core.files import write_durably
from difftune_core.networks.dit import DiT
from difftune_core.retention import sample
from difftune_core.retention.sample import CHUNK
from tests.core.conftest import RecordingHooks
from tests.core.runs import toy_folders

COUNT = AT_ONCE + 8


@pytest.mark.long
def test_a_run_by_two_processes_draws_and_retains_the_images_of_one(
    toy_model: DiT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A learning rate of next to nothing: weights that differ by rounding would round images otherwise."""
    retained = RetentionSetConfig(num_images=CHUNK + 2, num_inference_steps=1).model_dump()
    reports: dict[int, dict[str, Any]] = {}
    sets: dict[int, dict[str, bytes]] = {}
    written, fetched = list[Any](), list[Any]()
    monkeypatch.setattr(sample, "write_durably", lambda *given: (written.append(given), write_durably(*given)))
    monkeypatch.setattr(np, "load", lambda path, load=np.load: (fetched.append(path), load(path))[1])
    for processes in (1, 2):
        toy = toy_folders(toy_model, tmp_path / str(processes))
        evaluation = {"every_steps": None, "num_images": COUNT, "num_inference_steps": 1}
        config = toy.config(evaluation=evaluation, retention_set=retained, learning_rate=1e-30, max_steps=1)
        config = config.model_copy(update={"resources": ResourcesConfig(gpus=processes)})
        assert toy.train(config, "out", RecordingHooks()).code == "succeeded"
        reports[processes] = json.loads((toy.root / "out" / "report.json").read_text(encoding="utf-8"))
        made_sets = (toy.root / "cache").glob("*/retention/*/images.safetensors")
        sets[processes] = {file.parent.name: file.read_bytes() for file in made_sets}
    assert sets[1] == sets[2]
    assert len(written) == 5 + 3, "of chunks of 2 sets: all, and those of the first process"
    parts = {path for path in fetched if path.parent.name.startswith("drawing-")}
    assert {path.name for path in parts} == {"000000256.npy"}
    assert len(parts) >= 4, "of classes and of the null branch, of the average and of the base model"
    one, two = reports[1], reports[2]
    for found, wanted in ((two["evaluations"][0], one["evaluations"][0]), *zip(*base_models(two, one), strict=True)):
        assert {name: found[name] for name in ("fid", "kid")} == pytest.approx({n: wanted[n] for n in ("fid", "kid")})
        assert found["forgetting"]["null_fid"] == pytest.approx(wanted["forgetting"]["null_fid"])


def base_models(*reports: dict[str, Any]) -> list[list[dict[str, Any]]]:
    return [[report["references"]["base_model"]] for report in reports]


def made(count: int, seen: list[int]) -> Made:
    def make(start: int, stop: int) -> np.ndarray:
        seen.append(start)
        return np.full((stop - start, 2, 2, 3), start // AT_ONCE, np.uint8)

    return Made((count, 2, 2, 3), make)


def test_parts_of_others_are_fetched_once_and_made_here_where_they_are_asked_for_again(
    toy_model: DiT, tmp_path: Path
) -> None:

    together, own, asked = Together(), list[int](), list[Any]()

    def ask(request: dict[str, Any]) -> Path:
        asked.append(request)
        draw_parts(made(3 * AT_ONCE + 1, []), tmp_path, rank=1, world=2)
        return tmp_path

    together.join(2, toy_model, ask)
    which = torch.arange(3 * AT_ONCE + 1)
    images = together.spread(made(len(which), own), toy_model, which, guidance="cfg")
    parts = [images[start : start + AT_ONCE] for start in range(0, len(which), AT_ONCE)]
    assert [int(part[0, 0, 0, 0]) for part in parts] == [0, 1, 2, 3]
    assert own == [0, 2 * AT_ONCE]
    assert int(images[AT_ONCE : 2 * AT_ONCE][0, 0, 0, 0]) == 1
    assert own[2:] == [AT_ONCE]
    assert asked == [{"is_base": False, "which": which.tolist(), "how": {"guidance": "cfg"}}]
    few = made(AT_ONCE, own)
    assert together.spread(few, toy_model, torch.arange(AT_ONCE)) is few
