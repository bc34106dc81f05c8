"""The cache of latents: the same bytes however it came about, in files that are made again one by one."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import UInt8
from torch import Tensor

from difftune_core.data.latents import LatentSet, StoredLatents, cached_latents
from difftune_core.files import is_disk_full, sha256_file
from difftune_core.runtime import sharded
from difftune_core.runtime.tensors import save_tensors

COUNT, ROWS = 300, 64
IMAGES = np.random.default_rng(0).integers(0, 255, (COUNT, 8, 8, 3), dtype=np.uint8)
LABELS = torch.arange(COUNT) % 3


class Averages:
    """An autoencoder whose latents are means of 2 x 2 pixels; counts its images, and fails after some."""

    def __init__(self, enough: int = 10**9) -> None:
        self.seen, self.enough = 0, enough

    def encode(self, images: UInt8[np.ndarray, "n s s 3"]) -> tuple[Tensor, Tensor]:
        if self.seen >= self.enough:
            raise KeyboardInterrupt
        self.seen += len(images)
        small = torch.from_numpy(images).float().reshape(len(images), 4, 2, 4, 2, 3).mean((2, 4)).permute(0, 3, 1, 2)
        return (small / 255).half(), (small / 2550).half()


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., StoredLatents]:
    monkeypatch.setattr(sharded, "_ROWS", ROWS)

    def of(encoder: Averages, *, flip: bool = True) -> StoredLatents:
        settings: dict[str, Any] = {"autoencoder": "averages", "flip": flip, "cache": tmp_path}
        return cached_latents(IMAGES, LABELS, load_autoencoder=lambda: encoder, **settings)

    return of


def shards(folder: Path) -> list[Path]:
    return sorted(folder.rglob("rows-*"))


def at_once(*, flip: bool) -> LatentSet:
    sides = [IMAGES, IMAGES[:, :, ::-1].copy()] if flip else [IMAGES]
    mean, std = (torch.stack(part) for part in zip(*map(Averages().encode, sides), strict=True))
    return LatentSet(mean, std, LABELS, "")


def test_labels_go_where_the_batches_go(cached: Any) -> None:
    assert cached(Averages()).to("meta").labels.device.type == "meta"


@pytest.mark.parametrize("flip", [False, True])
def test_a_set_in_files_is_the_set_made_at_once(cached: Any, tmp_path: Path, flip: bool) -> None:
    whole, stored = at_once(flip=flip), cached(Averages(), flip=flip)
    assert len(shards(tmp_path)) == 5
    resident = stored.resident("cpu")
    assert torch.equal(resident.mean, whole.mean)
    assert torch.equal(resident.std, whole.std)
    assert torch.equal(stored.means(60, 130), whole.mean[0, 60:130])
    indices, noise = torch.tensor([299, 0, 64, 64, 128]), torch.randn(5, 3, 4, 4)
    sides = torch.tensor([True, False, True, False, True])
    stored.prefetch(indices)
    assert torch.equal(stored.draw(indices, sides, noise), whole.draw(indices, sides, noise))
    one_file = tmp_path / "one.safetensors"
    save_tensors({"mean": whole.mean, "std": whole.std, "labels": LABELS}, one_file)
    assert stored.digest == resident.digest == sha256_file(one_file), "as version 0.3.0 calls it in checkpoints"


def test_who_comes_after_a_kill_goes_on_with_the_files_that_are_whole(cached: Any, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        cached(Averages(enough=6 * ROWS))
    first, second, third = shards(tmp_path)
    os.truncate(second, 500)
    third.write_bytes(third.read_bytes()[:-1] + b"?")
    kept = first.stat().st_mtime_ns
    encoder = Averages()
    assert torch.equal(cached(encoder).resident("cpu").mean, at_once(flip=True).mean)
    assert encoder.seen == 2 * (COUNT - ROWS)
    assert shards(tmp_path)[0].stat().st_mtime_ns == kept
    assert not list(tmp_path.rglob("*.parts"))


@pytest.mark.parametrize("damage", [lambda path: os.truncate(path, 10), lambda path: path.write_bytes(b"?" * 9000)])
def test_of_a_finished_cache_the_torn_file_alone_is_made_again(cached: Any, tmp_path: Path, damage: Any) -> None:
    cached(Averages())
    damage(shards(tmp_path)[3])
    encoder = Averages()
    assert torch.equal(cached(encoder).resident("cpu").std, at_once(flip=True).std)
    assert encoder.seen == 2 * ROWS


def test_a_full_disk_loses_nothing(cached: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        if len(list(tmp_path.rglob("*.parts/rows-*"))) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        save_tensors(*args)

    with monkeypatch.context() as patch:
        patch.setattr(sharded, "save_tensors", full)
        with pytest.raises(OSError, match="No space") as caught:
            cached(Averages())
    assert is_disk_full(caught.value)
    assert len(shards(tmp_path)) == 2
    encoder = Averages()
    cached(encoder)
    assert encoder.seen == 2 * (COUNT - 2 * ROWS)


def test_two_jobs_at_once_encode_once(cached: Any) -> None:
    encoders = [Averages(), Averages()]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(cached, encoders))
    assert sorted(encoder.seen for encoder in encoders) == [0, 2 * COUNT]
    assert found[0].digest == found[1].digest
    assert torch.equal(found[0].means(0, COUNT), found[1].means(0, COUNT))


def test_what_version_0_3_0_made_is_taken(cached: Any, tmp_path: Path) -> None:
    made, whole = cached(Averages()), at_once(flip=True)
    (folder,) = {path.parent for path in shards(tmp_path)}
    for path in folder.iterdir():
        path.unlink()
    save_tensors({"mean": whole.mean, "std": whole.std, "labels": LABELS}, folder / "latents.safetensors")
    stored = cached(Averages(enough=0))
    assert stored.digest == made.digest
    assert torch.equal(stored.resident("cpu").mean, whole.mean)
    assert torch.equal(stored.means(3, 9), whole.mean[0, 3:9])
