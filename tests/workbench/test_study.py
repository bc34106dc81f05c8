"""The study's plan and records: what is planned is fixed, what is done is not done again."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from difftune_core.config.resolution import resolve
from difftune_core.config.transfer import TransferConfig
from tests.core.test_config import CARD
from workbench.study.__main__ import keep, missing, records, status
from workbench.study.plan import PLAN

PAGE = Path(__file__).parents[2] / "workbench" / "study" / "PLAN.md"


def done(row: int) -> dict[str, object]:
    return {"row": PLAN[row].name, **PLAN[row].told(), "evaluations": [], "cpu_seconds": 12.0}


def test_the_plan_has_the_rows_that_its_page_counts() -> None:
    assert len({row.name for row in PLAN}) == len(PLAN)
    assert Counter(row.study for row in PLAN) == {"A": 72, "B": 27}
    assert f"{len(PLAN)} rows." in PAGE.read_text(encoding="utf-8")


def test_every_row_is_a_config_that_can_be_submitted() -> None:
    methods = {json.dumps(row.config["method"]): row for row in PLAN}
    for row in methods.values():
        resolved = resolve(TransferConfig.model_validate(row.config), CARD, num_threads=1)
        assert resolved.method.hyperparameters.max_steps == row.steps
        assert row.steps % row.every_steps == 0


def test_a_row_that_is_done_is_not_run_again_and_one_of_another_setting_is(tmp_path: Path) -> None:
    path = tmp_path / "results" / "rows.jsonl"
    keep(done(0), path)
    keep(done(2) | {"steps": 1}, path)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"row": "cut off by a cra')
    keep(done(3), path)
    left = missing(records(path))
    assert PLAN[0] not in left
    assert PLAN[2] in left
    assert len(left) == len(PLAN) - 2


def test_the_status_counts_what_is_done() -> None:
    told = status([done(0), done(1)])
    assert f"B: 2 of 27 rows done\nall: 2 of {len(PLAN)} rows done" in told
    assert "A: 0 of 72 rows done" in told
