"""Frame bounds of the layers of a network: the smallest and the largest of their singular values.

Szegedy et al. 2013, section 4.3 (https://arxiv.org/abs/1312.6199), with two of its formulas put
right: the frequencies that a stride D folds onto each other lie 2 pi / D apart, not pi / D, and the
norm of what is left is 1 / D of that of their matrices side by side.
"""

import math
from collections import Counter
from dataclasses import replace

import torch
from torch.nn import functional

from blindspots.errors import UserError
from blindspots.experiments.frames.fields import FIELDS
from blindspots.experiments.frames.initialisation import initial_bounds
from blindspots.experiments.frames.operators import Dense, trace

DENSE_SIDE = 1568  # singular values that a matrix may have to be taken as it is: a few seconds
DENSE_CELLS = 2**24  # its numbers: 128 MiB
CHUNK = 2**22  # complex numbers at a time
ITERATIONS, SETTLED = 60, 1e-6  # of the power method


def frame_bounds(network, shape):
    """Bound from both sides how much each layer of a network stretches its input.

    Parameters
    ----------
    network : torch.nn.Module
        Maps images (B, *shape) to logits; it is left as it was.
    shape : tuple of int
        Shape of one image, (C, H, W).

    Returns
    -------
    list of dict
        One row for each linear layer, in the order of the pass, and for each other operation whose
        Lipschitz constant is not 1. Batch normalisation is folded into the layer before it.

        ``layer`` kind and number, ``kind``, ``size`` as in print (inputs x height x width x
        outputs); ``lower`` the smallest of the min(m, n) singular values of a layer with n inputs
        and m outputs; ``power`` what some input reaches, ``upper`` what none exceeds; ``method``
        how ``lower`` was found: ``gram`` and ``dense`` (eigenvalues of the Gram matrix),
        ``windows`` (no two share a cell, so that one is enough), ``circular`` (on a torus, padding
        ignored). ``bound`` is what ``lower`` is: ``exact``, ``below`` the true value, or an
        ``estimate``. ``shape`` is ``tall`` (m > n), ``square`` or ``wide``: of a wide layer, lower
        is a bound of the adjoint; the layer itself maps a whole subspace to 0. ``sigma_max`` is the
        largest singular value where it is known exactly. ``product`` bounds what the network up to
        here does. ``init_lower`` and ``init_upper`` are what torch's own initialisation would give
        (`initial_bounds`). NaN stands for what does not exist or is not known.

    Raises
    ------
    UserError
        If the network has no layer whose bounds are known.
    """
    operations = trace(network, shape)
    if not any(operation.layer for operation in operations):
        raise UserError(
            "the network has no convolution or dense layer that takes the image or what became of "
            "it, so it has no frame bounds; leave it out of this experiment"
        )
    rows, counts, gains = [], Counter(), {}
    for operation in operations:
        measured = layer_bounds(operation.layer) if operation.layer else _constants(operation)
        before = [gains[source] for source in operation.sources]
        gains[operation] = measured["upper"] * _joined(operation.kind, before)
        if not before or not _shown(operation, before):
            continue
        counts[operation.kind] += 1
        rows.append(dict.fromkeys(FIELDS, math.nan) | measured)
        rows[-1]["layer"] = f"{operation.kind} {counts[operation.kind]}"
        rows[-1] |= {"kind": operation.kind, "module": operation.module}
        rows[-1]["product"] = gains[operation]
    return rows


