from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

import difftune_core
from difftune_core.config.retention import RetentionSetConfig
from difftune_core.families.base_model import BaseModel
from difftune_core.families.table import find_base_model
from difftune_core.files import COMPUTED
from difftune_core.retention.bank import retention_set
from difftune_core.retention.sample import CHUNK

BUNDLED = Path(difftune_core.__path__[0]) / "weights"
TWO_CHUNKS = RetentionSetConfig(num_images=CHUNK + 2, num_inference_steps=1, guidance_scale=1.0)


@pytest.fixture(scope="module")
def base() -> BaseModel:
    torch.set_num_threads(1)
    return find_base_model("tiny-dit", [BUNDLED])


def stop_after_one_chunk(done: int) -> None:
    if done == CHUNK:
        raise InterruptedError


def test_what_is_damaged_is_sampled_again(base: BaseModel, tmp_path: Path) -> None:
    """First a chunk of a set that is half made, then the set itself."""
    with pytest.raises(InterruptedError):
        retention_set(base, TWO_CHUNKS, tmp_path / "damaged", progress=stop_after_one_chunk)
    (chunk,) = (tmp_path / "damaged" / COMPUTED / "retention").glob(".*.chunks/*")
    data = bytearray(chunk.read_bytes())
    data[-1] ^= 0xFF
    chunk.write_bytes(data)
    made = retention_set(base, TWO_CHUNKS, tmp_path / "damaged").images.copy()  # not mapped from the file that is cut
    assert np.array_equal(made, retention_set(base, TWO_CHUNKS, tmp_path / "whole").images)

    (images,) = (tmp_path / "damaged" / COMPUTED / "retention").glob("*/images.safetensors")
    os.truncate(images, 100)
    assert np.array_equal(retention_set(base, TWO_CHUNKS, tmp_path / "damaged").images, made)
