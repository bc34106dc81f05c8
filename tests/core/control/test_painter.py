"""Images on request of a Stable Diffusion, alone and with a ControlNet."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from difftune.drawing import drawn
from difftune_core.config.transfer import TransferConfig
from difftune_core.diffusion.reverse import Sampling
from difftune_core.families.controlnet.base_model import StableDiffusion, new_controlnet
from difftune_core.families.controlnet.painter import PromptPainter
from difftune_core.families.export import stated_config
from difftune_core.families.painter import Wanted
from difftune_core.hooks import TaskError
from difftune_core.networks.state import CONFIG, WEIGHTS
from tests.core.control.toy import ToyRuns

CPU = torch.device("cpu")


def write_controlnet(base: StableDiffusion, folder: Path) -> Path:
    controlnet = new_controlnet(base.load_unet(), None, seed=0)
    with torch.no_grad():  # new ones add nothing: their last convolutions are zero
        for parameter in controlnet.controlnet_mid_block.parameters():  # type: ignore[union-attr,operator]  # diffusers
            parameter.add_(0.5)
    save_file({name: tensor.contiguous() for name, tensor in controlnet.state_dict().items()}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(stated_config(controlnet)))
    return folder


def test_a_controlnet_follows_its_image_and_the_base_model_does_not(base: StableDiffusion, tmp_path: Path) -> None:
    write_controlnet(base, tmp_path)
    tuned, alone = PromptPainter(base, tmp_path, CPU), PromptPainter(base, None, CPU)
    size = base.card.image_size
    sampling = Sampling(num_inference_steps=2, seed=3)
    wanted = Wanted(prompt="a circle", control=np.full((size, size, 3), 200, dtype=np.uint8))

    def draw(painter: PromptPainter, *, of_base: bool = False) -> np.ndarray:
        return painter.draw(wanted, sampling, first=0, count=2, of_base=of_base, progress=lambda _: None)

    with_control = draw(tuned)
    assert with_control.shape == (2, size, size, 3)
    assert np.array_equal(draw(tuned, of_base=True), draw(alone))
    assert not np.array_equal(with_control, draw(alone))


@dataclass(frozen=True)
class Tuned:
    """What a run leaves, as `difftune.Run` has it."""

    config: TransferConfig
    checkpoint: Path
    models: tuple[Path, ...]
    class_names: tuple[str, ...] = ()


def test_a_result_is_drawn_from_python_by_prompt_and_control(
    base: StableDiffusion, toy_runs: ToyRuns, tmp_path: Path
) -> None:
    config = toy_runs.config(control={"conditioning_scale": 0.5})
    run = Tuned(config, write_controlnet(base, tmp_path), tuple(toy_runs.models))
    size = base.card.image_size
    control = Image.fromarray(np.full((2 * size, 2 * size, 3), 200, dtype=np.uint8))
    control.save(tmp_path / "control.png")

    def draw(**given: Any) -> list[bytes]:
        return [image.tobytes() for image in drawn(run, "a circle", 2, seed=3, **given)]

    wanted = Wanted(prompt="a circle", control=np.full((size, size, 3), 200, dtype=np.uint8), conditioning_scale=0.5)
    sampling = replace(Sampling.of(config.evaluation), seed=3)
    painted = PromptPainter(base, tmp_path, CPU).draw(
        wanted, sampling, first=0, count=2, of_base=False, progress=lambda _: None
    )
    assert draw(control=control) == [image.tobytes() for image in painted]
    assert draw(control=tmp_path / "control.png") == draw(control=control)
    assert draw() != draw(control=control)
    for what, given, code in ((3, {}, "no_prompt"), ("a", {"control": tmp_path / CONFIG}, "unreadable_image")):
        with pytest.raises(TaskError) as refused:
            drawn(run, what, 1, seed=0, **given)
        assert refused.value.code == code
