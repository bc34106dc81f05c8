"""A method of another package where no service runs: by its equation, and refused where it is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from difftune_core.config.transfer import TransferConfig

_DRAWN = """
from difftune_core.config.transfer import TransferConfig
from difftune_core.diffusion.process import NoiseConfig, make_process
from difftune_core.objectives.draws import draw

settings = {"batch_size": 64, "spread_steps": 4}
method = {"type": "curriculum", "curriculum": {"hyperparameters": settings}}
config = TransferConfig.model_validate({"model": "any", "method": method})
process = make_process(NoiseConfig())
for step in range(5):
    drawn = draw(config.method, seed=0, step=step, process=process)
    assert drawn.is_target.all()
    print(int(drawn.t.min()), int(drawn.t.max()))
"""


def test_its_draws_are_those_that_it_describes(python: Callable[..., str]) -> None:
    lowest, highest = zip(*(map(int, line.split()) for line in python("-c", _DRAWN).splitlines()), strict=True)
    for share, low in zip((0.25, 0.5, 0.75, 1, 1), lowest, strict=True):
        assert 1000 * (1 - share) <= low < 1000 * (1 - share) + 120
    assert min(highest) > 900


def test_where_it_is_not_installed_it_is_refused_by_its_name() -> None:
    with pytest.raises(ValidationError) as refused:
        TransferConfig.model_validate({"model": "tiny-dit", "method": {"type": "curriculum"}})
    (error,) = refused.value.errors()
    assert error["loc"] == ("method",)
    assert "'supervised', 'diff_tuning'" in error["msg"]
