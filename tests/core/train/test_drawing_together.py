"""What two processes draw is what one draws: images of an evaluation, and a retention set."""

from __future__ import annotations

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
from difftune_core.hooks import MetricsEvent
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
    figures: dict[int, dict[str, float]] = {}
    sets: dict[int, dict[str, bytes]] = {}
    written, fetched = list[Any](), list[Any]()
    monkeypatch.setattr(sample, "write_durably", lambda *given: (written.append(given), write_durably(*given)))
    monkeypatch.setattr(np, "load", lambda path, load=np.load: (fetched.append(path), load(path))[1])
    for processes in (1, 2):
        toy = toy_folders(toy_model, tmp_path / str(processes))
        evaluation = {"every_steps": 2, "num_images": COUNT, "num_inference_steps": 1}
        config = toy.config(evaluation=evaluation, retention_set=retained, learning_rate=1e-30, max_steps=1000)
        config = config.model_copy(update={"resources": ResourcesConfig(gpus=processes)})
        hooks = RecordingHooks(stop_at=3)
        toy.train(config, "out", hooks)
        measured = [event for event in hooks.events if isinstance(event, MetricsEvent) and "eval_fid" in event.values]
        figures[processes] = measured[0].values
        made_sets = (tmp_path / str(processes) / "cache").glob("*/retention/*/images.safetensors")
        sets[processes] = {file.parent.name: file.read_bytes() for file in made_sets}
    assert sets[1] == sets[2]
    assert len(written) == 5 + 3, "of chunks of 2 sets: all, and those of the first process"
    parts = [path for path in fetched if path.parent.name.startswith("drawing-")]
    assert [path.name for path in parts] == ["000000256.npy"] * len(parts)
    assert len(parts) >= 2, "of classes, and of the null branch"
    assert figures[2] == pytest.approx(figures[1], rel=1e-9)


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
    assert asked == [{"which": which.tolist(), "how": {"guidance": "cfg"}}]
    few = made(AT_ONCE, own)
    assert together.spread(few, toy_model, torch.arange(AT_ONCE)) is few
