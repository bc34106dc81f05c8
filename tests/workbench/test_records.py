from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from difftune_core.config.transfer import TransferConfig
from workbench.study.results import core_table, gain_table, state
from workbench.study.runs import METHODS, Records, Setting, Workplace, record, run_missing
from workbench.study.suite import GROUPS, rows

PLANNED = [setting for group in GROUPS.values() for setting in group]


def entry(fid: float, step: int) -> dict[str, Any]:
    return {"step": step, "fid": fid, "kid": 0.1, "target_images": 32 * step, "forgetting": {"null_fid": 7.0}}


def finished(setting: Setting, fid: float) -> dict[str, Any]:
    marks = range(setting.every_steps or setting.steps, setting.steps + 1, setting.every_steps or setting.steps)
    references = {"base_model": entry(30.0, 0), "real_vs_real": {"fid": 1.0}, "autoencoder_floor": {"fid": 0.01}}
    return record(setting, {"evaluations": [entry(fid, step) for step in marks], "references": references})


@pytest.fixture
def records(tmp_path: Path) -> Records:
    """Greek letters: plain fine-tuning at 10, 11, 12 over seeds, the released recipe a tenth below it."""
    found = Records(tmp_path / "transfer.jsonl")
    for setting in rows("greek", ("supervised", "released")):
        fid = 10.0 + setting.seed
        found.add(finished(setting, fid if setting.method == "supervised" else 0.9 * fid))
    return found


def test_each_planned_run_is_another_one_with_a_place_of_its_own() -> None:
    assert len(set(PLANNED)) == len(PLANNED)
    place = Workplace(Path("somewhere"))
    assert len({place.run_folder(setting) for setting in PLANNED}) == len(PLANNED)


@pytest.mark.parametrize("method", METHODS)
def test_each_method_is_a_valid_config(method: str) -> None:
    setting = Setting(target="digits", method=method, seed=1, images_per_class=2, steps=3)
    config = TransferConfig.model_validate(setting.config)
    assert (config.method.hyperparameters.max_steps, config.seed) == (3, 1)


def test_a_finished_run_is_found_again_by_its_whole_setting(records: Records) -> None:
    again = Records(records.path)
    setting = rows("greek", ("released",))[2]
    kept = again.find(setting)
    assert kept is not None
    assert kept["evaluations"][-1] == {"step": 500, "fid": 10.8, "kid": 0.1, "target_images": 16000, "null_fid": 7.0}
    assert again.find(replace(setting, num_images=7)) is None


def test_only_what_is_missing_is_run_and_a_failure_loses_nothing(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def run(_: Workplace, setting: Setting) -> dict[str, Any]:
        tried.append((setting.method, setting.seed))
        if setting.seed == 1:
            raise RuntimeError
        return finished(setting, 5.0)

    monkeypatch.setattr(Workplace, "run", run)
    with pytest.raises(RuntimeError):
        run_missing(rows("greek", ("supervised", "algorithm1")), Workplace(Path("somewhere")), records)
    assert tried[:2] == [("algorithm1", 0), ("algorithm1", 1)]
    assert Records(records.path).find(rows("greek", ("algorithm1",))[0]) is not None


def test_tables_pair_the_seeds_and_leave_open_what_is_not_measured(records: Records) -> None:
    released = METHODS["released"][0]
    (row,) = [line for line in core_table(records, "greek") if line.startswith(f"| {released} |")]
    assert "| 9.90 ± 0.90 |" in row
    assert "| -1.10 (-1.35 to -0.85) |" in row, "Student's t of -1.0, -1.1, -1.2"
    assert core_table(records, "shapes") == ["Not measured yet."]
    assert f"| {released} | -10 % (3 of 3 seeds better) | – | – | – | – |" in gain_table(records)
    assert state(records)[0] == f"**6 of {len(PLANNED)} planned runs are finished.**"
