"""The learning rate of a step: a function of the step and of nothing else, so that a resumed run has the same."""

from __future__ import annotations

import math

from difftune_core.config.methods.hyperparameters import TrainingHyperparameters


def learning_rate_at(step: int, hyperparameters: TrainingHyperparameters) -> float:
    """Compute the learning rate of optimizer step `step`, the first of which is 0.

    It rises linearly to `learning_rate`, which step `warmup_steps` - 1 has; a decay begins with the next step and would
    be at `min_learning_rate` in the step after the last one, so that no step is taken in vain.
    """
    peak, warmup = hyperparameters.learning_rate, hyperparameters.warmup_steps
    if step < warmup or hyperparameters.lr_schedule == "constant":
        return peak * min(1.0, (step + 1) / (warmup or 1))
    progress = min(1.0, (step - warmup) / max(1, hyperparameters.max_steps - warmup))
    left = 1 - progress if hyperparameters.lr_schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2
    floor = hyperparameters.min_learning_rate
    return floor + (peak - floor) * left
