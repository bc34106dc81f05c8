"""Processes that draw chunks of a retention set beside a run's first one; each runs `drawer.py`.

A chunk is one batch of the sampler and does not depend on others, so that the set is the same whoever draws what. They
share nothing but the folder of the chunks: what one of them leaves undone, the first process draws itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from difftune_core.config.retention import RetentionSetConfig
from difftune_core.families.base_model import BaseModel
from difftune_core.retention.sample import Share
from difftune_core.runtime.precision import Precision


@dataclass(frozen=True)
class Drawers:
    """The processes that a run may start, one for each further device."""

    models: list[Path]
    cache: Path
    precision: Precision
    world: int

    @contextmanager
    def drawing(self, base: BaseModel, config: RetentionSetConfig, chunks: Path) -> Iterator[Share]:
        """Have other processes draw while the block lasts; they end with it."""
        request = {
            "model": base.card.id,
            "models": [str(root) for root in self.models],
            "cache": str(self.cache),
            "kind": type(config).__name__,
            "config": config.model_dump_json(),
            "chunks": str(chunks),
            "precision": self.precision.name,
            "compiled": self.precision.compiled,
            "num_threads": torch.get_num_threads(),
            "world": self.world,
        }
        started = [_started(request, rank) for rank in range(1, self.world)]
        try:
            yield Share(0, self.world, lambda: any(process.poll() is None for process in started))
        finally:
            for process in started:
                process.kill()
                process.wait()


def _started(request: dict[str, Any], rank: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "difftune_core.families.drawer", json.dumps(request), str(rank)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)  # noqa: S603  # our own command line
