"""ControlNets beside Stable Diffusion as a model family."""

from __future__ import annotations

from difftune_core.families.base import Family
from difftune_core.families.controlnet.base_model import StableDiffusion
from difftune_core.families.controlnet.install import install_stable_diffusion
from difftune_core.families.controlnet.install_companion import install_companion
from difftune_core.families.controlnet.painter import PromptPainter
from difftune_core.families.controlnet.task import ControlNetTask

CONTROLNET = Family(
    base_model=StableDiffusion,
    task=ControlNetTask,
    painter=PromptPainter,
    installers={
        "stable-diffusion": install_stable_diffusion,
        "controlnet": install_companion,
        "annotator": install_companion,
        "clip": install_companion,
    },
)
