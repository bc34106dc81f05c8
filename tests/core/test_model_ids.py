"""The models that a config names are listed once, wherever somebody asks what a job uses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from difftune_core.config.analysis import ChainOfForgetting
from difftune_core.config.model_ids import EXTRACTOR_ID, MODEL_ID, NAMED_IN, named_models
from difftune_core.config.retention import RetentionSetRequest
from difftune_core.config.transfer import TransferConfig

PATTERNS = {f"^{MODEL_ID}$", f"^{EXTRACTOR_ID}$"}


def fields_of(schema: dict[str, Any], all_of_them: dict[str, Any], path: str = "") -> Iterator[str]:
    """Where a JSON Schema takes the id of a model."""
    if schema.get("pattern") in PATTERNS:
        yield path
    if "$ref" in schema:
        yield from fields_of(all_of_them[schema["$ref"].rpartition("/")[2]], all_of_them, path)
    for name, inner in schema.get("properties", {}).items():
        yield from fields_of(inner, all_of_them, f"{path}.{name}".removeprefix("."))
    for inner in [
        *schema.get("anyOf", []),
        *schema.get("oneOf", []),
        *([schema["items"]] if "items" in schema else []),
    ]:
        yield from fields_of(inner, all_of_them, path)


@pytest.mark.parametrize("config", [TransferConfig, ChainOfForgetting, RetentionSetRequest])
def test_every_field_that_takes_the_id_of_a_model_is_listed(config: type[BaseModel]) -> None:
    schema = config.model_json_schema()
    found = set(fields_of(schema, schema.get("$defs", {})))
    assert "model" in found
    assert found <= NAMED_IN.keys()


def test_a_config_names_its_models_with_the_fields_that_do() -> None:
    config = TransferConfig.model_validate(
        {
            "model": "sd",
            "control": {"condition": "depth", "annotator": "deep", "init_from": "before"},
            "evaluation": {"feature_extractors": ["eyes", "other"], "clip_model": "clip"},
        }
    )
    assert config.models() == (
        ("sd", "base_model", "model"),
        ("eyes", "extractor", "evaluation.feature_extractors.0"),
        ("other", "extractor", "evaluation.feature_extractors.1"),
        ("clip", "clip", "evaluation.clip_model"),
        ("before", "controlnet", "control.init_from"),
        ("deep", "annotator", "control.annotator"),
    )
    assert [model.id for model in TransferConfig(model="dit").models()] == ["dit"]
    assert list(named_models({"object": "retention_set", "model": "dit"})) == [("dit", "base_model", "model")]
