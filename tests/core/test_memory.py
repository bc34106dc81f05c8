"""A lack of memory has one name, whoever finds it."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from difftune_core.__main__ import _guarded
from difftune_core.hooks import Hooks, OutcomeEvent, TaskError
from difftune_core.runtime.foreign import reading
from tests.core.conftest import RecordingHooks

FAR_TOO_MUCH = 1 << 50
LIMIT = 3 << 30  # of addresses: torch alone takes some of it


def by_torch() -> object:
    return torch.empty(FAR_TOO_MUCH)


def by_numpy() -> object:
    return np.empty(FAR_TOO_MUCH)


def by_python() -> object:
    return bytearray(FAR_TOO_MUCH)


def while_reading_weights() -> object:
    with reading("vae/", "vae", "unreadable_weights"):
        return torch.empty(FAR_TOO_MUCH)


def on_a_gpu() -> object:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 8 GiB")


def outcome_of(work: Callable[[], object], command: str = "train") -> OutcomeEvent:
    def run(_args: argparse.Namespace, _hooks: Hooks) -> OutcomeEvent:
        work()
        return OutcomeEvent(code="succeeded")

    return _guarded(argparse.Namespace(command=run, name=command), RecordingHooks())


@pytest.mark.parametrize("work", [by_torch, by_numpy, by_python, while_reading_weights, on_a_gpu])
def test_a_training_that_lacks_memory_is_told_to_take_smaller_batches(work: Callable[[], object]) -> None:
    outcome = outcome_of(work)
    assert (outcome.code, outcome.param) == ("out_of_memory", "batch_size")
    assert "smaller batch_size" in outcome.message
    assert ("GPU" in outcome.message) == (work is on_a_gpu)


@pytest.mark.parametrize("command", ["retain", "evaluate", "analyse", "validate"])
def test_other_work_names_no_field_that_it_does_not_have(command: str) -> None:
    outcome = outcome_of(by_torch, command)
    assert (outcome.code, outcome.param) == ("out_of_memory", None)
    assert "more memory" in outcome.message


def test_what_only_speaks_of_memory_is_not_a_lack_of_it() -> None:
    def names_a_class() -> None:
        raise TaskError("class_mismatch", "the classes of the two files differ: out of memory")

    assert outcome_of(names_a_class).code == "class_mismatch"


@pytest.mark.long  # the memory must really be used up
def test_a_child_under_a_limit_of_addresses_says_it_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(3):
            pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / label / f"{number}.png")
    given = {"max_steps": 1, "batch_size": 32_768}
    config = {"model": "tiny-dit", "method": {"type": "supervised", "supervised": {"hyperparameters": given}}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "difftune_core", "train", tmp_path / "config.json"),
            *("--data", tmp_path / "data", "--out", tmp_path / "out"),
        ],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT)),  # no threads yet
    )
    assert done.returncode == 1
    assert "out_of_memory: The machine has not enough memory. Take a smaller batch_size" in done.stderr
