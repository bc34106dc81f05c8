from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.control.toy import ToyRuns, write_scenes, write_stable_diffusion


@pytest.fixture(scope="package")
def toy_runs(tmp_path_factory: pytest.TempPathFactory) -> ToyRuns:
    root: Path = tmp_path_factory.mktemp("control")
    write_stable_diffusion(root / "models" / "toy-sd")
    write_scenes(root / "data")
    return ToyRuns(root)
