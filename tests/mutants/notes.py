"""The notes of which test runs which line: coverage's, one file a process, in a folder beside the packages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path

import coverage

FOLDERS = ("difftune_core", "worker", "api")
RUNNING = "running"  # in the folder of the notes: the test that runs now


def begin(folder: Path, name: str, context: str | None = None) -> coverage.Coverage:
    """Start to note the lines of our code that this process runs, to be saved into `folder`."""
    sources = [str(folder.parent / package) for package in FOLDERS]
    ours = coverage.Coverage(str(folder / f"notes.{name}"), config_file=False, source=sources, context=context)
    ours.start()
    return ours


class Coverers:
    """Which tests run a line, cheapest first."""

    def __init__(self, folders: list[Path]) -> None:
        """Read what processes noted in each of the folders."""
        self.seconds: dict[str, float] = {}
        self._by_line: dict[tuple[str, int], set[str]] = defaultdict(set)
        self._by_file: dict[str, set[str]] = defaultdict(set)
        for folder in folders:
            for file in folder.glob("seconds-*.tsv"):
                rows = (line.split("\t", 1) for line in file.read_text(encoding="utf-8").splitlines())
                self.seconds |= {test: float(seconds) for seconds, test in rows}
            for file in folder.glob("notes.*"):
                self._read(file, folder.parent)
        files = {test.partition("::")[0] for test in self.seconds}
        self._texts = {file: (folders[0].parent / file).read_text(encoding="utf-8") for file in files}

    def _naming(self, path: str) -> set[str]:
        module = path.removesuffix(".py").replace("/", ".")
        naming = {file for file, text in self._texts.items() if module in text}
        return {test for test in self.seconds if test.partition("::")[0] in naming}

    def _read(self, file: Path, root: Path) -> None:
        data = coverage.CoverageData(str(file))
        try:
            data.read()
        except coverage.exceptions.DataError:  # of a child that was killed while it wrote
            return
        for measured in data.measured_files():
            path = Path(measured).relative_to(root).as_posix()
            for line, tests in data.contexts_by_lineno(measured).items():
                known = self.seconds.keys() & set(tests)
                self._by_line[path, line] |= known
                self._by_file[path] |= known

    def in_file(self, name: str) -> list[str]:
        """Return the tests of one file."""
        return [test for test in self.seconds if test.partition("::")[0] == name]

    def beside(self, path: str, *, budget_s: float, asked: Collection[str]) -> list[str]:
        """Return tests that run anything of the file: what an import runs is noted for the first test alone."""
        return self._affordable(self._by_file[path].difference(asked), path, budget_s)

    def of(self, path: str, lines: Iterable[int], *, budget_s: float, asked: Collection[str] = ()) -> list[str]:
        """Return tests that run one of the lines but those `asked`: as many as take `budget_s`, and at least one.

        Those of files that name the module come first, then the cheapest.

        Where no test is noted for them (what is set there is read elsewhere): those of the file, else those that
        name its module.
        """
        running: set[str] = set().union(*(self._by_line[path, line] for line in lines))
        concerned = (running or self._by_file[path] or self._naming(path)).difference(asked)
        return self._affordable(concerned, path, budget_s)

    def _affordable(self, concerned: Collection[str], path: str, budget_s: float) -> list[str]:
        naming = self._naming(path)
        tests = sorted(concerned, key=lambda test: (test not in naming, self.seconds[test]))
        spent, chosen = 0.0, []
        for test in tests:
            spent += self.seconds[test]
            if chosen and spent > budget_s:
                break
            chosen.append(test)
        return chosen
