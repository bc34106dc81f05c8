from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from difftune_core.runtime.rng import generator, stream_indices


def test_a_purpose_has_a_stream_of_its_own() -> None:
    a, b, c = (torch.randn(4, generator=generator(0, 1, p)) for p in ("noise", "noise", "flip"))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@given(size=st.integers(1, 40), start=st.integers(0, 200), count=st.integers(1, 60), cut=st.integers(0, 60))
def test_a_stream_cut_anywhere_goes_on_as_if_uncut(size: int, start: int, count: int, cut: int) -> None:
    whole = stream_indices(3, "order", start=start, count=count, size=size)
    cut = min(cut, count)
    parts = [(start, cut), (start + cut, count - cut)]
    pieces = [stream_indices(3, "order", start=s, count=c, size=size) for s, c in parts if c]
    assert torch.equal(whole, torch.cat(pieces))


@given(size=st.integers(1, 50), epoch=st.integers(0, 5))
def test_every_epoch_has_each_item_once(size: int, epoch: int) -> None:
    items = stream_indices(1, "order", start=epoch * size, count=size, size=size)
    assert sorted(items.tolist()) == list(range(size))
