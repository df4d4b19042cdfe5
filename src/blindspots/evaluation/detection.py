"""How well a detector tells images apart: balanced accuracy and the area under the ROC curve.

Both are means of one number for each image whose deviations from the mean are what the image adds
to the error of the whole (for the area: DeLong et al. 1988, "Comparing the areas under two or more
correlated receiver operating characteristic curves"). So intervals over seeds and images follow as
for any mean.
"""

import numpy as np

from blindspots.evaluation.intervals import Z95
from blindspots.evaluation.seeds import Mean, mean_over_seeds


def balanced_accuracy(scores, labels):
    """Return for each image a number whose mean is the mean of the two rates of right answers.

    Parameters
    ----------
    scores : ndarray of float, shape (N,)
        Above 0 where the detector says 1.
    labels : ndarray of int, shape (N,)
        0 or 1; some of either.

    Returns
    -------
    ndarray of float, shape (N,)
    """
    return _means_of_either((scores > 0) == (labels == 1), labels, share=0.5)


def area_under_roc(scores, labels):
    """Return for each image a number whose mean is the area under the ROC curve.

    It is the share of pairs of an image of each label whose scores are in the right order; equal
    ones count half.

    Parameters
    ----------
    scores : ndarray of float, shape (N,)
    labels : ndarray of int, shape (N,)
        0 or 1; some of either.

    Returns
    -------
    ndarray of float, shape (N,)
    """
    from scipy.stats import rankdata

    ranks, beaten = rankdata(scores), np.empty(len(scores))
    for label in (0, 1):
        own = labels == label
        # Of the others, how many lie below, in the order of all and not in that of its own.
        below = (ranks[own] - rankdata(scores[own])) / (~own).sum()
        beaten[own] = below if label else 1 - below
    return _means_of_either(beaten, labels, share=1.0)


def mean_over_runs(values, counted, seeds):
    """Return the mean of a number that is known of every image in every run, and its variance.

    Parameters
    ----------
    values : ndarray of float, shape (R, N)
    counted : ndarray of bool, shape (R, N)
    seeds : sequence of int, length R

    Returns
    -------
    blindspots.evaluation.seeds.Mean
        Over seeds and images; with one seed over images alone.
    """
    own = values[0][counted[0]]
    if len(seeds) > 1 or len(own) < 2:
        return mean_over_seeds(values, counted, seeds, seeds)
    return Mean(float(own.mean()), float(own.var(ddof=1)) / len(own), Z95, len(own))


def _means_of_either(values, labels, share):
    """Return numbers (N,) with the mean of the two labels' mean values, and their deviations.

    ``share`` is what each label's mean counts in what is estimated: 1/2 of an accuracy, and all of
    an area, which is the mean over either.
    """
    rates = [values[labels == label].mean() for label in (0, 1)]
    found = np.full(len(labels), (rates[0] + rates[1]) / 2)
    for label, rate in enumerate(rates):
        own = labels == label
        found[own] += share * len(labels) / own.sum() * (values[own] - rate)
    return found
