"""Torch as a run sets it up."""

from __future__ import annotations

import pytest
import torch

from difftune_core.config.run import ResourcesConfig
from difftune_core.config.transfer import TransferConfig
from difftune_core.hooks import TaskError
from difftune_core.train.run import configure


def test_a_job_of_more_gpus_than_there_are_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    config = TransferConfig(model="tiny-dit", num_threads=torch.get_num_threads(), resources=ResourcesConfig(gpus=2))
    with pytest.raises(TaskError, match="there are 1 GPUs for a job that asks for 2") as refused:
        configure(config)
    assert (refused.value.code, refused.value.param) == ("too_few_gpus", "resources.gpus")
