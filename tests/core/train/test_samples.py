"""Sample images on the way: from the same noise each time, told of, and without a trace in what is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from difftune_core.families.preparation import Folders
from difftune_core.families.table import find_base_model
from difftune_core.hooks import PhaseEvent, SampleEvent, StopKind
from difftune_core.interruption import Stopped, interruptible
from difftune_core.networks.dit import DiT
from difftune_core.train.run import Run, prepared
from tests.core.conftest import RecordingHooks
from tests.core.runs import BUNDLED, ToyFolders, toy_folders

SAMPLES = {"num_images": 3, "num_inference_steps": 2}


@pytest.fixture
def toy(toy_model: DiT, tmp_path: Path) -> ToyFolders:
    return toy_folders(toy_model, tmp_path)


def run_of(toy: ToyFolders, out: str, hooks: RecordingHooks, samples: dict[str, int] = SAMPLES) -> Run:
    given = {"recipe": "distillation", "checkpoint_every_steps": 2, "learning_rate": 0.01}
    config = toy.config(evaluation={"every_steps": None}, samples=samples, **given)
    torch.set_num_threads(1)
    folders = Folders(toy.data, None, [toy.models, BUNDLED], toy.root / "cache", toy.root / out)
    run = prepared(config, find_base_model("toy", folders.models), folders, hooks, torch.device("cpu"))
    run.loop.evaluate = lambda: None
    return run


def told(hooks: RecordingHooks) -> list[int]:
    return [event.step for event in hooks.events if isinstance(event, SampleEvent)]


def files(toy: ToyFolders, out: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((toy.root / out / "samples").iterdir())}


class StopsWhileDrawing(RecordingHooks):
    """Asks for a stop in the middle of the images of step 2."""

    def stop_requested(self) -> StopKind | None:
        drawing = [event for event in self.events if isinstance(event, PhaseEvent) and event.phase == "sampling"]
        return "pause" if len(drawing) == 2 else None


def test_they_are_drawn_at_step_0_and_with_each_checkpoint_and_change_nothing(toy: ToyFolders) -> None:
    run = run_of(toy, "with", hooks := RecordingHooks())
    run.loop.run()
    assert told(hooks) == [0, 2, 4]
    drawn = files(toy, "with")
    assert list(drawn) == ["step-00000000.png", "step-00000002.png", "step-00000004.png"]
    assert len(set(drawn.values())) == 3, "the model learns"
    plain = run_of(toy, "without", RecordingHooks(), {"num_images": 0})
    plain.loop.run()
    pairs = zip(run.loop.state.average.parameters(), plain.loop.state.average.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    picture = run.loop.samples.picture()
    assert (picture["rows"], picture["columns"]) == (["step 0", "step 2", "step 4"], ["0", "1", "0"])
    with Image.open(toy.root / "with" / "samples" / "step-00000000.png") as row:
        assert (row.width, row.height) == (3 * 32 + 2, 32)


def test_a_stop_while_they_are_drawn_costs_nothing(toy: ToyFolders) -> None:
    whole = run_of(toy, "whole", RecordingHooks())
    whole.loop.run()
    hooks = StopsWhileDrawing()
    first = run_of(toy, "cut", hooks)
    with interruptible(hooks), pytest.raises(Stopped):
        first.loop.run()
    assert told(hooks) == [0]
    second = run_of(toy, "cut", hooks := RecordingHooks())
    assert second.loop.state.step == 2
    second.loop.run()
    assert told(hooks) == [0, 2, 4], "of what was drawn it is told again"
    assert files(toy, "cut") == files(toy, "whole")


def test_what_lies_beyond_the_step_that_a_run_goes_on_from_is_drawn_anew(toy: ToyFolders) -> None:
    folder = toy.root / "out" / "samples"
    folder.mkdir(parents=True)
    (folder / "step-00000002.png").write_bytes(b"of an attempt that was lost")
    run_of(toy, "out", RecordingHooks()).loop.run()
    assert all(data.startswith(b"\x89PNG") for data in files(toy, "out").values())
