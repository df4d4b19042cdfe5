"""Frame bounds of random weights, in closed form: how much of table 5 is the shape of matrices."""

import math


def marchenko_pastur_edges(rows, columns, std):
    """Return where the singular values of a large random matrix begin and end.

    Parameters
    ----------
    rows, columns : int
    std : float
        Standard deviation of its entries, which are independent.

    Returns
    -------
    lower, upper : float
        std |sqrt(rows) -+ sqrt(columns)|. Of a square matrix the lower edge is 0: its smallest
        singular value is then of the size of `hard_edge`.
    """
    lower, upper = abs(math.sqrt(rows) - math.sqrt(columns)), math.sqrt(rows) + math.sqrt(columns)
    return std * lower, std * upper


def hard_edge(side, std):
    """Return the median of the smallest singular value of a large square Gaussian matrix.

    For t = sqrt(side) sigma / std, P(sigma_min > sigma) tends to exp(-t - t^2 / 2), which is 1/2
    at t = 0.545. Source: Edelman 1988, Eigenvalues and condition numbers of random matrices.
    """
    return std * (math.sqrt(1 + 2 * math.log(2)) - 1) / math.sqrt(side)


def initial_bounds(shape, stride=(1, 1), groups=1):
    """Return the bounds that torch's own initialisation of a layer would give, without drawing it.

    Its weights have the standard deviation 1 / sqrt(3 fan_in). A convolution is, at each frequency,
    a random matrix of outputs x (inputs D D) entries, with k / D times that deviation, where k is
    the side of the kernel and D the stride. The extremes over all frequencies lie a little further
    out, and kernels that are no multiple of the stride further still: there, take it as a guide.

    Parameters
    ----------
    shape : tuple of int
        Of the weights: (outputs, inputs), or (outputs, inputs / groups, height, width).
    stride : tuple of int
    groups : int

    Returns
    -------
    lower, upper : float
        Edges of Marchenko and Pastur; `hard_edge` below if a dense layer is square. The lower edge
        of a square convolution is 0.
    """
    outputs, inputs, *taps = shape
    std = 1 / math.sqrt(3 * inputs * math.prod(taps))
    if taps:
        fold = math.prod(stride)
        outputs, inputs, std = (
            outputs // groups,
            inputs * fold,
            std * math.sqrt(math.prod(taps) / fold),
        )
    lower, upper = marchenko_pastur_edges(outputs, inputs, std)
    if outputs == inputs and not taps:
        lower = hard_edge(outputs, std)
    return lower, upper
