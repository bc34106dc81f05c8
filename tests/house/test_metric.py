"""A metric of another package where no service runs: an option of the command line, and refused where it is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from difftune_core.config.transfer import TransferConfig
from tests import outside

EVALUATION = {"metrics": ["fid", "sharpness"], "best_metric": "sharpness_gap"}


def test_one_of_features_alone_is_an_option_of_the_command_line(python: Callable[..., str], tmp_path: Path) -> None:
    files = dict(outside.files_of("A metric"))
    described = files["my_metrics/described.py"].replace('"images"', '"features"').replace("sharpness", "spread")
    files = {"other/described.py": described}
    outside.write(tmp_path, files, "difftune.figures", {"spread": "other.described:SHARPNESS"})
    help_text = " ".join(python("-m", "difftune_core", "evaluate", "--help", path=tmp_path).split())
    assert "some of fid, kid" in help_text
    assert "spread" in help_text
    assert "sharpness" not in help_text, "it needs images"


def test_where_it_is_not_installed_it_is_refused_by_its_name() -> None:
    with pytest.raises(ValidationError) as refused:
        TransferConfig.model_validate({"model": "tiny-dit", "evaluation": EVALUATION})
    assert [error["loc"] for error in refused.value.errors()] == [
        ("evaluation", "metrics", 1),
        ("evaluation", "best_metric"),
    ]
