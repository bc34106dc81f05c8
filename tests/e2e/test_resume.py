"""Six cut points by every kind of stop, between two nodes; `python -m benchmarks.resume` makes fifty."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.resume import FORGETFUL, Cuts, run

PLAN = [("kill_trainer", 3), ("sigterm", 9), ("pause", 14), ("kill_worker", 19), ("preempt", 24), ("kill_trainer", 29)]


def test_every_kind_of_stop_changes_no_byte(tmp_path: Path) -> None:
    found = run(tmp_path, [[], PLAN])
    assert [kind for kind, _ in found["cuts"]] == [kind for kind, _ in PLAN]
    assert {kind for kind, _ in PLAN} == set(Cuts.kinds())
    undisturbed, cut = found["digests"]
    assert undisturbed == cut
    assert found["inexact"] == 0


@pytest.mark.long
def test_a_resume_that_forgets_its_place_is_noticed(tmp_path: Path) -> None:
    undisturbed = run(tmp_path / "undisturbed", [[]])
    control = run(tmp_path / "control", [[("kill_trainer", 20)]], FORGETFUL)
    assert control["cuts"]
    assert control["digests"] != undisturbed["digests"]
