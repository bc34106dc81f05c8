"""What a machine computes with; GPUs are those of this machine, or pretended where only their fault matters."""

from __future__ import annotations

import os

import pytest
import torch

from difftune_core.runtime.devices import examine


def test_the_machine_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    cores = len(os.sched_getaffinity(0))
    assert examine() == {"torch": torch.__version__, "cuda": torch.version.cuda, "cores": cores, "gpus": []}


def test_a_gpu_that_cannot_compute_is_named_with_the_first_line_of_its_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_number: int) -> tuple[int, int]:
        raise RuntimeError("CUDA error: uncorrectable ECC error\nCompile with TORCH_USE_CUDA_DSA")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", broken)
    fault = {"free": 0, "total": 0, "fault": "CUDA error: uncorrectable ECC error"}
    assert examine()["gpus"] == [{"name": "GPU 0", **fault}, {"name": "GPU 1", **fault}]


def test_cores_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5, 7}, raising=False)
    assert examine()["cores"] == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 9)
    assert examine()["cores"] == 9
