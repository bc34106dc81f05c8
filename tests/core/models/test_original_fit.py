from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from difftune_core.config.original_fit import how_to_load, unlike_original
from difftune_core.families.dit.files import write_dit_config
from difftune_core.networks.dit import DiT, DiTConfig

JUDGED = {"timestep_frequencies", "process", "prediction"}
OF_A_REFUSED_PROCESS = {"sigma_data"}


def test_what_the_original_code_computes_alike_is_not_refused() -> None:
    for given in ({}, {"num_classes": 10}, {"learn_sigma": False}, {"input_size": 64, "patch_size": 4, "num_heads": 6}):
        assert unlike_original(asdict(replace(DiTConfig(), **given))) is None
    assert unlike_original({}) is None


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"timestep_frequencies": "diffusers"}, "diffusers' frequencies"),
        ({"process": "flow"}, "'flow'"),
        ({"process": "edm"}, "'edm'"),
        ({"prediction": "x0"}, "'x0'"),
        ({"prediction": "v"}, "'v'"),
        ({"adapter": {"type": "vpt", "num_tokens": 3}}, "vpt"),
    ],
)
def test_what_would_draw_other_images_is_refused_with_the_reason(config: dict[str, Any], said: str) -> None:
    assert said in str(unlike_original({**asdict(DiTConfig()), **config}))


def test_a_network_of_another_family_is_none_of_its() -> None:
    assert unlike_original({"num_classes": 3}) == "It is no DiT."


def test_every_field_of_the_anatomy_is_told_or_judged() -> None:
    """One that comes later must not be passed over in silence."""
    told = {
        name for name in (field.name for field in fields(DiTConfig)) if f"{name}=" in how_to_load(asdict(DiTConfig()))
    }
    assert told | JUDGED | OF_A_REFUSED_PROCESS == {field.name for field in fields(DiTConfig)}


def test_the_note_says_what_no_shape_tells(tmp_path: Path) -> None:
    config = DiTConfig(input_size=8, hidden_size=32, depth=2, num_heads=2, num_classes=3, learn_sigma=False)
    write_dit_config(tmp_path, config)
    note = how_to_load(json.loads((tmp_path / "config.json").read_text(encoding="utf-8")))
    assert "num_heads=2" in note
    assert "learn_sigma=False" in note
    assert "The null label is 3, where the original's scripts have 1000." in note
    assert "null label" not in how_to_load(asdict(DiTConfig()))


def test_what_a_config_leaves_out_is_as_in_the_original() -> None:
    whole = asdict(DiTConfig())
    for name in ("learn_sigma", "num_classes", *JUDGED):
        rest = {field: value for field, value in whole.items() if field != name}
        assert unlike_original(rest) is None
        assert "learn_sigma=True" in how_to_load(rest)
        assert "null label" not in how_to_load(rest)
        assert "create_diffusion" not in how_to_load(rest)
    assert "Sample with create_diffusion(..., learn_sigma=False)." in how_to_load({**whole, "learn_sigma": False})


def test_other_frequencies_are_another_function(toy_model: DiT) -> None:
    """Why they are refused: the same weights load and say something else."""
    other = DiT(replace(toy_model.config, timestep_frequencies="diffusers"))
    other.load_state_dict(toy_model.state_dict(), strict=True)
    x, t, y = torch.randn(2, 4, 8, 8), torch.tensor([10.0, 500.0]), torch.tensor([0, 1])
    assert (toy_model(x, t, y) - other(x, t, y)).abs().max() > 1e-3
