"""Every seeded bug of the storm is put where the product looks: a name that is gone would leave the product whole."""

from __future__ import annotations

import pytest

from benchmarks.storm import sabotage


@pytest.mark.parametrize("name", sabotage.BUGS)
def test_a_bug_takes_the_place_of_what_is_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put: list[str] = []
    monkeypatch.setattr(sabotage, "_put", lambda owner, what, _: put.append(getattr(owner, what).__doc__ or what))
    sabotage.BUGS[name]()
    assert put
