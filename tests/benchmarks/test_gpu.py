"""The GPU's benchmark runs in small on a CPU: every row is told, and every guard holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.__main__ import ROWS, main

QUICK = ("T1,T3",)


def lines_of(rows: tuple[str, ...], out: Path) -> list[dict[str, Any]]:
    assert main(["--out", str(out), "--rows", *rows]) == 0
    return [json.loads(line) for line in (out / "gpu.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_step_is_told_beside_the_released_trainers(tmp_path: Path) -> None:
    lines = {line["benchmark"]: line for line in lines_of(QUICK, tmp_path) if "benchmark" in line}
    assert lines.keys() == {"T1", "T3"}
    assert lines["T1"]["guard"]["cosine"] > 0.999
    assert not any("bar" in line for line in lines.values()), "of a small network on a CPU nothing is claimed"


def test_a_row_without_time_is_told_as_skipped(tmp_path: Path) -> None:
    main(["--out", str(tmp_path), "--rows", "T9", "--minutes", "0"])
    assert "skipped" in json.loads((tmp_path / "gpu.jsonl").read_text(encoding="utf-8"))


@pytest.mark.long
@pytest.mark.filterwarnings("default")
def test_all_other_rows_run_too(tmp_path: Path) -> None:
    lines = lines_of(tuple(name for name in ROWS if name not in QUICK), tmp_path)
    assert {name for name in ROWS if name not in QUICK} == {line["row"] for line in lines}
    assert [line["row"] for line in lines if "skipped" in line] == ["T8"]
    told = {line["benchmark"]: line["value"] for line in lines if "benchmark" in line}
    assert {"T2", "T4", "T5", "T6", "T9", "S1", "S2", "V7", "C1", "C2", "C3"} <= told.keys()
    assert told["T7"] == 0, "a step waits for nothing"
    assert told["C4"] == 0, "a step asks neither autoencoder nor text encoder"
