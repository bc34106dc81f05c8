from __future__ import annotations

from pathlib import Path

import pytest
import torch

from difftune_core.data.controlled import ControlledSet
from difftune_core.data.latents import LatentSet
from difftune_core.families.controlnet.base_model import StableDiffusion
from difftune_core.families.controlnet.batch import ControlledData
from difftune_core.runtime.rng import generator
from tests.core.control.toy import LENGTH, SIZE, WIDTH, ToyRuns, write_scenes, write_stable_diffusion

EMPTY, DEFAULT = 0, 1


@pytest.fixture(scope="package")
def toy_runs(tmp_path_factory: pytest.TempPathFactory) -> ToyRuns:
    root: Path = tmp_path_factory.mktemp("control")
    write_stable_diffusion(root / "models" / "toy-sd")
    write_scenes(root / "data")
    return ToyRuns(root)


def controlled(name: str, count: int, prompts: list[int]) -> ControlledSet:
    stream = generator(name)
    mean = torch.randn(1, count, 4, 8, 8, generator=stream).half()
    latents = LatentSet(mean, torch.full_like(mean, 0.1), torch.zeros(count, dtype=torch.long), digest=name)
    controls = torch.randint(0, 256, (count, 3, SIZE, SIZE), generator=stream, dtype=torch.uint8)
    text = torch.randn(6, LENGTH, WIDTH, generator=generator("text")).half()
    return ControlledSet(latents, controls, text, torch.tensor(prompts)[torch.arange(count) % len(prompts)])


@pytest.fixture(scope="package")
def base(toy_runs: ToyRuns) -> StableDiffusion:
    from difftune_core.families.table import find_base_model

    found = find_base_model("toy-sd", toy_runs.models)
    assert isinstance(found, StableDiffusion)
    return found


@pytest.fixture(scope="package")
def data(base: StableDiffusion) -> ControlledData:
    return ControlledData(
        target=controlled("target", 12, [2, 3, 4, 5]),
        retention=controlled("retention", 10, [DEFAULT]),
        empty_prompt=EMPTY,
        process=base.process(),
        unet=base.load_unet(),
    )
