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
    rate, z2 = count / total, Z95**2
    centre = (rate + z2 / (2 * total)) / (1 + z2 / total)
    half = Z95 / (1 + z2 / total) * math.sqrt(rate * (1 - rate) / total + z2 / (4 * total**2))
    # At 0 and at 1 the formula gives the bound itself but for rounding.
    low = 0.0 if count == 0 else max(0.0, centre - half)
    high = 1.0 if count == total else min(1.0, centre + half)
    return low, high
