"""`difftune.train` and what it returns, on the smallest run there is."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import difftune
from difftune import Places, Run, Step
from difftune.listening import Listener, interruptible
from difftune_core.checkpoint.manifest import MODEL
from difftune_core.networks.dit import DiT
from tests.core.conftest import CONFIG, RecordingHooks
from tests.core.runs import ToyFolders, toy_folders

FIELDS: dict[str, Any] = {
    "batch_size": 4,
    "recipe": "distillation",
    "evaluation": {"holdout_fraction": 0.3, "num_images": 8, "num_inference_steps": 2, "every_steps": 2},
    "samples": {"num_images": 2, "every_steps": 2, "num_inference_steps": 2},
}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> ToyFolders:
    torch.manual_seed(0)
    model = DiT(replace(CONFIG, process="flow"))  # which has no export: diffusers is not loaded
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.05)
    return toy_folders(model, tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def steps() -> list[Step]:
    return []


def train(toy: ToyFolders, out: str, **fields: Any) -> Run:
    places = Places(models=[toy.models], cache=toy.root / "cache")
    return difftune.train(toy.data, model="toy", out=toy.root / out, places=places, show=False, **FIELDS, **fields)


@pytest.fixture(scope="module")
def run(toy: ToyFolders, steps: list[Step]) -> Run:
    """A run that a callback has ended after three steps of four, and that went on."""

    def note(step: Step) -> bool:
        steps.append(step)
        return step.step != 3

    threads = torch.get_num_threads()
    ended = train(toy, "run", steps=4, on_step=note)
    assert (ended.status, ended.step, ended.report) == ("stopped", 3, None)
    assert "train_loss" in ended.figures
    found = train(toy, "run", steps=4, on_step=note)
    assert torch.get_num_threads() == threads
    return found


def test_a_run_makes_what_a_job_with_its_config_makes(toy: ToyFolders, run: Run) -> None:
    toy.train(run.config, "job", RecordingHooks())
    of_job = toy.root / "job" / "checkpoints" / run.checkpoint.name
    assert (run.checkpoint / MODEL).read_bytes() == (of_job / MODEL).read_bytes()


def test_a_callback_is_told_of_every_step(run: Run, steps: list[Step]) -> None:
    assert [(one.step, one.total) for one in steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert steps[-1].figures["train_loss"] == run.figures["train_loss"]


def test_a_run_has_figures_curves_and_images(run: Run) -> None:
    assert (run.status, run.step) == ("succeeded", 4)
    assert {"fid", "kid", "null_fid", "train_loss"} <= run.figures.keys()
    assert [step for step, _ in run.curves["fid"]] == [2, 4]
    assert run.curves["fid"][-1] == (4, run.figures["fid"])
    assert list(run.images) == [0, 2, 4]
    assert run.report is not None
    assert run.report.is_file()


def test_images_are_drawn_by_name_by_number_and_without_a_class(run: Run) -> None:
    assert run.class_names == ("0", "1")
    named, numbered = run.sample("1", 2, steps=2), run.sample(1, 2, steps=2)
    assert [image.tobytes() for image in named] == [image.tobytes() for image in numbered]
    assert named[0].size == (32, 32)
    assert run.sample(n=1, steps=2)[0].tobytes() != named[0].tobytes()
    with pytest.raises(difftune.TaskError, match="there is no class 'rose'"):
        run.sample("rose")
    with pytest.raises(difftune.TaskError, match="follows no control"):
        run.sample("1", control=named[0])


def test_a_run_is_judged_by_other_images(toy: ToyFolders, run: Run) -> None:
    found = run.evaluate(toy.data, n=8)
    assert found["fid"] > 0
    assert found["recipe"]["fake_digest"] != found["recipe"]["real_digest"]


@pytest.fixture
def interrupts() -> Iterator[Callable[[Any], None]]:
    """Choose what an interrupt does; whoever started the tests may have it ignored."""
    before = signal.getsignal(signal.SIGINT)
    yield lambda handler: signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_ends_a_run_in_order_and_a_second_one_at_once(interrupts: Callable[[Any], None]) -> None:
    hooks = Listener("toy", show=False)
    interrupts(signal.default_int_handler)
    with interruptible(hooks):
        signal.raise_signal(signal.SIGINT)
        assert hooks.stop_requested() == "stop"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_that_is_ignored_stays_so(interrupts: Callable[[Any], None]) -> None:
    hooks = Listener("toy", show=False)
    interrupts(signal.SIG_IGN)
    with interruptible(hooks):
        signal.raise_signal(signal.SIGINT)
    assert hooks.stop_requested() is None


def test_a_folder_is_opened_again(toy: ToyFolders, run: Run) -> None:
    assert difftune.open_run(run.folder).figures == run.figures
    with pytest.raises(difftune.TaskError, match="is no folder of a run"):
        difftune.open_run(toy.data)


def test_what_is_wrong_is_named(toy: ToyFolders, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"learning_rat is no field of a job .* did you mean learning_rate\?"):
        train(toy, "none", learning_rat=0.1)
    with pytest.raises(difftune.TaskError, match="images: there is no"):
        difftune.train(tmp_path / "none.zip", out=tmp_path)
    with pytest.raises(ValueError, match="not both"):
        train(toy, "none", steps=1, epochs=1)


def test_two_folders_of_images_are_compared(toy: ToyFolders, tmp_path: Path) -> None:
    for number in range(8):
        Image.new("RGB", (32, 32), (number * 30, 0, 0)).save(tmp_path / f"{number}.png")
    assert difftune.evaluate(toy.data, tmp_path, metrics=["fid"])["fid"] > 0


def test_an_archive_of_splits_is_judged_by_its_own(toy: ToyFolders, tmp_path: Path) -> None:
    shutil.copytree(toy.data, tmp_path / "split" / "train")
    for label in ("0", "1"):
        (tmp_path / "split" / "val" / label).mkdir(parents=True)
        for number in range(4):
            image = Image.new("RGB", (32, 32), (number * 60, int(label) * 99, 7))
            image.save(tmp_path / "split" / "val" / label / f"{number}.png")
    (tmp_path / "split" / "train" / "0" / "broken.png").write_bytes(b"no picture")
    places = Places(models=[toy.models], on_bad_files="skip", splits="hold_out", cache=tmp_path / "cache")
    fields = {**FIELDS, "samples": {"num_images": 0}, "recipe": None}
    run = difftune.train(
        tmp_path / "split",
        model="toy",
        method="supervised",
        steps=1,
        out=tmp_path / "out",
        places=places,
        show=False,
        **fields,
    )
    told = json.loads((run.folder / "report.json").read_bytes())["dataset"]
    assert (told["num_train"], told["num_held_out"]) == (12, 8)
