"""Confidence intervals of medians over the images of one seed."""

import math

import numpy as np


def median_interval(values):
    """Return a 95 % interval of a median, from two of the values, whatever their distribution.

    Between the values of rank r and n + 1 - r the median lies with the probability
    1 - 2 P(X < r), where X counts the heads of n fair coins; r is the largest that gives 95 %.

    Parameters
    ----------
    values : ndarray of float, shape (n,)

    Returns
    -------
    low, high : float
        Both NaN of fewer than six values: even the least and the largest are too near.

    References
    ----------
    W. R. Thompson, 1936, "On confidence ranges for the median".
    """
    from scipy.special import bdtr

    ordered, count = np.sort(values), len(values)
    rank = int((bdtr(np.arange(count), count, 0.5) <= 0.025).sum())
    if rank == 0:
        return math.nan, math.nan
    return float(ordered[rank - 1]), float(ordered[count - rank])
