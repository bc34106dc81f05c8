"""How many sample images a run draws where it does not say: what they may cost depends on run and model."""

from __future__ import annotations

import pytest

from difftune_core.config.samples import SamplesConfig, completed_samples


@pytest.mark.parametrize(
    ("steps", "batch_size", "marked", "is_small", "wanted"),
    [
        (400, 64, (100, 200), True, (8, None)),
        (24_000, 32, (6000, None), False, (8, None)),
        (800, 8, (400, 40), True, (4, 400)),
        (20, 4, (5, None), True, (4, 5)),
        (400, 4, (100, 10), False, (4, 400)),
        (4, 4, (1, None), False, (0, None)),
        (24_000, 32, (1, None), False, (8, 240)),
    ],
    ids=["the demo", "full size", "many evaluations", "short, small", "short, large", "a trial", "many checkpoints"],
)
def test_they_take_a_small_share_of_a_run(
    steps: int, batch_size: int, marked: tuple[int | None, ...], *, is_small: bool, wanted: tuple[int, int | None]
) -> None:
    given = SamplesConfig()
    found = completed_samples(given, steps=steps, batch_size=batch_size, marked=marked, is_small=is_small)
    assert (found.num_images, found.every_steps) == wanted


def test_what_is_stated_stays() -> None:
    given = SamplesConfig(num_images=64, every_steps=1)
    assert completed_samples(given, steps=4, batch_size=1, marked=(1, None), is_small=False) == given


def test_they_are_due_at_both_ends_and_between() -> None:
    def due(**given: int) -> list[int]:
        return [step for step in range(8) if SamplesConfig(num_images=1, **given).is_due(step, 7, 4, None)]

    assert due() == [0, 4, 7]
    assert due(every_steps=3) == [0, 3, 6, 7]
    assert not any(SamplesConfig(num_images=0).is_due(step, 7, 4) for step in range(8))
