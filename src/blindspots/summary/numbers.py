"""Numbers as texts, with as many digits as they need."""

import math


def distortion(rms, decimals=3):
    """Return an RMS distortion in so many decimals, or in as many as show two of its digits.

    On a photograph a thousandth of the pixel range is a large one.
    """
    if 0 < rms < 10.0 ** (1 - decimals):
        decimals = 1 - math.floor(math.log10(rms))
    return f"{rms:.{decimals}f}"


def digits(value, count):
    """Return a number in so many significant digits, without an exponent where it is large."""
    return f"{float(f'{value:.{count}g}'):.15g}"
