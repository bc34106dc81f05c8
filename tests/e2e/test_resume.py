"""Six cut points by every kind of stop, between two nodes; `python -m benchmarks.resume` makes fifty."""

from __future__ import annotations

from pathlib import Path

from benchmarks.resume import FORGETFUL, Cuts, run

PLAN = [("kill_trainer", 3), ("sigterm", 9), ("pause", 14), ("kill_worker", 19), ("preempt", 24), ("kill_trainer", 29)]


def test_six_stops_change_no_byte_and_a_resume_that_forgets_its_place_does(tmp_path: Path) -> None:
    found = run(tmp_path / "exact", [[], PLAN])
    assert [kind for kind, _ in found["cuts"]] == [kind for kind, _ in PLAN]
    assert {kind for kind, _ in PLAN} == set(Cuts.kinds())
    undisturbed, cut = found["digests"]
    assert undisturbed == cut
    assert found["inexact"] == 0
    control = run(tmp_path / "control", [[("kill_trainer", 20)]], FORGETFUL)
    assert control["digests"] != [undisturbed], "this test can fail"
