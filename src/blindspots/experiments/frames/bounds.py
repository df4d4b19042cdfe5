"""Frame bounds of the layers of a network: the smallest and the largest of their singular values.

Szegedy et al. 2013, section 4.3 and table 5 (https://arxiv.org/abs/1312.6199).
"""

import math
from collections import Counter

from blindspots.errors import UserError
from blindspots.experiments.frames.fields import FIELDS
from blindspots.experiments.frames.initialisation import initial_bounds
from blindspots.models.operators import Dense, trace
from blindspots.models.singular_values import (
    circular_bounds,
    cumulative_bounds,
    dense_bounds,
    power_iteration,
    singular_extremes,
    window_bounds,
    windows_apart,
)

DENSE_SIDE = 1568  # singular values that a matrix may have to be taken as it is: a few seconds
DENSE_CELLS = 2**24  # its numbers: 128 MiB


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
    measured = {
        operation: layer_bounds(operation.layer) if operation.layer else _constants(operation)
        for operation in operations
    }
    products = cumulative_bounds(operations, lambda operation: measured[operation]["upper"])
    rows, counts = [], Counter()
    for operation in operations:
        before = [products[source] for source in operation.sources]
        if not before or not _shown(operation, before):
            continue
        counts[operation.kind] += 1
        rows.append(dict.fromkeys(FIELDS, math.nan) | measured[operation])
        rows[-1]["layer"] = f"{operation.kind} {counts[operation.kind]}"
        rows[-1] |= {"kind": operation.kind, "module": operation.module}
        rows[-1]["product"] = products[operation]
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
    if windows_apart(layer):
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


def _shown(operation, before):
    """Tell whether an operation is a row: of those that are not known, the first on its path."""
    if operation.layer:
        return True
    if operation.constant is None:
        return not any(map(math.isnan, before))
    return operation.constant != 1
