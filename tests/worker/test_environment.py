"""What a trainer's process sees of its surroundings: an allow-list, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker.environment import child_environment

NEEDED = (
    *("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "CUDA_HOME", "NVIDIA_VISIBLE_DEVICES"),
    *("PYTHONHASHSEED", "PYTHONWARNINGS", "PYTHONUTF8"),
)
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name in (*NEEDED, "DIFFTUNE_DATABASE_URL", "AWS_SECRET_ACCESS_KEY", "PYTHONSTARTUP", "HTTP_PROXY", "HOME"):
        monkeypatch.setenv(name, f"the worker's {name}")
    return child_environment(tmp_path, num_threads=3, gpu="2", traceparent="00-a-b-01", resident_bytes=7)


def test_what_a_trainer_needs_of_the_machine_is_handed_on_and_no_secret(seen: dict[str, str]) -> None:
    inherited = {name for name, value in seen.items() if value == f"the worker's {name}"}
    assert inherited == set(NEEDED)


def test_it_is_told_where_it_is_what_it_may_use_and_to_fetch_nothing(seen: dict[str, str], tmp_path: Path) -> None:
    assert (seen["HOME"], seen["TMPDIR"]) == (str(tmp_path),) * 2
    assert {seen[name] for name in THREADS} == {"3"}
    assert (seen["CUDA_VISIBLE_DEVICES"], seen["TRACEPARENT"]) == ("2", "00-a-b-01")
    assert (seen["HF_HUB_OFFLINE"], seen["TRANSFORMERS_OFFLINE"], seen["PYTHONUNBUFFERED"]) == ("1", "1", "1")
    assert (seen["CUBLAS_WORKSPACE_CONFIG"], seen["DIFFTUNE_RESIDENT_BYTES"]) == (":4096:8", "7")


def test_without_a_gpu_or_a_trace_it_is_told_of_none(tmp_path: Path) -> None:
    assert not {"CUDA_VISIBLE_DEVICES", "TRACEPARENT"} & child_environment(tmp_path, num_threads=1, gpu=None).keys()
