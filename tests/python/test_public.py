"""The names of `import difftune`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import difftune

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", difftune.__all__)
def test_every_name_is_there_and_described(name: str) -> None:
    assert getattr(difftune, name).__doc__


def test_no_module_takes_the_place_of_a_name_once_it_is_imported() -> None:
    modules = {path.stem for path in (ROOT / "difftune").glob("*.py")}
    assert "client" in modules
    assert not modules & set(difftune.__all__)


def test_an_import_loads_nothing_heavy_and_a_client_no_torch() -> None:
    loaded = "print({'torch', 'openai', 'PIL'} & {*sys.modules})"
    code = f"import difftune, sys; {loaded}; difftune.Client; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["set()", "False"]


def test_what_is_lacking_is_named_with_its_extra() -> None:
    code = "import sys; sys.modules['torch'] = None; import difftune; difftune.train"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "this needs the extra 'core': pip install 'difftune[core]'" in done.stderr
