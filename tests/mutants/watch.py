"""A pytest plugin: notes which test runs which line, in the processes that a test starts too."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mutants.notes import RUNNING, begin

_CHILDREN = Path(__file__).parent / "child"  # its sitecustomize.py notes what a child runs


class Watch:
    """Notes the lines of each test of this process, and how long it took."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seconds: dict[str, float] = {}
        self._unfit: set[str] = set()  # those that fail or are skipped without any fault tell nothing of one
        self._notes = begin(folder, f"tests-{os.getpid()}")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        (self._folder / RUNNING).write_text(item.nodeid, encoding="utf-8")
        self._notes.switch_context(item.nodeid)
        began = time.monotonic()
        result = yield
        self._seconds[item.nodeid] = time.monotonic() - began
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.passed:
            self._unfit.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        self._notes.stop()
        self._notes.save()
        fit = {test: seconds for test, seconds in self._seconds.items() if test not in self._unfit}
        lines = (f"{seconds:.3f}\t{test}\n" for test, seconds in fit.items())
        (self._folder / f"seconds-{os.getpid()}.tsv").write_text("".join(lines), encoding="utf-8")


def pytest_configure(config: pytest.Config) -> None:
    folder = config.rootpath / "notes"
    folder.mkdir(exist_ok=True)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(_CHILDREN), str(config.rootpath)])
    config.pluginmanager.register(Watch(folder))
