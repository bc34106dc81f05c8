"""Losses on record for every process, prediction, weighting and recipe; `python -m tests.core.goldens` records anew.

Kernels are chosen by the processor's model, so float32 losses are not the same bits everywhere. With PyTorch's,
oneDNN's and MKL's kernels for SSE4.1, AVX2 and AVX-512 (`ATEN_CPU_CAPABILITY`, `DNNL_MAX_CPU_ISA`, `MKL_CBWR`) the
recorded ones moved by at most 6e-6 of themselves. A learning rate, noise schedule or weighting that is off by a
hundredth moves them by more than `TOLERANCE`, as does a weight that is left out; `test_goldens.py` shows it. That a run
gives the same bytes again is for two runs on one machine to show.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from difftune_core.checkpoint.state import new_state
from difftune_core.config.transfer import TransferConfig
from difftune_core.diffusion.process import make_process
from difftune_core.families.labelled import LabelledData
from difftune_core.networks.dit import DiT, DiTConfig
from difftune_core.train.step import train_step
from tests.core.conftest import CONFIG, NUM_CLASSES, latent_set, toy_config

TOLERANCE = 2e-5
"""Largest difference to a recorded loss, as a share of it."""

RECORD = Path(__file__).parent / "golden_losses.json"
ANATOMIES: dict[str, dict[str, Any]] = {
    "ddpm epsilon": {},
    "ddpm x0": {"prediction": "x0"},
    "ddpm v": {"prediction": "v"},
    "flow": {"process": "flow"},
    "edm": {"process": "edm"},
}
HYPERPARAMETERS: dict[str, dict[str, Any]] = {
    "fifty steps": {"max_steps": 50},
    "released": {"recipe": "released"},
    "distillation": {"recipe": "distillation"},
    "reconsolidation": {"components": "reconsolidation"},
    "retention": {"components": "retention"},
    "optimizer": {"warmup_steps": 5, "weight_decay": 0.2, "max_grad_norm": 0.3},
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"{a}, {w}": (a, {"loss_weighting": w}) for a in ANATOMIES for w in ("none", "min_snr", "p2")},
    **{f"ddpm epsilon, {name}": ("ddpm epsilon", given) for name, given in HYPERPARAMETERS.items()},
}
"""By name: what is predicted of which process, and with what hyperparameters."""


def open_model(config: DiTConfig = CONFIG) -> DiT:
    """A small DiT whose gates are open, so that every parameter matters."""
    torch.manual_seed(0)
    model = DiT(config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.05)
    return model


def losses(config: TransferConfig, model: DiT, data: LabelledData, steps: int = 10) -> torch.Tensor:
    """Losses of each step and slot, trained on one thread from a copy of the model."""
    torch.set_num_threads(1)
    state = new_state(deepcopy(model), config.method.hyperparameters)
    return torch.stack([train_step(state, config, data).losses for _ in range(steps)])


def losses_of(case: str, **changed: object) -> list[float]:
    """Mean losses of a case's steps, ten unless it has fifty; `changed` hyperparameters are not those of the record."""
    anatomy, given = CASES[case]
    architecture = replace(CONFIG, **ANATOMIES[anatomy])
    model, process = open_model(architecture), make_process(architecture)
    teacher = deepcopy(model).eval() if "distillation" in case else None
    data = LabelledData(latent_set("target", 24), latent_set("retention", 40), NUM_CLASSES, process, teacher)
    return losses(toy_config(**{**given, **changed}), model, data, given.get("max_steps", 10)).mean(1).tolist()


def recorded(case: str) -> list[float]:
    found: list[float] = json.loads(RECORD.read_text(encoding="utf-8"))["losses"][case]
    return found


def is_golden(found: Sequence[float], wanted: Sequence[float]) -> bool:
    """Whether losses are the recorded ones, within what processors differ by."""
    return list(found) == pytest.approx(list(wanted), rel=TOLERANCE, abs=0.0)


if __name__ == "__main__":
    made = {"made_with": torch.__version__, "losses": {case: losses_of(case) for case in CASES}}
    RECORD.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
