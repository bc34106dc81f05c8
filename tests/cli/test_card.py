from __future__ import annotations

import time
from typing import Any

import pytest

from cli.card import card, left, length

JOB: dict[str, Any] = {
    "id": "ftjob_1",
    "suffix": "flowers",
    "status": "running",
    "status_details": {
        "phase": "training",
        "step": 40,
        "total_steps": 400,
        "done": 40,
        "total": 400,
        "queue_position": None,
        "steps_per_second": 2.5,
    },
    "error": None,
    "estimated_finish": None,
    "model": "tiny-dit",
    "method": {"type": "diff_tuning"},
    "training_file": "ds_1",
    "validation_file": None,
    "created_at": 1_796_000_000,
    "started_at": 1_796_000_060,
    "finished_at": None,
    "recoveries": 0,
    "best_checkpoint": None,
    "fine_tuned_model": None,
}
CHECKPOINT = {"id": "ckpt_1", "step_number": 40, "metrics": {"train_loss": 0.125, "eval_fid": 81.5, "lr": 1e-4}}


def shown(*checkpoints: dict[str, Any], **fields: Any) -> dict[str, str]:
    lines = card({**JOB, **fields}, list(checkpoints), []).splitlines()
    return {line[:14].strip(): line[14:] for line in lines}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(8.4, "8 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (7260, "2 h 1 min"), (90_000, "1 d 1 h")],
)
def test_a_length_of_time_is_told_in_two_units(seconds: float, text: str) -> None:
    assert length(seconds) == text


def test_a_running_job_shows_its_progress_and_its_newest_figures() -> None:
    lines = shown(CHECKPOINT)
    assert lines["status"] == "running, training"
    assert lines["progress"] == "step 40 of 400, 2.50 steps a second"
    assert lines["newest"] == "ckpt_1 at step 40: FID 81.5, training loss 0.125"
    assert lines["next"] == "difftune watch ftjob_1; difftune download ftjob_1"


def test_what_is_not_known_has_no_line() -> None:
    assert {"result", "best", "newest", "time left", "interrupted"}.isdisjoint(shown())


def test_a_failed_job_says_why() -> None:
    error = {"code": "diverged", "message": "The loss is not finite.", "param": None}
    assert shown(status="failed", error=error)["status"] == "failed: The loss is not finite. (diverged)"


def test_the_time_left_is_that_of_the_training() -> None:
    finish = {**JOB, "estimated_finish": time.time() + 125}
    assert left(finish).startswith("about 2 min")
    assert left(JOB) == ""
    evaluating = {**finish, "status_details": {**JOB["status_details"], "phase": "evaluating"}}
    assert left(evaluating).endswith("of training after this")
    trained = {**evaluating["status_details"], "step": 400}
    assert left({**evaluating, "status_details": trained}) == "", "an evaluation's end is not known"
