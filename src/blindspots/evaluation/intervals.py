"""Confidence intervals of rates over the images of one seed."""

import math

Z95 = 1.959963984540054  # the 97.5 % point of the standard normal distribution


def wilson_interval(count, total):
    """Return the 95 % Wilson score interval of a rate.

    Parameters
    ----------
    count, total : int
        0 <= count <= total.

    Returns
    -------
    low, high : float
        In [0, 1]; both NaN if ``total`` is 0.

    References
    ----------
    E. B. Wilson, 1927, "Probable inference, the law of succession, and statistical inference".
    """
    if not 0 <= count <= total:
        raise ValueError(f"a count of {count} out of {total} is impossible")
    if total == 0:
        return math.nan, math.nan
    rate = count / total
    return score_interval(rate, rate * (1 - rate) / total, total, Z95)


def score_interval(rate, variance, total, quantile):
    """Return Wilson's interval for a rate whose variance need not be that of independent images.

    Wilson's is the one with ``variance = rate (1 - rate) / total``. Unlike rate -+ quantile x
    standard error it has a width where no image or every image is fooled.

    Parameters
    ----------
    rate : float
        In [0, 1].
    variance : float
        Of the rate.
    total : float
        Images that the rate is over.
    quantile : float
        Half the width of the interval, in standard errors.

    Returns
    -------
    low, high : float
        In [0, 1].
    """
    q2 = quantile**2
    centre = (rate + q2 / (2 * total)) / (1 + q2 / total)
    half = quantile / (1 + q2 / total) * math.sqrt(variance + q2 / (4 * total**2))
    # At 0 and at 1 the formula gives the bound itself but for rounding.
    low = 0.0 if rate == 0 else max(0.0, centre - half)
    high = 1.0 if rate == 1 else min(1.0, centre + half)
    return low, high
