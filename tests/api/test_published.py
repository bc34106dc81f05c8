"""What clients may rely on, bounds and defaults among it, changes in sight alone: `make schemas` writes it anew."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from api.openapi import openapi
from difftune_core.config.reports.schema import REPORTS, json_schema

PUBLISHED = Path(__file__).parents[2] / "docs" / "schemas"


def test_the_published_description_of_the_api_is_that_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DIFFTUNE_")]:
        monkeypatch.delenv(name)
    assert json.loads((PUBLISHED / "openapi.json").read_text(encoding="utf-8")) == json.loads(openapi())


@pytest.mark.parametrize("name", REPORTS)
def test_the_published_schema_of_a_report_is_that_of_its_class(name: str) -> None:
    assert (PUBLISHED / f"{name}.schema.json").read_text(encoding="utf-8") == json_schema(name)
