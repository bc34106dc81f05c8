from __future__ import annotations

import pytest
import torch

from difftune_core.evaluate.inception import InceptionV3

State = dict[str, torch.Tensor]


@pytest.fixture(scope="session")
def inception_state() -> State:
    """Random weights under the published names, scaled so that every layer still varies."""
    torch.manual_seed(0)
    state = InceptionV3().state_dict()
    for name, tensor in state.items():
        if name.endswith("conv.weight"):
            torch.nn.init.kaiming_normal_(tensor)
        elif name.endswith(("running_var", "bn.weight")):
            tensor.uniform_(0.7, 1.5)
        else:
            tensor.normal_(0, 0.1)
    return state
