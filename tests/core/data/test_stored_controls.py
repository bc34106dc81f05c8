"""Control images in files: the same that would be resident, whether they were drawn or given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from difftune_core.config.transfer import TransferConfig
from difftune_core.data.controlled import (
    ControlledSet,
    StoredControls,
    cached_controls,
    controls_on,
    given_controls,
)
from difftune_core.data.latents import LatentSet
from difftune_core.diffusion.process import DDPM
from difftune_core.families.batch import make_batch
from difftune_core.families.controlnet.batch import ControlledData
from difftune_core.runtime import sharded
from difftune_core.runtime.sharded import Sharded
from difftune_core.runtime.tensors import save_tensors

CPU = torch.device("cpu")
IMAGES = np.random.default_rng(0).integers(0, 255, (150, 4, 4, 3), dtype=np.uint8)
CHOSEN = torch.tensor([149, 3, 3, 64])


def negative(image: np.ndarray) -> np.ndarray:
    return 255 - image


def drawn(cache: Path, draw: Any = negative) -> Any:
    rows = cached_controls(IMAGES, condition="negative", drawn_by="1", cache=cache, load_annotator=lambda: draw)
    return controls_on(CPU, rows)


@pytest.fixture(params=["drawn", "given"])
def both(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """The control images, resident and in files."""
    monkeypatch.setattr(sharded, "_ROWS", 64)

    def made() -> Any:
        return drawn(tmp_path) if request.param == "drawn" else given_controls(negative(IMAGES), CPU, tmp_path)

    resident = made()
    monkeypatch.setenv("DIFFTUNE_RESIDENT_BYTES", "0")
    return resident, made()


def test_controls_in_files_are_those_that_are_resident(both: tuple[Any, Any]) -> None:
    resident, stored = both
    assert isinstance(stored, StoredControls)
    assert torch.equal(resident, torch.from_numpy(negative(IMAGES)).permute(0, 3, 1, 2))
    assert torch.equal(stored[:], resident)
    assert torch.equal(stored[60:70], resident[60:70])
    prompts, zeros = torch.zeros(150, dtype=torch.long), torch.zeros(1, 150, 1, 1, 1).half()
    latents = LatentSet(zeros, zeros, prompts, "")
    one, other = (ControlledSet(latents, controls, torch.zeros(1, 1, 1).half(), prompts) for controls in both)
    assert torch.equal(one.controls_of(CHOSEN), resident[CHOSEN])
    assert torch.equal(other.controls_of(CHOSEN), resident[CHOSEN])
    assert other.controls_of(CHOSEN).is_contiguous()


def test_a_step_reads_what_the_step_before_has_begun_to_read(
    both: tuple[Any, Any], ddpm: DDPM, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, zeros = torch.zeros(150, dtype=torch.long), torch.zeros(1, 150, 4, 2, 2).half()
    rows = ControlledSet(LatentSet(zeros, zeros, prompts, ""), both[1], torch.zeros(1, 1, 1).half(), prompts)
    data = ControlledData(target=rows, retention=rows, empty_prompt=0, process=ddpm, unet=None)
    stated = {"model": "m", "control": {"condition": "edge"}, "method": {"type": "diff_tuning"}}
    config = TransferConfig.model_validate(stated)
    begun, read = list[set[int]](), list[set[int]]()
    gather, prefetch = Sharded.gather, Sharded.prefetch
    monkeypatch.setattr(Sharded, "gather", lambda *given: (read.append(set(given[1].tolist())), gather(*given))[1])
    monkeypatch.setattr(Sharded, "prefetch", lambda *given: (begun.append(set(given[1].tolist())), prefetch(*given)))
    make_batch(config, data, 0)
    announced = list(begun)
    read.clear()
    make_batch(config, data, 1)
    assert sorted(map(sorted, read)) == sorted(map(sorted, announced))
    assert len(read) == 2, "the target's and the retention set's"


def test_drawing_goes_on_where_it_was_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharded, "_ROWS", 64)
    count = 0

    def counted(image: np.ndarray) -> np.ndarray:
        nonlocal count
        if count == 140:
            raise KeyboardInterrupt
        count += 1
        return negative(image)

    with pytest.raises(KeyboardInterrupt):
        drawn(tmp_path, counted)
    count = 0
    assert torch.equal(drawn(tmp_path, counted), drawn(tmp_path / "whole"))
    assert count == 150 - 128


def test_what_version_0_3_0_drew_is_taken(tmp_path: Path) -> None:
    found = drawn(tmp_path)
    (path,) = tmp_path.rglob("rows-*")
    for file in path.parent.iterdir():
        file.unlink()
    save_tensors({"controls": torch.from_numpy(negative(IMAGES))}, path.with_name("controls.safetensors"))
    assert torch.equal(drawn(tmp_path, None), found)
