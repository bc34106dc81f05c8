from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from difftune_core.runtime.tensors import save_tensors

TENSORS = {"b": torch.arange(6).reshape(2, 3), "a": torch.ones(2)}


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_gets_the_rights_of_any_new_file(tmp_path: Path, umask: int) -> None:
    save_tensors(TENSORS, tmp_path / "new")
    assert rights(tmp_path / "new") == 0o666 & ~umask
    assert (tmp_path / "new").read_bytes() == save(TENSORS)
    save_file(TENSORS, tmp_path / "theirs")
    assert rights(tmp_path / "theirs") == 0o600, "else the helper is not needed any more"


def test_a_file_that_is_there_is_replaced_and_keeps_its_rights(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    path.chmod(0o640)
    save_tensors({"a": TENSORS["b"].T}, path, {"step": "1"})
    assert rights(path) == 0o640
    assert torch.equal(load_file(path)["a"], TENSORS["b"].T)
    assert [found.name for found in tmp_path.iterdir()] == ["file"]
