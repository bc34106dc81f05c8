"""While database or store do not answer a run asks again, after pauses, as long as the work is its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy.exc import InterfaceError, OperationalError

from api.storage import ObjectInfo, StoreError
from api.work.repository import LeaseLostError
from difftune_core.hooks import FileInfo, TaskError
from worker.run import Run

GONE = OperationalError("SELECT 1", {}, Exception("gone"))
CLOSED = InterfaceError("SELECT 1", {}, Exception("closed"))


class Answers:
    """Gives one answer after the other; raises those that are errors."""

    def __init__(self, *answers: Any) -> None:
        self._answers = iter(answers)
        self.options: dict[str, Any] = {}

    def __call__(self, *_given: Any, **options: Any) -> Any:
        self.options = options
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it has waited each time, instead of waiting."""
    waited: list[float] = []
    monkeypatch.setattr("worker.run.time", SimpleNamespace(sleep=waited.append))
    return waited


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Run]:
    def make(put: Answers | None = None, check: Callable[[], None] = lambda: None, heartbeat_s: float = 5.0) -> Run:
        settings = SimpleNamespace(heartbeat_s=heartbeat_s, data_dir=tmp_path)
        tools = SimpleNamespace(settings=settings, store=SimpleNamespace(put_file=put))
        heartbeat = SimpleNamespace(check=check, progressed=lambda: None)
        stub = SimpleNamespace(tools=tools, heartbeat=heartbeat)
        stub.insist = lambda act: Run.insist(cast("Run", stub), act)
        stub.upload = lambda *args, **options: Run.upload(cast("Run", stub), *args, **options)
        return cast("Run", stub)

    return make


@pytest.mark.parametrize(("heartbeat_s", "pause_s"), [(5.0, 1.0), (0.2, 0.2)])
def test_a_database_that_does_not_answer_is_asked_again_after_a_pause(
    run: Callable[..., Run], pauses: list[float], heartbeat_s: float, pause_s: float
) -> None:
    assert run(heartbeat_s=heartbeat_s).insist(Answers(GONE, CLOSED, "written")) == "written"
    assert pauses == [pause_s] * 2


def test_it_is_not_asked_again_once_the_work_is_anothers(run: Callable[..., Run], pauses: list[float]) -> None:
    with pytest.raises(LeaseLostError):
        run(check=Answers(None, LeaseLostError("lost"))).insist(Answers(GONE, GONE, "too late"))
    assert len(pauses) == 1


def test_what_the_database_refuses_is_not_asked_again(run: Callable[..., Run], pauses: list[float]) -> None:
    with pytest.raises(ValueError, match="refused"):
        run().insist(Answers(ValueError("refused"), "never"))
    assert pauses == []


FILE = FileInfo(path="a.bin", bytes=3, sha256="1" * 64)


def stored(sha256: str | None, size: int = 3) -> ObjectInfo:
    return ObjectInfo("k", size, sha256)


def test_a_store_that_does_not_take_a_file_is_asked_for_about_a_minute(
    run: Callable[..., Run], pauses: list[float]
) -> None:
    down = StoreError("down")
    run(Answers(down, down, stored(FILE.sha256))).upload("k", Path("a.bin"), FILE, content_type="x/y")
    assert pauses == [1, 2]
    pauses.clear()
    with pytest.raises(StoreError):
        run(Answers(*[down] * 7)).upload("k", Path("a.bin"), FILE, content_type="x/y")
    assert pauses == [1, 2, 4, 8, 16]


@pytest.mark.parametrize(("sha256", "is_damaged"), [(FILE.sha256, False), (None, False), ("2" * 64, True)])
def test_a_file_that_is_another_than_the_child_has_written_is_refused(
    run: Callable[..., Run], sha256: str | None, *, is_damaged: bool
) -> None:
    upload = run(Answers(stored(sha256))).upload
    if is_damaged:
        with pytest.raises(TaskError, match=r"a\.bin changed") as caught:
            upload("k", Path("a.bin"), FILE, content_type="x/y")
        assert caught.value.code == "damaged_file"
    else:
        upload("k", Path("a.bin"), FILE, content_type="x/y")


def test_a_file_of_another_size_than_the_child_has_written_is_refused(run: Callable[..., Run]) -> None:
    with pytest.raises(TaskError, match=r"a\.bin changed"):
        run(Answers(stored(FILE.sha256, size=4))).upload("k", Path("a.bin"), FILE, content_type="x/y")


def test_what_the_child_has_hashed_is_not_hashed_again(run: Callable[..., Run]) -> None:
    put = Answers(stored(FILE.sha256))
    run(put).upload("k", Path("a.bin"), FILE, content_type="x/y")
    assert put.options["sha256"] == FILE.sha256
