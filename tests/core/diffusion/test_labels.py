from __future__ import annotations

import pytest
import torch

from difftune_core.diffusion.reverse import Sampling
from difftune_core.families.dit.draw import sample_latents
from difftune_core.hooks import TaskError
from difftune_core.networks.dit import DiT


@pytest.mark.parametrize("label", [-1, 4, 1000])
def test_a_label_outside_the_table_is_refused_by_name(label: int, toy_model: DiT) -> None:
    labels = torch.tensor([0, toy_model.null_label, label])
    with pytest.raises(TaskError, match=f"label {label} is outside the table: 0 to 3") as caught:
        sample_latents(toy_model, labels, Sampling(num_inference_steps=2))
    assert (caught.value.code, caught.value.param) == ("label_outside_table", "labels")
    assert sample_latents(toy_model, labels[:2], Sampling(num_inference_steps=2)).isfinite().all()
