"""The page of a ControlNet run: what it calls things, and beside what it shows agreement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.core.evaluate.test_report import full, render


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
    assert "under the default prompt beside an empty control" in text
    assert "label table" not in text
    assert "null label" not in text


def test_agreement_is_limited_by_the_autoencoder(tmp_path: Path) -> None:
    page, _, _ = render(of_controls(), tmp_path)
    assert "base model 0.100, autoencoder alone 0.870" in page.texts, "the tile"
    assert "Autoencoder alone 0.8700" in page.texts, "the curve"
    assert "Real against real 1.000" not in page.texts
    assert "base model 1,320, real against real 9.31" in page.texts
