"""Images on request of a Stable Diffusion, alone and with a ControlNet."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from difftune_core.diffusion.reverse import Sampling
from difftune_core.families.controlnet.base_model import StableDiffusion, new_controlnet
from difftune_core.families.controlnet.painter import PromptPainter
from difftune_core.families.export import stated_config
from difftune_core.families.painter import Wanted
from difftune_core.networks.state import CONFIG, WEIGHTS

CPU = torch.device("cpu")


def test_a_controlnet_follows_its_image_and_the_base_model_does_not(base: StableDiffusion, tmp_path: Path) -> None:
    controlnet = new_controlnet(base.load_unet(), None, seed=0)
    with torch.no_grad():  # new ones add nothing: their last convolutions are zero
        for parameter in controlnet.controlnet_mid_block.parameters():  # type: ignore[union-attr,operator]  # diffusers
            parameter.add_(0.5)
    save_file({name: tensor.contiguous() for name, tensor in controlnet.state_dict().items()}, tmp_path / WEIGHTS)
    (tmp_path / CONFIG).write_text(json.dumps(stated_config(controlnet)))
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
