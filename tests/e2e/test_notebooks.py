"""The notebooks of `examples/`, run as they are but for the numbers in their first cell."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.e2e.conftest import Service

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
SMALL = {"STEPS": 4, "JUDGED": 16, "RETAINED": 16}
_TIMEOUT_S = 600


def opened(path: Path) -> Any:
    """A notebook, with small numbers in its first cell of code."""
    notebook = nbformat.read(path, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    stated = re.findall(r"^([A-Z]+) = \d+", first.source, re.MULTILINE)
    assert set(stated) == set(SMALL)
    for name, value in SMALL.items():
        first.source = re.sub(rf"^{name} = \d+", f"{name} = {value}", first.source, flags=re.MULTILINE)
    return notebook


def run(path: Path, folder: Path) -> list[Any]:
    """What its cells have put out."""
    notebook = opened(path)
    NotebookClient(notebook, timeout=_TIMEOUT_S, resources={"metadata": {"path": str(folder)}}).execute()
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def shown(outputs: list[Any], kind: str) -> list[str]:
    return [output.data[kind] for output in outputs if kind in output.get("data", {})]


def test_notebooks_are_kept_without_what_they_put_out() -> None:
    assert len(NOTEBOOKS) == 3
    cells = [cell for path in NOTEBOOKS for cell in opened(path).cells if cell.cell_type == "code"]
    assert not [cell.id for cell in cells if cell.outputs or cell.execution_count]


@pytest.mark.long
@pytest.mark.parametrize("name", [path.stem for path in NOTEBOOKS])
def test_a_notebook_runs(name: str, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFTUNE_DATA_DIR", str(service.data_dir))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / "jupyter"))
    outputs = run(ROOT / "examples" / f"{name}.ipynb", tmp_path)
    assert shown(outputs, "image/png")
    assert any(": succeeded" in text and "fid" in text for text in shown(outputs, "text/html")), "the cell of a run"