def layer_bounds(layer):
    """Return the measured columns of `frame_bounds` for one linear layer.

    Parameters
    ----------
    layer : Convolution or Dense

    Returns
    -------
    dict
    """
    inputs, outputs = math.prod(layer.inputs), math.prod(layer.outputs)
    groups = () if isinstance(layer, Dense) else (layer.stride, layer.groups)
    low, high = initial_bounds(tuple(layer.weight.shape), *groups)
    row = {"power": power_iteration(layer), "init_lower": low, "init_upper": high}
    if isinstance(layer, Dense):
        smallest, largest = singular_extremes(layer.weight)
        row |= {"size": f"{inputs}x{outputs}", "input": str(inputs)}
        row |= {"lower": smallest, "upper": largest, "sigma_max": largest}
        return row | {"method": "gram", "bound": "exact", "shape": _shape(outputs, inputs)}

    given, made = layer.inputs, layer.outputs
    if layer.transposed:
        inputs, outputs, given, made = outputs, inputs, made, given
    taps = layer.weight.shape[2:]
    row |= {"size": "x".join(map(str, (given[0], *taps, made[0]))), "groups": layer.groups}
    row |= {"input": "x".join(map(str, given)), "shape": _shape(outputs, inputs)}
    row["stride"] = _times(layer.stride)
    if _windows_apart(layer):
        smallest, largest = window_bounds(layer)
        row |= {"lower": smallest, "upper": largest, "sigma_max": largest}
        return row | {"method": "windows", "bound": "exact"}
    smallest, largest = circular_bounds(layer)
    row |= {"lower": smallest, "upper": largest, "method": "circular"}
    row["bound"] = "below" if _holds_without_torus(layer) else "estimate"
    if _fits(layer):
        smallest, largest = dense_bounds(layer)
        row |= {"lower": smallest, "sigma_max": largest, "method": "dense", "bound": "exact"}
    return row


def circular_bounds(layer):
    """Return the smallest and the largest singular value of a convolution on a torus.

    The torus is as large as the image and its padding of one side: the paddings of both sides may
    share its cells, so that the zero-padded convolution is a part of the circular one and the
    largest value bounds it. The smallest one does so only under `_holds_without_torus`.

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


def _windows_apart(layer):
    """Tell whether all windows lie in the image and no two share a cell."""
    axes = zip(layer.kernel, layer.stride, layer.padding, strict=True)
    return all(k <= s and p == 0 for k, s, p in axes)


def _holds_without_torus(layer):
    """Tell whether the smallest singular value on the torus is at most that with zero padding.

    It is so if the torus has at least as many outputs as inputs, and padding leaves none of those
    out that see the image: then the layer is the circular one on fewer inputs. It is also so if it
    has no more outputs than inputs, and there is no padding: then the layer has some of its
    outputs, which see the image alone.
    """
    filters, channels = layer.weight.shape[0] // layer.groups, layer.weight.shape[1]
    inputs = channels * math.prod(layer.stride)
    if filters >= inputs and all(
        p >= k - 1 for p, k in zip(layer.padding, layer.kernel, strict=True)
    ):
        return True
    return filters <= inputs and layer.padding == (0, 0)


def _fits(layer):
    """Tell whether the matrix of a convolution may be taken as it is."""
    sides = [math.prod(shape) // layer.groups for shape in (layer.inputs, layer.outputs)]
    return min(sides) <= DENSE_SIDE and layer.groups * math.prod(sides) <= DENSE_CELLS


def _times(numbers):
    """Return numbers as a size; once if they are all the same."""
    return "x".join(map(str, numbers if len(set(numbers)) > 1 else numbers[:1]))


def _shape(outputs, inputs):
    if outputs == inputs:
        return "square"
    return "tall" if outputs > inputs else "wide"


def _constants(operation):
    """Return the measured columns of an operation without a layer."""
    constant = math.nan if operation.constant is None else operation.constant
    linear = not math.isnan(operation.smallest)
    row = {"lower": operation.smallest, "upper": constant, "size": "", "input": ""}
    row |= {"power": constant if linear else math.nan, "stride": "", "groups": ""}
    row |= {"method": operation.method or "not known", "shape": ""}
    return row | {"bound": "exact" if linear else ""}


def _joined(kind, gains):
    """Return by how much the inputs of an operation may have grown, taken together."""
    if kind == "concatenation":
        return math.hypot(*gains)
    if kind == "sum":
        return sum(gains)
    return max(gains, default=1.0)


def _shown(operation, before):
    """Tell whether an operation is a row: of those that are not known, the first on its path."""
    if operation.layer:
        return True
    if operation.constant is None:
        return not any(map(math.isnan, before))
    return operation.constant != 1
