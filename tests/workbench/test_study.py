"""The study's plan and records: what is planned is fixed, what is done is not done again."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from difftune_core.config.resolution import resolve
from difftune_core.config.transfer import TransferConfig
from tests.core.test_config import CARD
from workbench.study.__main__ import keep, missing, records, status
from workbench.study.analysis import effects, growth, turning_points
from workbench.study.plan import PLAN

PAGE = Path(__file__).parents[2] / "workbench" / "study" / "PLAN.md"


def done(row: int) -> dict[str, object]:
    record = {"row": PLAN[row].name, **PLAN[row].told(), "evaluations": [], "cpu_seconds": 12.0}
    found: dict[str, object] = json.loads(json.dumps(record))  # as a file has it
    return found


def test_the_plan_has_the_rows_that_its_page_counts() -> None:
    assert len({row.name for row in PLAN}) == len(PLAN)
    assert Counter(row.study for row in PLAN) == {"A": 72, "B": 27, "N": 18}
    page = PAGE.read_text(encoding="utf-8")
    assert "99 rows." in page
    assert f"{len(PLAN)} rows in all" in page


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
    for line in ("A: 0 of 72 rows done", "B: 2 of 27 rows done", f"all: 2 of {len(PLAN)} rows done"):
        assert line in told.splitlines()


def run(study: str, method: str, seed: int, fids: list[float], **more: object) -> dict[str, object]:
    entries = [
        {"step": 100 * (i + 1), "short": {"fid": fid, "copies": 0.5}, "handover": {"0.2": {"fid": fid - 1.0}}}
        for i, fid in enumerate(fids)
    ]
    guided = {"short": {name: {"fid": min(fids) + 1} for name in ("none", "domain")}}
    named = {"study": study, "target": "digits", "method": method, "seed": seed, "images_per_class": 2}
    return {**named, "evaluations": entries, "at_lowest": guided, "training_set": {"fid": 9.0}} | more


def test_effects_are_shares_of_plain_fine_tuning_seed_by_seed() -> None:
    """Plain 10 and 20; the released kind of retention adds 1 and 4 beside each weight: 10 % and 20 %."""
    done = [
        run("A", f"{weight}+{kind}", seed, [50.0, plain * factor + added, 60.0])
        for seed, plain, by_retention in ((0, 10.0, 1.0), (1, 20.0, 4.0))
        for weight, factor in (("none", 1.0), ("p2", 0.8), ("psi", 0.7))
        for kind, added in (("none", 0.0), ("released", by_retention), ("decaying", 0.0))
    ]
    found = effects(done, "digits")
    assert found["seeds"] == [0, 1]
    assert found["cfg"]["released"]["primary"]["mean"] == 0.15
    assert found["cfg"]["decaying"]["primary"] == {"mean": 0.0, "low": 0.0, "high": 0.0, "n": 2}
    assert found["cfg"]["p2"]["mean"] == -0.2
    alone = [record for record in done if record["method"] != "psi+released"]
    assert effects(alone, "digits")["cfg"]["released"]["primary"] is None, "a missing cell leaves its mean out"


def test_turning_points_are_where_fid_is_lowest_and_grow_with_the_images() -> None:
    done = [run("B", "plain", 0, [30.0, 10.0, 20.0]), run("B", "plain", 1, [30.0, 12.0, 20.0])]
    done += [run("B", "plain", 0, [9.0] * 19 + [5.0], images_per_class=20)]
    found = turning_points(done)
    assert found["20"]["plain"]["step"] == 200
    assert found["20"]["plain"]["epochs"] == 320
    assert found["20"]["plain"]["fid"]["mean"] == 11.0
    assert found["20"]["plain"]["fid_with_handover"]["mean"] == 10.0
    assert growth(found) == {"plain": 1.0}, "ten times the images, ten times the steps"
