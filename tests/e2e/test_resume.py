"""Cut points by every kind of stop, between two nodes; `python -m benchmarks.resume` makes fifty."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.resume import FORGETFUL, ORDERLY, Cuts, Moment, run

PLAN = [
    ("kill_trainer", Moment(3, "training")),
    ("sigterm", Moment(9, "training")),
    ("kill_worker", Moment(13, "training")),
    ("pause", Moment(19, "training")),
    ("preempt", Moment(24, "training")),
]
QUICKLY = {
    "num_images": 4,
    "num_inference_steps": 2,
    "every_steps": None,
}  # stops while a job is judged: tests/core/train


@pytest.mark.long
def test_every_kind_of_stop_changes_no_byte(tmp_path: Path) -> None:
    found = run(tmp_path, [[], PLAN], evaluation=QUICKLY)
    assert {cut.kind for cut in found["cuts"]} == set(Cuts.kinds())
    assert not [cut for cut in found["cuts"] if cut.kind in ORDERLY and cut.lost]
    undisturbed, cut = found["digests"]
    assert undisturbed == cut
    assert found["inexact"] == 0


@pytest.mark.long
def test_a_resume_that_forgets_its_place_is_noticed(tmp_path: Path) -> None:
    undisturbed = run(tmp_path / "undisturbed", [[]])
    control = run(tmp_path / "control", [[("kill_trainer", Moment(20, "training"))]], FORGETFUL)
    assert control["cuts"]
    assert control["digests"] != undisturbed["digests"]
