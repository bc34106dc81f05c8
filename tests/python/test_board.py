"""What a run shows: a cell of a notebook, or lines."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from difftune.board import Board, named_figures


def told(board: Board) -> None:
    board.phase("building_retention_set")
    board.progress(2, 2)
    board.figures(4, {"train_loss": 0.5, "eval_fid": 12.3456})
    board.picture("step 4", b"png")
    board.end("succeeded")


def test_without_a_notebook_there_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    told(Board("flowers"))
    said = ["flowers: building retention set", "  building retention set: 2 of 2", "  step 4: fid 12.35"]
    assert capsys.readouterr().err.splitlines() == [*said, "flowers: succeeded"]


def test_a_phase_is_said_once_however_often_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    board = Board("flowers")
    for phase in ("training", "training", "succeeded"):
        board.phase(phase)
    board.end("succeeded")
    assert capsys.readouterr().err.splitlines() == ["flowers: training", "flowers: succeeded"]


def test_a_figure_that_training_logs_too_keeps_the_two_apart() -> None:
    values = {"retention_loss": 1.0, "eval_retention_loss": 2.0, "eval_fid": 3.0, "eval_kid": None}
    assert named_figures(values) == {"retention_loss": 1.0, "eval_retention_loss": 2.0, "fid": 3.0}


def test_nothing_is_said_where_nothing_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    told(Board("flowers", show=False))
    assert capsys.readouterr().err == ""


def test_in_a_notebook_a_cell_changes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shown: list[dict[str, Any]] = []
    cell = SimpleNamespace(update=lambda data, **_: shown.append(data))
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object())))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=lambda *_, **__: cell))
    told(Board("<flowers>"))
    last = shown[-1]["text/html"]
    assert "<b>&lt;flowers&gt;</b>: succeeded" in last
    assert "fid 12.35" in last
    assert 'src="data:image/png;base64,cG5n"' in last
    assert capsys.readouterr().err == ""
