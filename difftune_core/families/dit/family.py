"""Diffusion transformers as a model family."""

from __future__ import annotations

from difftune_core.families.base import Family
from difftune_core.families.dit.base_model import DiTModel
from difftune_core.families.dit.install import install_dit
from difftune_core.families.dit.painter import DiTPainter
from difftune_core.families.dit.task import DiTTask

DIT = Family(base_model=DiTModel, task=DiTTask, painter=DiTPainter, installers={"dit": install_dit})
