"""The page of a ControlNet run: what it calls things, and beside what it shows agreement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from difftune_core.config.reports.run import RunReport
from difftune_core.evaluate.report.convergence import convergence_tile, how_converged
from tests.core.evaluate.test_report import full, render

CONVERGED = {"step": 4000, "confidence": 0.9994, "interval": [3500, 4500], "jump": 0.2, "share": 0.8, "reason": ""}
NOT = {**CONVERGED, "step": None, "interval": None}


def of_controls() -> dict[str, Any]:
    report = full()
    report["job"]["control"] = {"condition": "edge"}
    for entry, ssim in zip(report["evaluations"], (0.2, 0.6), strict=True):
        entry["ssim"] = ssim
    for name, ssim in (("base_model", 0.1), ("real_vs_real", 1.0), ("autoencoder_floor", 0.87)):
        report["references"][name]["ssim"] = ssim
    return report


def test_a_controlnet_s_page_speaks_of_controls(tmp_path: Path) -> None:
    page, _, _ = render(of_controls(), tmp_path)
    text = " ".join(page.texts)
    assert "The base model without a control." in text
    assert "condition edge" in text
    assert "under the default prompt beside an empty control" in text
    assert "label table" not in text
    assert "null label" not in text


def test_agreement_is_limited_by_the_autoencoder(tmp_path: Path) -> None:
    page, _, _ = render(of_controls(), tmp_path)
    assert "base model 0.100, autoencoder alone 0.870" in page.texts, "the tile"
    assert "Autoencoder alone 0.8700" in page.texts, "the curve"
    assert "Real against real 1.000" not in page.texts
    assert "base model 1,320, real against real 9.31" in page.texts


@pytest.mark.parametrize(
    ("found", "value", "detail"),
    [
        (CONVERGED, "step 4,000", "95 %: steps 3,500 to 4,500; confidence 0.999"),
        ({**CONVERGED, "interval": [4000, 4000]}, "step 4,000", "95 %: step 4,000; confidence 0.999"),
        ({**NOT, "reason": "too_few_evaluations"}, "none", "not judged: it takes 8 evaluations"),
        ({**NOT, "reason": "not_significant"}, "none", "no jump beyond noise, confidence 0.999"),
        ({**NOT, "reason": "gradual", "share": 0.234}, "none", "a rise, but no jump: 23% of the curve's range"),
    ],
)
def test_a_tile_says_when_the_results_began_to_follow_their_controls_or_why_not(
    found: dict[str, Any], value: str, detail: str
) -> None:
    (tile,) = convergence_tile(RunReport.model_validate({"convergence": found}))
    assert (tile.label, tile.value, tile.detail) == ("Sudden convergence", value, detail)
    assert convergence_tile(RunReport()) == []


def test_the_glossary_explains_the_rule_where_it_was_asked() -> None:
    ((name, text),) = how_converged(RunReport.model_validate({"convergence": NOT}))
    assert name == "Sudden convergence"
    assert "likelihood-ratio test at 95 %" in text
    assert how_converged(RunReport()) == []
