"""`difftune plan`: the same arguments as `difftune submit`, and a card that a person can read."""

from __future__ import annotations

import json
from typing import Any, Self

import pytest
from typer.testing import CliRunner

from cli import submit
from cli.main import app
from tests.core.plan.test_plan import Circumstances, Device, plan

GIB = 1 << 30


class Planner:
    """A service that answers with a plan."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer = answer
        self.asked: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def ask(self, path: str, **arguments: Any) -> dict[str, Any]:
        self.asked = {"path": path, **arguments}
        return self.answer


def planned(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[Planner, str]:
    known = Circumstances(device=Device("NVIDIA A100", 40 * GIB), num_images=500)
    service = Planner(plan(known, batch_size=8).model_dump(mode="json"))
    monkeypatch.setattr(submit, "service", lambda *_: service)
    done = CliRunner().invoke(app, ["plan", "ds_1", *arguments])
    assert done.exit_code == 0, done.output
    return service, done.stdout


def test_a_plan_is_asked_for_as_a_job_is(monkeypatch: pytest.MonkeyPatch) -> None:
    service, told = planned(monkeypatch, "--max-steps", "10", "--set", "resources.micro_batch=2", "--json")
    assert service.asked["params"] == {"dry_run": True}
    assert service.asked["json"]["resources"] == {"micro_batch": 2}
    assert json.loads(told) == service.answer


def test_its_card_names_memory_storage_time_and_what_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    _, told = planned(monkeypatch)
    lines = {line[:16].strip(): line[16:] for line in told.splitlines()}
    assert lines["planned for"] == "NVIDIA A100, 40.0 GiB"
    assert lines["device memory"].endswith(("at most, while evaluating", "at most, while training"))
    assert "4 of 4 checkpoints of 10.1 GiB kept" in lines["storage"]
    assert "not known: " in lines["time"]
    assert "resources.precision = bf16" in told
