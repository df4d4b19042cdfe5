"""Anderson mixing on linear fixed-point iterations, whose fixed points are known."""

import pytest
import torch

from blindspots.optim.anderson import AndersonMixing

ROWS = 4


def contractions(size):
    """Random matrices of spectral norm 0.8, not symmetric."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(ROWS, size, size, generator=generator, dtype=torch.float64)
    return 0.8 * matrix / torch.linalg.matrix_norm(matrix, 2)[:, None, None]


def divergent(size):
    """Symmetric matrices with eigenvalues from -1.5 to 0.7."""
    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn(ROWS, size, size, generator=generator, dtype=torch.float64)
    basis = torch.linalg.qr(matrix).Q
    values = torch.linspace(-1.5, 0.7, size, dtype=torch.float64)
    return basis @ torch.diag(values) @ basis.transpose(1, 2)


def offsets(size):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(ROWS, size, generator=generator, dtype=torch.float64)


def image(matrix, offset, point):
    """Return A x + b of every row."""
    return torch.einsum("bij,bj->bi", matrix, point) + offset


def relative_error(matrix, offset, point):
    fixed = torch.linalg.solve(torch.eye(offset.shape[1]) - matrix, offset)
    return (point - fixed).norm(dim=1) / fixed.norm(dim=1)


def iterate(matrix, offset, window, steps):
    """Return the points after each of some steps from zero."""
    mixing = AndersonMixing(*offset.shape, window, offset)
    points = [torch.zeros_like(offset)]
    for _ in range(steps):
        points.append(mixing.extrapolate(points[-1], image(matrix, offset, points[-1])))
    return points


@pytest.mark.parametrize("extra", [0, 2])
@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("matrices", [contractions, divergent])
def test_linear_iteration_ends_after_as_many_steps_as_dimensions(matrices, size, extra):
    """And two more: the regularisation takes its part. Not before."""
    matrix, offset = matrices(size), offsets(size)
    points = iterate(matrix, offset, size + extra, size + 2)
    assert (relative_error(matrix, offset, points[-1]) < 1e-5).all()
    assert (relative_error(matrix, offset, points[size]) > 1e-3).any()


@pytest.mark.parametrize("window", [3, 8])
def test_converges_where_the_plain_iteration_diverges(window):
    """Also with a window shorter than the dimension."""
    matrix, offset = divergent(8), offsets(8)
    plain = torch.zeros_like(offset)
    for _ in range(60):
        plain = image(matrix, offset, plain)
    assert (relative_error(matrix, offset, plain) > 1e6).all()
    assert (relative_error(matrix, offset, iterate(matrix, offset, window, 60)[-1]) < 1e-9).all()


def test_first_step_is_the_plain_one():
    matrix, offset = contractions(3), offsets(3)
    assert torch.equal(iterate(matrix, offset, 3, 1)[-1], offset)


def test_fixed_point_is_kept():
    """Differences of zero do no harm."""
    matrix, offset = contractions(3), offsets(3)
    fixed = torch.linalg.solve(torch.eye(3) - matrix, offset)
    mixing = AndersonMixing(ROWS, 3, 3, offset)
    for _ in range(5):
        assert torch.equal(mixing.extrapolate(fixed, fixed), fixed)


def test_rows_are_independent():
    """Every row goes the way it goes alone, also beside one that is not a number."""
    matrix, offset = divergent(5), offsets(5)
    alone = [iterate(matrix[row, None], offset[row, None], 3, 10)[-1] for row in range(ROWS)]
    offset[1] = torch.nan
    together = iterate(matrix, offset, 3, 10)[-1]
    for row in (0, 2, 3):
        torch.testing.assert_close(together[row, None], alone[row], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("before", [0, 1, 2, 7])
def test_select_keeps_rows(before):
    """In the order asked for, after any number of steps."""
    matrix, offset = contractions(5), offsets(5)
    keep = torch.tensor([3, 0])
    mixing = AndersonMixing(ROWS, 5, 3, offset)
    point = torch.zeros_like(offset)
    for step in range(before + 3):
        if step == before:
            mixing.select(keep)
            matrix, offset, point = matrix[keep], offset[keep], point[keep]
        point = mixing.extrapolate(point, image(matrix, offset, point))
    wanted = iterate(contractions(5), offsets(5), 3, before + 3)[-1]
    torch.testing.assert_close(point, wanted[keep], rtol=1e-8, atol=1e-10)
