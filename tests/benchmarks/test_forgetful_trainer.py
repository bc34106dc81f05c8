"""The negative control of `benchmarks.resume` begins its data anew, where the trainer's own step takes them."""

from __future__ import annotations

import torch

from benchmarks.forgetful_trainer import _from_the_beginning
from difftune_core.families import batch


def test_after_a_resume_it_gives_the_images_of_the_first_step() -> None:
    place = {"count": 4, "size": 10}
    first = batch.stream_indices(0, "target order", start=0, **place)
    assert torch.equal(_from_the_beginning(0, "target order", start=40, **place), first)
    following = batch.stream_indices(0, "target order", start=4, **place)
    assert torch.equal(_from_the_beginning(0, "target order", start=44, **place), following)
