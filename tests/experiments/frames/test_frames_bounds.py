"""Bounds of single layers against singular values of matrices, and of random weights in theory."""

import math
from unittest import mock

import numpy as np
import pytest
import torch

from blindspots.experiments.frames.bounds import layer_bounds
from blindspots.experiments.frames.initialisation import (
    hard_edge,
    initial_bounds,
    marchenko_pastur_edges,
)
from blindspots.models.operators import Convolution, Dense
from blindspots.models.singular_values import (
    circular_bounds,
    dense_bounds,
    dense_matrix,
    power_iteration,
    singular_extremes,
    torus,
    window_bounds,
)

CIRCULAR = {
    # filters, channels of a group, kernel, stride, groups, size
    "3x3": (4, 3, (3, 3), (1, 1), 1, (8, 8)),
    "5x5": (2, 4, (5, 5), (1, 1), 1, (9, 7)),
    "1x1": (3, 5, (1, 1), (1, 1), 1, (6, 6)),
    "k4s2": (3, 2, (4, 4), (2, 2), 1, (8, 8)),
    "k3s2": (6, 2, (3, 3), (2, 2), 1, (8, 10)),
    "k11s4": (5, 2, (11, 11), (4, 4), 1, (16, 12)),
    "k2s3": (4, 2, (2, 2), (3, 3), 1, (9, 9)),
    "k2s2": (9, 2, (2, 2), (2, 2), 1, (8, 8)),
    "groups": (6, 2, (3, 3), (1, 1), 3, (7, 8)),
    "groups, stride": (4, 3, (3, 3), (2, 2), 2, (8, 8)),
    "depthwise": (5, 1, (3, 3), (1, 1), 5, (7, 7)),
    "depthwise, stride": (8, 1, (5, 5), (2, 2), 4, (10, 10)),
    "oblong": (3, 2, (1, 4), (2, 1), 1, (6, 9)),
}


def convolution(filters, channels, kernel, size, seed=0, **rest):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(filters, channels, *kernel, dtype=torch.float64, generator=generator)
    return Convolution(weight, size, **rest)


