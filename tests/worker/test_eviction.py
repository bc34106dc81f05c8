"""A node's shared cache stays within its budget, and loses nothing that a run at work uses."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from api.datasets.models import Dataset
from difftune_core.files import COMPUTED, build_once
from difftune_core.holding import hold, holding
from tests.worker.conftest import Bench
from worker import eviction
from worker.eviction import evict
from worker.workspace import cached_dataset

_HOUR_S = 3600.0


def entry(path: Path, *, hours: float, size: int = 1000) -> Path:
    """A file of a cache that was used some hours ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    used = path if path.parent.name == "datasets" else path.parent
    os.utime(used, (0, time.time() - hours * _HOUR_S))
    return used


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_what_was_used_least_recently_goes_first(cache: Path) -> None:
    newest = entry(cache / "datasets" / "a.zip", hours=1)
    oldest = entry(cache / "models-2" / "b" / "weights", hours=9)
    older = entry(cache / COMPUTED / "latents" / "c" / "file", hours=5)
    assert evict(cache, 10_000) == 0
    assert evict(cache, 1999) == 2000
    assert [path.exists() for path in (oldest, older, newest)] == [False, False, True]
    assert not list(cache.rglob(".incoming*"))
    assert evict(cache / "none", 0) == 0


def test_what_is_held_was_just_fetched_or_is_being_built_stays(cache: Path) -> None:
    held = entry(cache / COMPUTED / "text" / "held" / "file", hours=99)
    loose = entry(cache / COMPUTED / "text" / "loose" / "file", hours=98)
    fresh = entry(cache / "datasets" / "fresh.zip", hours=0)
    growing = entry(cache / COMPUTED / "retention" / ".x.chunks" / "0", hours=20)
    given_up = entry(cache / COMPUTED / "retention" / ".y.chunks" / "0", hours=30)
    with holding():
        build_once(held, lambda _: pytest.fail("it is there"))
        os.utime(held, (0, 0))
        assert evict(cache, 0) == 2000
    assert [path.exists() for path in (held, fresh, growing, loose, given_up)] == [True, True, True, False, False]
    assert evict(cache, 0) == 1000, "the block has ended"


def test_an_entry_that_went_meanwhile_is_not_held(cache: Path) -> None:
    assert hold(cache / "datasets" / "a.zip") is None


def test_without_a_budget_the_cache_leaves_as_much_free(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        entry(cache / "datasets" / f"{number}.zip", hours=10 - number)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4000))
    assert evict(cache, None) == 0
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2000))
    assert evict(cache, None) == 1000


def test_of_two_jobs_the_one_at_work_keeps_its_data_set(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eviction, "_FRESH_S", 0.0)
    bench.settings = bench.settings.model_copy(update={"cache_bytes": 0, "gpu_slots": 2})
    plans = ({"steps": 1000, "step_s": 0.05}, {"steps": 5})
    datasets = [bench.dataset({**plan, "name": number}) for number, plan in enumerate(plans)]
    files = [cached_dataset(bench.settings.data_dir, str(_sha256(bench, id_))) for id_ in datasets]
    long, short = (bench.job(plan, dataset=id_) for plan, id_ in zip(plans, datasets, strict=True))
    with bench.worker():
        bench.wait(lambda: bench.steps(long))
        bench.wait_final(short)
        bench.wait(lambda: not files[1].exists())
        assert files[0].exists()
        bench.cancel(long)
        bench.wait_final(long)
        bench.wait(lambda: not files[0].exists())


def _sha256(bench: Bench, dataset_id: str) -> str | None:
    return bench.get(Dataset, dataset_id).sha256
