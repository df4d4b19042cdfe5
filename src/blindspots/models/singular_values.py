"""Singular values of the linear layers of a network, and what no two images' distance grows by.

Szegedy et al. 2013, section 4.3 (https://arxiv.org/abs/1312.6199), with two of its formulas put
right: the frequencies that a stride D folds onto each other lie 2 pi / D apart, not pi / D, and the
norm of what is left is 1 / D of that of their matrices side by side.
"""

import math
from dataclasses import replace

import torch
from torch.nn import functional

from blindspots.models.operators import Dense

CHUNK = 2**22  # complex numbers at a time
ITERATIONS, SETTLED = 60, 1e-6  # of the power method


def upper_bound(layer):
    """Return a number that no input is stretched by more than.

    Parameters
    ----------
    layer : blindspots.models.operators.Convolution or blindspots.models.operators.Dense

    Returns
    -------
    float
        The largest singular value, where it is known exactly; else that on a torus.
    """
    if isinstance(layer, Dense):
        return singular_extremes(layer.weight)[1]
    return (window_bounds if windows_apart(layer) else circular_bounds)(layer)[1]


def cumulative_bounds(operations, upper):
    """Return what no difference of two images is stretched by, up to each operation.

    Parameters
    ----------
    operations : list of blindspots.models.operators.Operation
        As `blindspots.models.operators.trace` returns them.
    upper : callable
        From an operation to its Lipschitz constant; NaN where it is not known.

    Returns
    -------
    dict of Operation to float
        Products along the pass; branches add (sums) or add in squares (concatenations). NaN from
        an operation on whose constant is not known.
    """
    bounds = {}
    for operation in operations:
        before = [bounds[source] for source in operation.sources]
        bounds[operation] = upper(operation) * _joined(operation.kind, before)
    return bounds