def circular_matrices(layer):
    """Return the matrix of a convolution on the torus that its image is, built cell by cell."""
    channels, *taps = layer.weight.shape[1:]
    high, wide = layer.size
    down, across = layer.stride
    matrices = []
    for kernels in layer.weight.numpy().reshape(layer.groups, -1, channels, *taps):
        matrix = np.zeros((len(kernels), high // down, wide // across, channels, high, wide))
        for row, column in np.ndindex(high // down, wide // across):
            for a, b in np.ndindex(*taps):
                cell = (row * down + a) % high, (column * across + b) % wide
                matrix[:, row, column, :, *cell] += kernels[:, :, a, b]
        matrices.append(matrix.reshape(matrix.shape[0] * matrix[0, ..., 0, 0, 0].size, -1))
    return matrices


@pytest.mark.parametrize("name", CIRCULAR)
def test_frequencies_give_the_singular_values_of_the_circular_matrix(name):
    filters, channels, kernel, stride, groups, size = CIRCULAR[name]
    layer = convolution(filters, channels, kernel, size, stride=stride, groups=groups)
    assert torus(layer) == size
    values = [np.linalg.svd(m, compute_uv=False) for m in circular_matrices(layer)]
    smallest, largest = circular_bounds(layer)
    assert largest == pytest.approx(max(v[0] for v in values), rel=1e-6)
    assert smallest == pytest.approx(min(v[-1] for v in values), rel=1e-6, abs=1e-6 * largest)


@pytest.mark.parametrize("name", ["k4s2", "k3s2", "k11s4"])
def test_aliases_lie_two_pi_over_the_stride_apart_and_the_norm_is_divided_by_it(name):
    filters, channels, kernel, stride, _, (high, wide) = CIRCULAR[name]
    layer = convolution(filters, channels, kernel, (high, wide), stride=stride)
    step = stride[0]
    spectrum = np.fft.fft2(layer.weight.numpy(), (high, wide))
    apart = [
        np.concatenate(
            [
                spectrum[:, :, (u + i * high // step) % high, (v + j * wide // step) % wide]
                for i, j in np.ndindex(step, step)
            ],
            axis=1,
        )
        for u, v in np.ndindex(high // step, wide // step)
    ]
    norm = max(np.linalg.norm(matrix, 2) for matrix in apart) / step
    assert circular_bounds(layer)[1] == pytest.approx(norm, rel=1e-9)


def random_cases():
    generator = np.random.default_rng(0)
    for seed in range(60):
        kernel, stride = (tuple(generator.integers(1, 5, 2).tolist()) for _ in range(2))
        padding = tuple(int(generator.integers(0, k + 1)) for k in kernel)
        dilation = tuple(generator.integers(1, 3, 2).tolist())
        groups = int(generator.choice([1, 1, 2, 3]))
        size = tuple(generator.integers(7, 11, 2).tolist())
        filters, channels = groups * int(generator.integers(1, 5)), int(generator.integers(1, 4))
        rest = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        yield convolution(filters, channels, kernel, size, seed, **rest)


def test_the_power_method_is_below_the_matrix_and_that_below_the_frequencies():
    gaps = []
    for layer in random_cases():
        values = torch.linalg.svdvals(dense_matrix(layer))
        exact = float(values.max())
        power, (_, upper) = power_iteration(layer), circular_bounds(layer)
        assert power <= exact * (1 + 1e-12)
        assert exact <= upper * (1 + 1e-12)
        gaps.append(1 - power / exact)
        assert dense_bounds(layer)[1] == pytest.approx(exact, rel=1e-9)
        row = layer_bounds(layer)
        assert row["sigma_max"] == pytest.approx(exact, rel=1e-9)
        assert row["bound"] == "exact"
        assert row["lower"] == pytest.approx(float(values.min()), abs=1e-6 * exact)
    assert max(gaps) < 0.02


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    ("filters", "channels", "kernel", "stride", "padding", "size"),
    [
        (5, 2, (3, 3), (1, 1), (2, 2), (7, 7)),  # tall, and every window that sees the image
        (9, 2, (3, 2), (2, 2), (3, 1), (8, 7)),
        (2, 2, (3, 3), (1, 1), (2, 2), (6, 8)),
        (2, 5, (3, 3), (1, 1), (0, 0), (7, 8)),  # wide, without padding
        (3, 2, (4, 3), (2, 2), (0, 0), (8, 8)),
        (3, 2, (4, 3), (2, 2), (0, 0), (9, 8)),
    ],
)
def test_where_the_circular_value_is_said_to_be_below_it_is(
    filters, channels, kernel, stride, padding, size, groups, seed
):
    rest = {"stride": stride, "padding": padding, "groups": groups}
    layer = convolution(groups * filters, channels, kernel, size, seed, **rest)
    assert without_matrix(layer) == "below"
    assert circular_bounds(layer)[0] <= dense_bounds(layer)[0] * (1 + 1e-9)


def without_matrix(layer):
    """Return what the lower bound would be if the matrix did not fit."""
    with mock.patch("blindspots.experiments.frames.bounds._fits", return_value=False):
        return layer_bounds(layer)["bound"]


def test_the_smallest_circular_value_is_no_bound_with_little_padding():
    layer = convolution(8, 1, (5, 5), (12, 12), seed=1)
    row = layer_bounds(layer)
    assert row["lower"] < 0.5 * circular_bounds(layer)[0]
    assert (row["method"], row["shape"]) == ("dense", "tall")
    assert without_matrix(layer) == "estimate"
    padded = convolution(8, 1, (5, 5), (12, 12), seed=1, padding=(4, 4))
    assert layer_bounds(padded)["lower"] >= circular_bounds(padded)[0]
    assert without_matrix(padded) == "below"


@pytest.mark.parametrize(
    ("filters", "kernel", "stride", "size"),
    [
        (3, (1, 1), (1, 1), (6, 6)),
        (9, (1, 1), (1, 1), (6, 6)),
        (3, (2, 2), (2, 2), (8, 6)),
        (9, (2, 2), (2, 2), (7, 8)),
        (3, (1, 1), (2, 2), (8, 8)),
        (9, (1, 2), (2, 3), (8, 9)),
    ],
)
@pytest.mark.parametrize("groups", [1, 3])
def test_separate_windows_need_one_matrix(filters, kernel, stride, size, groups):
    layer = convolution(filters, 2, kernel, size, stride=stride, groups=groups)
    row = layer_bounds(layer)
    assert (row["method"], row["bound"]) == ("windows", "exact")
    values = torch.linalg.svdvals(dense_matrix(layer))
    assert window_bounds(layer)[1] == pytest.approx(circular_bounds(layer)[1], rel=1e-9)
    assert row["upper"] == pytest.approx(float(values.max()), rel=1e-9)
    assert row["lower"] == pytest.approx(float(values.min()), abs=1e-7)


def test_matrices_too_large_are_not_taken():
    layer = convolution(2, 1, (3, 3), (40, 40), padding=(1, 1))
    row = layer_bounds(layer)
    assert (row["method"], row["bound"], row["shape"]) == ("circular", "estimate", "tall")
    assert math.isnan(row.get("sigma_max", math.nan))
    assert 0.95 * row["upper"] < row["power"] <= row["upper"]


@pytest.mark.parametrize(("rows", "columns"), [(40, 40), (30, 70), (70, 30), (1, 9)])
def test_the_gram_matrix_in_double_precision_gives_singular_values(rows, columns):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(rows, columns, dtype=torch.float64, generator=generator)
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    values[-1] = values[0] * 1e-5  # single precision would not see it
    if rows == 1:
        values[-1] = 1.0
    row = layer_bounds(Dense(left * values @ right))
    assert row["upper"] == pytest.approx(float(values.max()), rel=1e-9)
    assert row["lower"] == pytest.approx(float(values.min()), rel=1e-5)
    assert (row["method"], row["bound"]) == ("gram", "exact")
    assert row["shape"] == ("square" if rows == columns else "tall" if rows > columns else "wide")


def test_what_rounding_hides_is_zero():
    weight = torch.ones(5, 7, dtype=torch.float64)
    smallest, largest = singular_extremes(weight)
    assert smallest == 0
    assert largest == pytest.approx(math.sqrt(35))
    assert power_iteration(Dense(0 * weight)) == 0


@pytest.mark.parametrize(("rows", "columns"), [(1024, 2304), (1000, 250), (400, 1600)])
def test_dense_layers_begin_at_the_edges_of_marchenko_and_pastur(rows, columns):
    torch.manual_seed(0)
    row = layer_bounds(Dense(torch.nn.Linear(columns, rows).weight.detach().double()))
    edges = marchenko_pastur_edges(rows, columns, 1 / math.sqrt(3 * columns))
    assert (row["init_lower"], row["init_upper"]) == pytest.approx(edges)
    assert row["lower"] == pytest.approx(edges[0], rel=0.02)
    assert row["upper"] == pytest.approx(edges[1], rel=0.02)


def test_square_layers_begin_at_the_hard_edge():
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(3000, 30, 30, dtype=torch.float64, generator=generator)
    smallest = torch.linalg.svdvals(matrices)[:, -1]
    assert float(smallest.median()) == pytest.approx(hard_edge(30, 1.0), rel=0.07)
    assert initial_bounds((40, 40))[0] == hard_edge(40, 1 / math.sqrt(120))
    # As in print: of the three dense layers of table 5, the square one has a bound 1000 times less.
    assert initial_bounds((4096, 4096))[0] == pytest.approx(7.7e-5, rel=0.01)


@pytest.mark.parametrize(
    ("filters", "channels", "kernel", "stride", "groups"),
    [(96, 32, 3, 1, 1), (64, 128, 5, 1, 1), (96, 16, 4, 2, 1), (96, 16, 3, 1, 2)],
)
def test_convolutions_begin_near_the_edges(filters, channels, kernel, stride, groups):
    torch.manual_seed(0)
    weight = torch.nn.Conv2d(channels * groups, filters, kernel, groups=groups).weight
    layer = Convolution(weight.detach().double(), (12, 12), (stride, stride), groups=groups)
    lower, upper = initial_bounds(tuple(weight.shape), (stride, stride), groups)
    measured = circular_bounds(layer)
    assert measured[0] == pytest.approx(lower, rel=0.12)
    assert measured[1] == pytest.approx(upper, rel=0.06)
