"""Cards are told apart by their fields, and written before any field said what they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import save_file

from difftune_core.config.card import (
    CARD_FILE,
    BaseModelCard,
    CompanionCard,
    FeatureExtractorCard,
    Role,
    list_cards,
    read_any_card,
    read_card,
    readable_cards,
    role_of,
)
from tests.core.runs import BUNDLED

ROLES: tuple[Role, ...] = get_args(Role)
BASE = {"id": "a", "family": "dit", "image_size": 8, "feature_extractor": "eyes", "digest": ""}
CARDS: dict[str, tuple[dict[str, Any], type]] = {
    "a base model": (BASE, BaseModelCard),
    "a ControlNet of a base model of a family": ({"kind": "controlnet", "digest": "", "of": BASE}, CompanionCard),
    "an extractor whose source is a family": (
        {"kind": "inception", "source": 'the "family" Inception'},
        FeatureExtractorCard,
    ),
    "an extractor that was made for companions": ({"made_for": {"kind": "clip"}}, FeatureExtractorCard),
    "an extractor of a newer version": ({"kind": "another"}, FeatureExtractorCard),
}


def put(root: Path, name: str, content: object) -> Path:
    (root / name).mkdir()
    text = content if isinstance(content, str) else json.dumps(content)
    (root / name / CARD_FILE).write_text(text, encoding="utf-8")
    return root / name


@pytest.mark.parametrize(("content", "kind"), CARDS.values(), ids=CARDS)
def test_a_card_is_told_by_its_own_fields(tmp_path: Path, content: dict[str, Any], kind: type) -> None:
    folder = put(tmp_path, "a", {"id": "a", **content})
    card = read_any_card(folder)
    assert type(card) is kind
    assert role_of(card) == role_of(content) == card.role
    for role in ROLES:
        assert list_cards([tmp_path], role) == ({"a": folder} if role == card.role else {})


def test_the_bundled_cards_are_of_all_roles() -> None:
    read = {
        kind.role: set(readable_cards(kind, [BUNDLED])) for kind in (BaseModelCard, CompanionCard, FeatureExtractorCard)
    }
    assert read == {
        "base_model": {"tiny-dit", "tiny-sd"},
        "companion": {"tiny-depth", "tiny-segmentation"},
        "extractor": {"tiny-features"},
    }


@pytest.mark.parametrize("content", ["{", "[1]", "[" * 100_000, '"family"', "\ud800" * 2])
def test_what_is_no_card_is_missed_as_a_base_model_and_hides_none(tmp_path: Path, content: str) -> None:
    put(tmp_path, "broken", content.encode("utf-8", "replace").decode())
    whole = put(tmp_path, "whole", BASE)
    assert list_cards([tmp_path]) == {"broken": tmp_path / "broken", "whole": whole}
    assert list_cards([tmp_path], "extractor") == list_cards([tmp_path], "companion") == {}
    found = readable_cards(BaseModelCard, [tmp_path])
    assert {name: (card.id, folder) for name, (card, folder) in found.items()} == {"whole": ("whole", whole)}


def test_a_card_that_does_not_say_how_many_parameters_there_are_has_those_of_its_files(tmp_path: Path) -> None:
    card = {"id": "any", "family": "any", "image_size": 8, "feature_extractor": "tiny-features", "digest": "sha256:0"}
    (tmp_path / "card.json").write_text(json.dumps(card))
    save_file({"a": torch.zeros(3, 5), "b": torch.zeros(7)}, tmp_path / "model.safetensors", metadata={"of": "a test"})
    (tmp_path / "cut.safetensors").write_bytes(b"\x08")
    (tmp_path / "other.safetensors").write_bytes((2).to_bytes(8, "little") + b"[]")
    assert read_card(tmp_path).num_parameters == 22
    (tmp_path / "card.json").write_text(json.dumps(card | {"num_parameters": 3}))
    assert read_card(tmp_path).num_parameters == 3
