"""Judged images are made chunk by chunk, each once, whoever looks at them."""

from __future__ import annotations

import numpy as np

from difftune_core.data.pixels import Made
from difftune_core.evaluate.drawn import on_disk
from difftune_core.evaluate.features import load_extractor
from difftune_core.evaluate.judge import AT_ONCE
from difftune_core.families.dit.judge import DiTJudge
from tests.core.runs import BUNDLED

COUNT = 2 * AT_ONCE + 5
IMAGES = np.random.default_rng(0).integers(0, 255, (COUNT, 8, 8, 3), dtype=np.uint8)


def counted() -> tuple[Made, list[int]]:
    made: list[int] = []

    def make(start: int, stop: int) -> np.ndarray:
        made.append(stop - start)
        return IMAGES[start:stop]

    return Made(IMAGES.shape, make), made


def test_what_is_looked_at_twice_is_made_once() -> None:
    drawn, made = counted()
    kept = on_disk(drawn, AT_ONCE)
    assert np.array_equal(kept, IMAGES)
    assert np.array_equal(kept[3:5], IMAGES[3:5])
    assert made == [AT_ONCE, AT_ONCE, 5]


def test_features_in_chunks_are_those_of_all_at_once() -> None:
    drawn, made = counted()
    extractor = load_extractor(BUNDLED / "tiny-features")
    judge = object.__new__(DiTJudge)
    object.__setattr__(judge, "extractors", (extractor,))
    assert np.array_equal(judge.main_features(drawn), extractor(IMAGES))
    assert max(made) == AT_ONCE


def test_an_extractor_that_let_go_of_its_network_gives_the_same() -> None:
    extractor = load_extractor(BUNDLED / "tiny-features")
    before = extractor(IMAGES[:4])
    extractor.release()
    assert "_net" not in vars(extractor)
    assert np.array_equal(extractor(IMAGES[:4]), before)
