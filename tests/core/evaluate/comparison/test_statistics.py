from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from difftune_core.evaluate.comparison.statistics import holm, paired, sign_flip_p, spread

values = st.floats(-1e3, 1e3).map(lambda x: round(x, 3))


def test_spread_by_hand() -> None:
    found = spread([1.0, 2.0, 6.0])
    assert (found.mean, found.n, found.low, found.high) == (3.0, 3, 1.0, 6.0)
    assert found.sd == pytest.approx(7**0.5)
    assert spread([4.0]).sd is None


def test_what_rounding_leaves_of_equal_values_is_no_spread_and_no_difference() -> None:
    same = np.array([58.23, np.nextafter(58.23, 0), np.nextafter(58.23, 99)])
    assert spread(list(same)).sd == 0.0
    found = paired(same, same[::-1].copy())
    assert (found.difference, found.sd, found.interval, found.p_t) == (0.0, 0.0, (0.0, 0.0), None)
    shifted = paired(same, same + 1.0)
    assert shifted.sd == 0.0, "the same shift in every seed"
    assert spread([58.23, 58.24]).sd == pytest.approx(0.01 / 2**0.5)


def test_the_paired_test_is_scipys() -> None:
    rng = np.random.default_rng(0)
    for n in (2, 3, 7, 20):
        first, second = rng.normal(10, 1, n), rng.normal(10.5, 1, n)
        found, wanted = paired(first, second), stats.ttest_rel(second, first)
        assert found.p_t == pytest.approx(wanted.pvalue, rel=1e-9)
        interval = wanted.confidence_interval(0.95)
        assert found.interval == pytest.approx((interval.low, interval.high), rel=1e-9)
        assert found.n == n


def test_sign_flips_by_hand() -> None:
    assert sign_flip_p(np.array([1.0, 2.0, 3.0])) == 2 / 8  # only all signs one way reach 6
    assert sign_flip_p(np.array([1.0, 2.0, -3.0])) == 1.0  # every sum is at least 0 away from 0
    assert sign_flip_p(np.array([-1.0, 5.0, 5.0])) == 4 / 8  # 9, and 11 by swapping the first; both ways
    assert paired(np.zeros(6), np.arange(1.0, 7.0)).p_sign_flip == pytest.approx(2 / 64)
    assert paired(np.zeros(3), np.ones(3)).smallest_p == 0.25


def test_sign_flips_agree_with_counting_all() -> None:
    differences = np.random.default_rng(1).normal(0.4, 1, 9)
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in product((1, -1), repeat=9)]
    assert sign_flip_p(differences) == np.mean(np.array(sums) >= abs(differences.sum()) - 1e-12)


@given(arrays(np.float64, st.integers(2, 8), elements=values), st.integers(-64, 64))
def test_a_constant_shift_is_the_difference(first: np.ndarray, shift: int) -> None:
    found = paired(np.round(first), np.round(first) + shift)
    assert found.difference == shift
    assert found.sd == 0
    assert found.interval == (shift, shift)
    assert found.p_t is None
    assert found.p_sign_flip == (found.smallest_p if shift else 1.0)


@given(arrays(np.float64, st.integers(2, 10), elements=values), st.randoms(use_true_random=False))
def test_the_exact_test_has_neither_direction_nor_order(differences: np.ndarray, random: object) -> None:
    p = sign_flip_p(differences)
    shuffled = differences.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis names no type
    assert sign_flip_p(-differences) == sign_flip_p(shuffled) == p
    assert 2.0 ** (1 - len(differences)) <= p <= 1


def test_one_seed_tests_nothing() -> None:
    found = paired(np.array([3.0]), np.array([5.0]))
    assert found.difference == 2.0
    unknown = (found.sd, found.interval, found.p_t, found.p_sign_flip, found.smallest_p)
    assert unknown == (None,) * 5


def test_more_seeds_than_can_be_counted_have_no_exact_test() -> None:
    found = paired(np.zeros(25), np.random.default_rng(2).normal(1, 1, 25))
    assert found.p_sign_flip is None
    assert found.p_t is not None


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, None, 0.03]) == pytest.approx([0.03, 0.06, None, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_scipys_bonferroni_at_its_smallest_and_never_lowers(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert min(c for c in corrected if c is not None) == pytest.approx(min(1.0, len(p_values) * min(p_values)))
    assert all(c is not None and p <= c <= 1 for p, c in zip(p_values, corrected, strict=True))
