"""Means over seeds, and their confidence intervals over seeds and images.

Seeds and images are crossed: every seed is measured on the same images, and every image by all
seeds. So the variance of a mean has a part for each: the seeds of the source, those of the victim,
and the images (pigeonhole model of Owen 2007, https://arxiv.org/abs/0712.1111). With few seeds a
bootstrap over the three makes its intervals too short; Student's t with as many degrees of freedom
as the seeds have does not.
"""

import math
from dataclasses import dataclass

import numpy as np

FEWEST = 3  # seeds: of two, the spread is known to a factor of thirty


@dataclass(frozen=True)
class Mean:
    """A mean over seeds and images.

    Attributes
    ----------
    value : float
        Mean over the runs of each run's mean over its images; NaN where no run has any.
    variance : float
        Its variance over seeds and images; NaN with fewer than `FEWEST` seeds.
    quantile : float
        Half the width of a 95 % interval in standard errors; NaN with fewer than `FEWEST` seeds.
    images : float
        Images of a run, on average.
    """

    value: float
    variance: float
    quantile: float
    images: float

    def interval(self):
        """Return the 95 % interval of a mean of any numbers; NaN, NaN with too few seeds."""
        half = self.quantile * math.sqrt(self.variance)
        return self.value - half, self.value + half

    def size_interval(self):
        """Return the 95 % interval of a mean of numbers above 0; NaN, NaN with too few seeds.

        It is symmetric for the logarithm.
        """
        if not self.value > 0:
            return math.nan, math.nan
        factor = math.exp(self.quantile * math.sqrt(self.variance) / self.value)
        return self.value / factor, self.value * factor

    def rate_interval(self):
        """Return the 95 % interval of a rate, within [0, 1]; NaN, NaN with too few seeds.

        It is symmetric for the log odds. Where no image or every image is fooled, seeds and images
        have no variance to go by, and the interval is Wilson's over the images of one run.
        """
        rate = self.value
        if math.isnan(self.variance):
            return math.nan, math.nan
        if rate in (0, 1):
            end = self.quantile**2 / (self.images + self.quantile**2)
            return (0.0, end) if rate == 0 else (1 - end, 1.0)
        log_odds = math.log(rate / (1 - rate))
        half = self.quantile * math.sqrt(self.variance) / (rate * (1 - rate))
        return _from_log_odds(log_odds - half), _from_log_odds(log_odds + half)


def mean_over_seeds(values, counted, sources, victims):
    """Return the mean of a number that is known of every image in every run, and its variance.

    A run is one seed of the source on one seed of the victim; any set of such pairs will do. Where
    both have the same seed in every run, as in the tables, the pair varies as one.

    Parameters
    ----------
    values : ndarray of float, shape (R, N)
        One row for each run, one column for each image; for a rate 0 or 1.
    counted : ndarray of bool, shape (R, N)
        Images that count in a run; a run without any is left out.
    sources, victims : sequence of int, length R
        Seeds of source and victim.

    Returns
    -------
    Mean
    """
    some = counted.any(1)
    values, counted = values[some], counted[some]
    sources, victims = np.asarray(sources)[some], np.asarray(victims)[some]
    runs = len(values)
    if not runs:
        return Mean(math.nan, math.nan, math.nan, 0.0)
    totals = counted.sum(1)
    values = np.where(counted, values, 0.0)
    means = values.sum(1) / totals
    value, images = float(means.mean()), float(totals.mean())
    kinds = [len(set(seeds.tolist())) for seeds in (sources, victims)]
    seeds = min((kind for kind in kinds if kind > 1), default=1)
    if seeds < FEWEST:
        return Mean(value, math.nan, math.nan, images)

    pairs = np.unique(np.stack([sources, victims]), axis=1, return_inverse=True)[1].reshape(-1)
    of_sources, of_victims, of_pairs = (
        _variance_between(means, groups) for groups in (sources, victims, pairs)
    )
    # Source and victim of a pair vary together, which the sum has twice.
    between = max(of_sources, of_victims, of_sources + of_victims - of_pairs)
    # What each image adds to the mean: of the ratio of two sums, to first order.
    values -= means[:, None] * counted
    shares = (1 / (runs * totals)) @ values
    size = int(counted.any(0).sum())
    of_images = float(np.square(shares).sum()) * size / max(1, size - 1)
    return Mean(value, between + of_images, _quantile(seeds - 1), images)


def mean_of_runs(runs, sources, victims):
    """Return the mean of runs of which each has its own images.

    Parameters
    ----------
    runs : list of (ndarray of int, ndarray of float, ndarray of bool)
        For each run: positions of its images in their base set, the numbers, and which count.
    sources, victims : sequence of int
        As for `mean_over_seeds`.

    Returns
    -------
    Mean
    """
    images = 1 + max((int(indices.max()) for indices, *_ in runs if len(indices)), default=0)
    values = np.zeros((len(runs), images))
    counted = np.zeros((len(runs), images), bool)
    for run, (indices, numbers, some) in enumerate(runs):
        values[run, indices], counted[run, indices] = numbers, some
    return mean_over_seeds(values, counted, sources, victims)


def mean_rms(runs):
    """Return the mean RMS distortion over the seeds of one source.

    Parameters
    ----------
    runs : list of (int, ndarray of int, ndarray of float)
        For each seed: the seed, the positions of its images in their base set, and their RMS
        distortions, NaN where the attack failed.

    Returns
    -------
    Mean
    """
    seeds = [seed for seed, *_ in runs]
    return mean_of_runs([(indices, rms, ~np.isnan(rms)) for _, indices, rms in runs], seeds, seeds)


def _from_log_odds(value):
    return 1 / (1 + math.exp(-value)) if value > 0 else 1 - 1 / (1 + math.exp(value))


def _variance_between(means, groups):
    """Return the variance of the mean of all runs that is due to the groups they belong to."""
    _, group = np.unique(groups, return_inverse=True)
    sums = np.bincount(group, means - means.mean())
    count = len(sums)
    return float(np.square(sums / len(means)).sum()) * count / (count - 1) if count > 1 else 0.0


def _quantile(freedom):
    """Return the 97.5 % point of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))
