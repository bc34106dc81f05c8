from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import difftune_core
from difftune_core.config.card import read_card
from difftune_core.config.resolution import resolve
from difftune_core.config.transfer import TransferConfig
from difftune_core.diffusion.flow import Flow
from difftune_core.families.convert.request import ImportRequest
from difftune_core.families.dit.convert.original import read_original
from difftune_core.families.dit.convert.sit import from_sit
from difftune_core.families.install import install
from difftune_core.families.table import find_base_model
from difftune_core.hooks import TaskError
from difftune_core.networks.dit import DiT
from tests.core.conftest import RecordingHooks
from tests.core.models.convert.conftest import CONFIG

State = dict[str, torch.Tensor]
VAE = Path(difftune_core.__path__[0]) / "weights" / "tiny-dit" / "vae"


@pytest.fixture
def published(tmp_path: Path, state: State) -> Path:
    torch.save({"ema": state}, tmp_path / "sit.pt")
    return tmp_path / "sit.pt"


def sit(state: State, x: torch.Tensor, u: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """What SiT computes: a DiT that is told u, from noise at 0 to data at 1, whose output counts by its first half."""
    model = DiT(CONFIG)
    model.load_state_dict(state)
    with torch.no_grad():
        out: torch.Tensor = model(x, u, y)[:, : CONFIG.in_channels]
    return out


def test_ours_is_the_opposite_velocity_at_the_opposite_time(published: Path, state: State) -> None:
    converted = from_sit(read_original(published, num_heads=2))
    assert converted.config.process == "flow"
    ours = DiT(converted.config)
    ours.load_state_dict(converted.state)
    torch.manual_seed(1)
    x, y = torch.randn(6, 4, 8, 8), torch.arange(6)
    t = torch.tensor([0.0, 0.001, 0.25, 0.5, 0.999, 1.0])
    with torch.no_grad():
        found = ours(*Flow().network_inputs(x, t), y)[:, : CONFIG.in_channels]
    expected = -sit(state, x, 1 - t, y)
    assert torch.allclose(found, expected, rtol=0, atol=1e-5)
    assert not torch.allclose(-sit(state, x, t, y), expected, rtol=0, atol=1e-2), "time matters to these weights"


def test_twice_is_back(published: Path, state: State) -> None:
    again = from_sit(from_sit(read_original(published, num_heads=2)))
    assert all(torch.allclose(again.state[name], tensor, atol=1e-6) for name, tensor in state.items())


def request(tmp_path: Path, source: Path, **fields: Any) -> ImportRequest:
    given = {"id": "sit", "models": tmp_path / "models", "vae": str(VAE), "licence": "MIT", "num_heads": 2}
    return ImportRequest(source=str(source), **{**given, "feature_extractor": "tiny-features", **fields})


def test_an_imported_sit_is_a_flow_model(tmp_path: Path, published: Path) -> None:
    hooks = RecordingHooks()
    install(request(tmp_path, published, process="flow"), hooks)
    card = read_card(tmp_path / "models" / "sit")
    assert card.process == "flow"
    assert card.description.startswith("SiT of width 32")
    assert any("read as SiT" in event.message for event in hooks.events if event.type == "log")
    assert resolve(TransferConfig(model="sit"), card, num_threads=1).evaluation.sampler == "euler"
    assert find_base_model("sit", [tmp_path / "models"]).load_dit().config.process == "flow"


def test_without_the_option_it_is_a_dit(tmp_path: Path, published: Path) -> None:
    install(request(tmp_path, published), RecordingHooks())
    assert read_card(tmp_path / "models" / "sit").process == "ddpm"


def test_a_folder_has_no_process(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(TaskError, match="no option process"):
        install(request(tmp_path, tmp_path / "folder", num_heads=None, process="flow"), RecordingHooks())
