"""The burst in small: what `python -m benchmarks.burst` measures with 200, in one process and with the fake trainer."""

from __future__ import annotations

import json
from collections import Counter
from types import SimpleNamespace

import pytest

from api.app import create_app
from api.keys import service as keys
from benchmarks.burst import Outcome, fine, measured
from tests.api.serving import serving
from tests.worker.conftest import Bench

COUNT = 6
PLAN = json.dumps({"steps": 1_000_000, "step_s": 0.05, "every": 1_000_000}).encode()


@pytest.mark.both_databases
def test_posts_of_every_kind_at_once_stop_neither_a_reader_nor_a_training(bench: Bench) -> None:
    with bench.database.write() as session:
        _, token = keys.create(session, tenant_id="t", name="burst")
    with bench.worker(), serving(create_app(bench.settings)) as port:
        found = measured(SimpleNamespace(url=f"http://127.0.0.1:{port}", key=token), COUNT, PLAN)
    assert (found["attempts"], found["status"]) == (1, "running")
    assert len(found["kinds"]) == 10
    for name, kind in found["kinds"].items():
        assert set(kind["first"]) <= {"200", "409", "429", "503"}, name
        assert kind["through"] == COUNT, name
        assert "wrong" not in kind, name


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(first=Counter({200: 2}), slowest_s=5.1, through=2),
        Outcome(first=Counter({200: 2}), slowest_s=1.0, through=1),
        Outcome(first=Counter({200: 1, 500: 1}), slowest_s=1.0, through=2, wrong=["500"]),
    ],
    ids=["late", "lost", "wrong"],
)
def test_a_burst_is_not_fine_when_an_answer_was_not(outcome: Outcome) -> None:
    assert not fine(outcome, 2)
    assert fine(Outcome(first=Counter({200: 2}), slowest_s=1.0, through=2), 2)
