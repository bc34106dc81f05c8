"""Settings of torch for the whole process, as each side has them: they are set anew at every turn."""

from __future__ import annotations

from typing import Any

import torch


def as_public_trainers(*, tf32: bool) -> None:
    """Let kernels be chosen by speed alone; products of float32 in fewer bits where the trainer allows that."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.use_deterministic_algorithms(mode=False)


def as_ours() -> None:
    """Set what a run of ours sets (`difftune_core.train.run.configure`), and torch's defaults for all else."""
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True
    if torch.cuda.is_available():
        torch.use_deterministic_algorithms(mode=True, warn_only=True)
        deterministic: Any = torch.utils.deterministic
        deterministic.fill_uninitialized_memory = False
