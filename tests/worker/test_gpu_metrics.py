"""What a scrape tells of this machine's GPUs, by an `nvidia-smi` that is a script of ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.telemetry import GpuMemory


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program, which is not there yet."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path / "nvidia-smi"


def scraped() -> dict[str, dict[str, float]]:
    return {family.name: {s.labels["gpu"]: s.value for s in family.samples} for family in GpuMemory().collect()}


def test_each_gpu_is_told_in_bytes_and_shares_and_what_it_does_not_say_is_left_out(smi: Path) -> None:
    smi.write_text("#!/bin/sh\necho '0, 1024, 81559, 37'\necho '1, 3, 81559, [N/A]'\n")
    smi.chmod(0o755)
    assert scraped() == {
        "difftune_gpu_memory_used_bytes": {"0": 1024 * 2**20, "1": 3 * 2**20},
        "difftune_gpu_memory_total_bytes": {"0": 81559 * 2**20, "1": 81559 * 2**20},
        "difftune_gpu_utilization_ratio": {"0": pytest.approx(0.37)},
    }


def test_it_is_asked_for_exactly_that(smi: Path, tmp_path: Path) -> None:
    smi.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    smi.chmod(0o755)
    scraped()
    asked = (tmp_path / "asked").read_text()
    assert "index,memory.used,memory.total,utilization.gpu" in asked
    assert "csv,noheader,nounits" in asked


def test_without_gpus_or_with_a_driver_that_fails_nothing_is_told(smi: Path) -> None:
    assert scraped() == {}
    smi.write_text("#!/bin/sh\nexit 9\n")
    smi.chmod(0o755)
    assert scraped() == {}