def circular_bounds(layer):
    """Return the smallest and the largest singular value of a convolution on a torus.

    The torus is as large as the image and its padding of one side: the paddings of both sides may
    share its cells, so that the zero-padded convolution is a part of the circular one and the
    largest value bounds it. The smallest one need not do so.

    A stride D makes a convolution of stride 1 of it, over blocks of D x D cells whose cells are
    channels. At each of its frequencies that is a matrix of F x (C D D), with the singular values
    of the D D aliased F x C matrices side by side, divided by D. The weights are real, so half of
    the frequencies suffice; where the kernel is no larger than a block, they are all alike.

    Parameters
    ----------
    layer : Convolution

    Returns
    -------
    smallest, largest : float
        The smallest is that of the min(F, C D D) values at each frequency; with groups, the
        smallest and the largest of any group.
    """
    weight = _blocks(layer)  # (groups, F / groups, C D D / groups, a, b)
    groups, rows, columns, *taps = weight.shape
    height, width = (
        1 if tap == 1 else side // stride
        for side, stride, tap in zip(torus(layer), layer.stride, taps, strict=True)
    )
    down, across = _fourier(height, taps[0], height), _fourier(width, taps[1], width // 2 + 1)
    extremes = []
    for phases in down.split(max(1, CHUNK // (groups * rows * columns * len(across)))):
        half = torch.einsum("gfcab,ya->ygfcb", weight.to(phases.dtype), phases)
        extremes.append(singular_extremes(torch.einsum("ygfcb,xb->yxgfc", half, across)))
    smallest, largest = zip(*extremes, strict=True)
    return min(smallest), max(largest)


def window_bounds(layer):
    """Return the smallest and the largest singular value of a convolution of separate windows.

    Parameters
    ----------
    layer : Convolution
        Without padding, its kernel no larger than its stride: each window is a matrix by itself.

    Returns
    -------
    smallest, largest : float
    """
    weight = layer.weight.flatten(1).unflatten(0, (layer.groups, -1))
    smallest, largest = singular_extremes(weight)
    cells = layer.outputs[1] * layer.outputs[2] * math.prod(layer.weight.shape[2:])
    # Cells that no window reads are lost, which shows where outputs are not fewer than inputs.
    unread = cells < math.prod(layer.size)
    return 0.0 if unread and weight.shape[1] > weight.shape[2] else smallest, largest


def dense_bounds(layer):
    """Return the smallest and the largest singular value of a convolution as it is, padded with 0.

    Parameters
    ----------
    layer : Convolution
        Its matrix, (H' W' F) x (H W C) divided by the groups, should fit into memory.

    Returns
    -------
    smallest, largest : float
    """
    return singular_extremes(dense_matrix(layer))


def dense_matrix(layer):
    """Return the matrices of a convolution or its adjoint, whichever takes fewer numbers.

    Parameters
    ----------
    layer : Convolution

    Returns
    -------
    torch.Tensor, shape (groups, inputs, outputs)
        What becomes of each unit vector of a group.
    """
    given, made, apply = layer.inputs, layer.outputs, layer
    if math.prod(made) < math.prod(given):
        given, made, apply = made, given, layer.adjoint
    each = (given[0] // layer.groups, *given[1:])
    count = math.prod(each)
    unit = torch.eye(count, dtype=layer.weight.dtype).view(count, *each)
    mapped = apply(unit.repeat(1, layer.groups, 1, 1))
    return mapped.reshape(count, layer.groups, -1).transpose(0, 1)


def singular_extremes(matrices):
    """Return the smallest and the largest singular value among matrices.

    Taken from the eigenvalues of the smaller Gram matrix, in double precision: in single precision
    rounding would hide all values below 3e-4 of the largest.

    Parameters
    ----------
    matrices : torch.Tensor, shape (..., m, n)
        Of each, the min(m, n) singular values count.

    Returns
    -------
    smallest, largest : float
        The smallest is 0 if rounding hides it: below about 1e-8 sqrt(min(m, n)) of the largest.
    """
    matrices = matrices.to(torch.promote_types(matrices.dtype, torch.float64))
    if matrices.shape[-2] > matrices.shape[-1]:
        matrices = matrices.mT
    gram = matrices @ matrices.mH
    squares = gram.real if gram.shape[-1] == 1 else torch.linalg.eigvalsh(gram)
    smallest, largest = (float(edge) for edge in torch.aminmax(squares))
    rounding = gram.shape[-1] * torch.finfo(torch.float64).eps * largest
    return math.sqrt(smallest) if smallest > rounding else 0.0, math.sqrt(largest)


def power_iteration(layer, iterations=ITERATIONS):
    """Return how much a layer stretches the input that the power method finds: at most its norm.

    Parameters
    ----------
    layer : Convolution or Dense
    iterations : int
        Pairs of the layer and its adjoint, in single precision; fewer if the value settles. The
        value itself is that of the last input, in double precision.

    Returns
    -------
    float
    """
    single = replace(layer, weight=layer.weight.float())
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(1, *layer.inputs, generator=generator)
    last = 0.0
    for _ in range(iterations):
        vector = functional.normalize(vector.flatten(), dim=0).view_as(vector)
        mapped = single(vector)
        gain = float(mapped.norm())
        if gain <= last * (1 + SETTLED):
            break
        last, vector = gain, single.adjoint(mapped)
    vector = vector.double()
    length = float(vector.norm())
    return float(layer(vector).norm()) / length if length > 0 else 0.0


def torus(layer):
    """Return height and width of the smallest torus that holds a zero-padded convolution."""
    axes = zip(layer.size, layer.padding, layer.kernel, layer.stride, strict=True)
    return tuple(s * math.ceil(max(n + p, k) / s) for n, p, k, s in axes)


def _blocks(layer):
    """Return the kernel over blocks of stride x stride cells, (groups, F/g, C s s/g, a, b)."""
    weight = layer.weight
    filters, channels = weight.shape[:2]
    (high, wide), (down, across) = layer.kernel, layer.stride
    whole = weight.new_zeros(
        filters, channels, down * math.ceil(high / down), across * math.ceil(wide / across)
    )
    whole[:, :, : high : layer.dilation[0], : wide : layer.dilation[1]] = weight
    cells = whole.unflatten(3, (-1, across)).unflatten(2, (-1, down))  # (F, C, a, s, b, s)
    cells = cells.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)
    return cells.unflatten(0, (layer.groups, -1))


def _fourier(count, taps, frequencies):
    """Return exp(-2 pi i w t / count) of the first frequencies w and all taps t."""
    turns = torch.outer(torch.arange(frequencies), torch.arange(taps)).double() / count
    return torch.polar(torch.ones_like(turns), -2 * math.pi * turns)


def windows_apart(layer):
    """Tell whether all windows lie in the image and no two share a cell."""
    axes = zip(layer.kernel, layer.stride, layer.padding, strict=True)
    return all(k <= s and p == 0 for k, s, p in axes)


def _joined(kind, gains):
    """Return by how much the inputs of an operation may have grown, taken together."""
    if kind == "concatenation":
        return math.hypot(*gains)
    if kind == "sum":
        return sum(gains)
    return max(gains, default=1.0)
