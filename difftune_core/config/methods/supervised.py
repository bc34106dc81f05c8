"""Plain fine-tuning."""

from __future__ import annotations

from typing import Literal

from difftune_core.config.frozen import Frozen
from difftune_core.config.methods.hyperparameters import TrainingHyperparameters
from difftune_core.config.methods.method import Method


class SupervisedSpec(Frozen):
    """Plain fine-tuning on the target data: psi = 1."""

    hyperparameters: TrainingHyperparameters = TrainingHyperparameters()


class Supervised(Method):
    """The method `supervised`."""

    label = "plain fine-tuning"
    type: Literal["supervised"]
    supervised: SupervisedSpec = SupervisedSpec()
