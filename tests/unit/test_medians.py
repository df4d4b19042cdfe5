"""Intervals of medians against tables, and how often they hold the median."""

import numpy as np

from blindspots.evaluation.medians import median_interval


def test_median_interval_is_that_of_the_tables():
    """Ranks of the 95 % interval, as tables of order statistics have them."""
    for count, rank in {6: 1, 8: 1, 9: 2, 12: 3, 25: 8, 100: 40}.items():
        values = np.random.default_rng(0).permutation(count) + 1.0
        assert median_interval(values) == (rank, count + 1 - rank)
    assert np.isnan(median_interval(np.arange(5.0))).all()
    assert np.isnan(median_interval(np.zeros(0))).all()


def test_median_interval_holds_the_median_as_often_as_it_says():
    generator = np.random.default_rng(1)
    held = [
        low <= 0 <= high
        for low, high in (median_interval(generator.standard_cauchy(40)) for _ in range(2000))
    ]
    assert 0.95 <= np.mean(held) <= 0.98
