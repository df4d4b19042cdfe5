"""The Wilson interval."""

import math

import pytest
from scipy.stats import binomtest

from blindspots.evaluation.intervals import wilson_interval


@pytest.mark.parametrize(
    ("count", "total"), [(0, 1), (1, 1), (0, 10), (3, 10), (10, 10), (50, 100), (9973, 10000)]
)
def test_interval_is_scipys(count, total):
    wanted = binomtest(count, total).proportion_ci(confidence_level=0.95, method="wilson")
    assert wilson_interval(count, total) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


def test_interval_by_hand():
    """5 of 10 with z = 1.96: 0.5 -+ z sqrt(0.25 / (10 + z^2))."""
    half = 1.9599640 * math.sqrt(0.25 / (10 + 3.8414588))
    assert wilson_interval(5, 10) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-7)


@pytest.mark.parametrize("total", [1, 7, 100, 60000])
def test_bounds_are_exact_at_the_ends(total):
    assert wilson_interval(0, total)[0] == 0.0
    assert wilson_interval(total, total)[1] == 1.0


@pytest.mark.parametrize("total", [1, 2, 9, 33])
def test_rate_lies_inside_and_ends_in_the_unit_interval(total):
    for count in range(total + 1):
        low, high = wilson_interval(count, total)
        assert 0 <= low <= count / total <= high <= 1


def test_nothing_counted_is_not_a_number():
    assert all(math.isnan(bound) for bound in wilson_interval(0, 0))


@pytest.mark.parametrize(("count", "total"), [(-1, 5), (6, 5), (1, 0), (0, -1)])
def test_impossible_counts_raise(count, total):
    with pytest.raises(ValueError):
        wilson_interval(count, total)
