"""The exact rotation test: is the natural basis of some features like any other?

Szegedy et al. 2013, section 3 (https://arxiv.org/abs/1312.6199), say that it is. If so, the mean
over the directions of one basis of whatever is measured of them has the same distribution for the
natural basis as for rotations of it, which are drawn here. The test needs no independence among
units, which share their images: the basis is what counts, once.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from blindspots.experiments.units.fields import LARGEST, STATISTICS, TOP
from blindspots.randomness import stable_seed

FRESH = "fresh"  # the stream of a basis that is no part of a null distribution


@dataclass(frozen=True)
class Comparison:
    """What became of a statistic.

    Attributes
    ----------
    value : float
        Of the directions that are tested.
    null_mean, null_sd : float
        Mean and standard deviation over random bases.
    z : float
        (value - null_mean) / null_sd; NaN where all bases are alike.
    p : float
        Two-sided: twice the share of bases, the tested one included, that lie at least as far out
        on the nearer side, at most 1.
    bases : int
    """

    value: float
    null_mean: float
    null_sd: float
    z: float
    p: float
    bases: int


def haar_basis(dimensions, *stream):
    """Return a basis from the uniform distribution over all orthonormal ones.

    Parameters
    ----------
    dimensions : int
        At least 2.
    *stream
        What tells this draw from others.

    Returns
    -------
    torch.Tensor of float32, shape (D, D)
        A direction in each row.
    """
    from scipy.stats import ortho_group  # slow to import

    generator = np.random.Generator(np.random.PCG64(stable_seed("basis", *stream)))
    return torch.from_numpy(ortho_group.rvs(dimensions, random_state=generator)).float()


def top_images(scores, count=TOP):
    """Return the images that directions respond to most.

    Of equal responses the first images count, so the order of the images should be random.

    Parameters
    ----------
    scores : torch.Tensor, shape (D, N)
    count : int

    Returns
    -------
    torch.Tensor of int64, shape (D, count)
        Positions, the largest score first.
    """
    values, places = scores.topk(count, dim=1)
    # Which of those that are equal it takes is not said; they are rare among random directions.
    tied = (values[:, 1:] == values[:, :-1]).any(1) | ((scores >= values[:, -1:]).sum(1) > count)
    if bool(tied.any()):
        order = scores[tied].argsort(dim=1, descending=True, stable=True)
        places[tied] = order[:, :count]
    return places


def summaries(statistics):
    """Return what is tested of the statistics of some directions.

    Parameters
    ----------
    statistics : dict of str to torch.Tensor of float64, shape (D,)

    Returns
    -------
    torch.Tensor of float64, shape (len(SUMMARIES),)
        Of each the mean, and the value than which a tenth of the directions is more coherent: where
        a few are and most are not, the mean does not show it.
    """
    found = []
    for name in STATISTICS:
        values = statistics[name]
        # Sorted, so that the order of the directions changes no bit.
        mean = values.sort().values.mean()
        found += [mean, values.quantile(0.9 if name in LARGEST else 0.1)]
    return torch.stack(found).cpu()


def compared(value, null):
    """Compare a value with those of random bases.

    Parameters
    ----------
    value : float
    null : numpy.ndarray of float64, shape (B,)

    Returns
    -------
    Comparison
        NaN throughout where the statistic does not exist.
    """
    if not (math.isfinite(value) and np.isfinite(null).all()):
        return Comparison(math.nan, math.nan, math.nan, math.nan, math.nan, len(null))
    # What sums in another order is not another value.
    margin = 1e-12 * max(abs(value), 1e-300)
    above, below = (null >= value - margin).sum(), (null <= value + margin).sum()
    p = min(1.0, 2 * (1 + int(min(above, below))) / (1 + len(null)))
    mean, deviation = float(null.mean()), float(null.std(ddof=1))
    apart = deviation > 1e-9 * abs(mean)
    z = (value - mean) / deviation if apart else math.nan
    return Comparison(value, mean, deviation if apart else 0.0, z, p, len(null))
