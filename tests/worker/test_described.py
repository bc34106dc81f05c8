"""What a worker tells of the device that it trains on."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.gpus import Gpus


def driver(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a driver's program first in the path."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo 'NVIDIA A100-SXM4, rev. B, 40960'", ("NVIDIA A100-SXM4, rev. B", 40960 << 20)),
        ("echo 'No devices were found'", ("GPU", None)),
        ("exit 9", ("GPU", None)),
    ],
    ids=["whole", "not understood", "failing"],
)
def test_a_gpu_is_told_by_name_and_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, told: tuple[str, int | None]
) -> None:
    driver(tmp_path, monkeypatch, script)
    assert Gpus(("0",), 1).described() == told


def test_without_gpus_it_is_the_machine() -> None:
    name, memory = Gpus((), 2).described()
    assert name == "cpu"
    assert memory is not None
    assert memory > 2**28
