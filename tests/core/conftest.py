from __future__ import annotations

from pathlib import Path

import pytest
import torch

from difftune_core.config.adapter import Adapter
from difftune_core.config.card import BaseModelCard
from difftune_core.config.resolution import resolve
from difftune_core.config.transfer import TransferConfig
from difftune_core.data.latents import LatentSet
from difftune_core.diffusion.process import DDPM
from difftune_core.diffusion.schedule import NoiseSchedule, linear_betas
from difftune_core.families.dit.files import write_dit_config
from difftune_core.families.labelled import LabelledData
from difftune_core.hooks import Event, StopKind
from difftune_core.networks.dit import DiT, DiTConfig
from difftune_core.runtime.rng import generator

NUM_CLASSES = 3
CONFIG = DiTConfig(input_size=8, hidden_size=32, depth=2, num_heads=2, num_classes=NUM_CLASSES)


class RecordingHooks:
    """Keeps every event; asks to stop once `stop_at` steps were logged."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.events: list[Event] = []
        self.stop_at = stop_at
        self.step = 0

    def emit(self, event: Event) -> None:
        self.events.append(event)
        if event.type == "metrics":
            self.step = event.step

    def stop_requested(self) -> StopKind | None:
        return "stop" if self.stop_at is not None and self.step >= self.stop_at else None

    def release(self, checkpoint: Path) -> bool:  # noqa: ARG002  # the protocol's shape
        return True


def latent_set(name: str, count: int) -> LatentSet:
    """Gaussian latents, a function of `name`."""
    stream = generator(name)
    mean = torch.randn(2, count, 4, 8, 8, generator=stream).half()
    std = torch.full_like(mean, 0.1)
    return LatentSet(mean, std, torch.arange(count) % NUM_CLASSES, digest=name)


@pytest.fixture(scope="session")
def schedule() -> NoiseSchedule:
    return NoiseSchedule(linear_betas(1000))


@pytest.fixture(scope="session")
def ddpm(schedule: NoiseSchedule) -> DDPM:
    return DDPM(schedule)


@pytest.fixture
def toy_model() -> DiT:
    """A small DiT whose gates are open, so that every parameter matters."""
    torch.manual_seed(0)
    model = DiT(CONFIG)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.05)
    return model


@pytest.fixture
def training_data(ddpm: DDPM) -> LabelledData:
    return LabelledData(latent_set("target", 24), latent_set("retention", 40), NUM_CLASSES, ddpm)


def written(model: DiT, folder: Path, adapter: Adapter | None) -> None:
    """`config.json` beside a checkpoint's weights."""
    write_dit_config(folder, model.config, adapter)


def toy_config(method: str = "diff_tuning", **hyperparameters: object) -> TransferConfig:
    """A resolved config of 20 steps of 8 images."""
    card = BaseModelCard(id="toy", family="dit", image_size=32, feature_extractor="none", digest="toy")
    given = {"max_steps": 20, "batch_size": 8, "learning_rate": 1e-3, "log_every_steps": 1, **hyperparameters}
    config = TransferConfig.model_validate(
        {"model": "toy", "seed": 7, "method": {"type": method, method: {"hyperparameters": given}}}
    )
    return resolve(config, card, num_threads=1)


@pytest.fixture(scope="session")
def dinov2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small DINOv2 with random weights; transformers takes long to load, so only where it is asked for."""
    from tests.core.dinov2_files import write_dinov2

    return write_dinov2(tmp_path_factory.mktemp("dinov2"))
