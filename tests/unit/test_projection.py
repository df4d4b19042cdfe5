"""The exact projection onto linear inequalities in the box, against scipy."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, nnls

from blindspots.attacks.projection import (
    dot,
    empty_like,
    moved,
    nonnegative_solution,
    projection_multipliers,
    where_inside,
)

ROWS, SIZE = 8, 40


def random_columns(generator, count):
    return generator.standard_normal((ROWS, SIZE, count))


def correlated_columns(generator, count):
    common = generator.standard_normal((ROWS, SIZE, 1))
    return common + 0.3 * generator.standard_normal((ROWS, SIZE, count))


def zero_column(generator, count):
    columns = random_columns(generator, count)
    columns[:, :, -1] = 0
    return columns


def all_zero(generator, count):
    return np.zeros((ROWS, SIZE, count))


def identical_columns(generator, count):
    columns = random_columns(generator, count)
    columns[:, :, -1] = columns[:, :, 0]
    return columns


@pytest.mark.parametrize("started", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize("count", [1, 2, 4, 9])
@pytest.mark.parametrize(
    "columns", [random_columns, correlated_columns, zero_column, all_zero, identical_columns]
)
def test_nonnegative_solution_is_that_of_nnls(columns, count, started):
    """The value of ||A l - y||^2 over l >= 0, from zero and from a random start."""
    generator = np.random.default_rng(count)
    matrix = columns(generator, count)
    right = generator.standard_normal((ROWS, SIZE)) + matrix.mean(2)
    gram = np.einsum("bik,bij->bkj", matrix, matrix)
    product = np.einsum("bik,bi->bk", matrix, right)
    start = np.abs(generator.standard_normal((ROWS, count))) * started
    found = nonnegative_solution(*map(torch.tensor, (gram, product, start))).numpy()
    assert (found >= 0).all()
    for row in range(ROWS):
        _, lowest = nnls(matrix[row], right[row])
        value = np.linalg.norm(matrix[row] @ found[row] - right[row])
        assert lowest * (1 - 1e-9) <= value <= lowest * (1 + 1e-8)


def test_identical_columns_share_their_multiplier():
    gram = torch.ones(1, 2, 2, dtype=torch.float64)
    found = nonnegative_solution(gram, torch.ones(1, 2).double(), torch.zeros(1, 2).double())
    torch.testing.assert_close(found, torch.full_like(found, 0.5), rtol=1e-5, atol=0)


def test_single_multiplier_is_exact():
    """Without the ridge that keeps equal columns apart; zero where it would be negative."""
    gram = torch.tensor([2.0, 2.0, 0.0, 1e-9]).double()[:, None, None]
    right = torch.tensor([3.0, -3.0, 1.0, 1e-9]).double()[:, None]
    found = nonnegative_solution(gram, right, torch.zeros_like(right))
    assert found[:, 0].tolist() == [1.5, 0.0, 0.0, 1.0]


@pytest.mark.parametrize("started", [False, True], ids=["cold", "warm"])
def test_more_pivots_make_no_solution_worse(started):
    """The best of all is kept; none is worse than zero, nor the search left unfinished."""
    generator = np.random.default_rng(0)
    factor = generator.standard_normal((200, 9, 1)) + 0.05 * generator.standard_normal((200, 9, 9))
    gram = torch.tensor(np.einsum("bik,bij->bkj", factor, factor))
    right = torch.tensor(generator.standard_normal((200, 9)))
    start = torch.ones_like(right) * started
    before = torch.zeros(200).double()
    for pivots in range(1, 7):
        found = nonnegative_solution(gram, right, start, pivots)
        value = (found * (torch.einsum("bij,bj->bi", gram, found) / 2 - right)).sum(1)
        assert (value <= before + 1e-9 * before.abs()).all()
        if pivots == 2:
            early = value
        before = value
    assert (before < early).any()


def grey(generator):
    return generator.uniform(0.1, 0.9, (ROWS, SIZE))


def partly_black(generator):
    return generator.uniform(-0.4, 1.4, (ROWS, SIZE)).clip(0, 1)


def black_and_white(generator):
    return generator.integers(0, 2, (ROWS, SIZE)).astype(float)


def few_greys(generator):
    images = black_and_white(generator)
    images[:, :3] = generator.uniform(0.1, 0.9, (ROWS, 3))
    return images


def inequalities(images, count, share=0.5):
    """Return images, gradients and bounds: a share of what many clipped pixels would give."""
    generator = np.random.default_rng(count)
    origin = images(generator)
    gradients = generator.standard_normal((ROWS, count, SIZE))
    far = (origin + 0.8 * gradients.sum(1)).clip(0, 1)
    return origin, gradients, share * np.einsum("bn,bkn->bk", far - origin, gradients)


def quadratic_programme(origin, gradients, bounds):
    """Return scipy's projection of one image."""
    result = minimize(
        lambda x: 0.5 * ((x - origin) ** 2).sum(),
        origin,
        jac=lambda x: x - origin,
        bounds=[(0, 1)] * SIZE,
        constraints={
            "type": "ineq",
            "fun": lambda x: gradients @ (x - origin) - bounds,
            "jac": lambda x: gradients,
        },
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert (gradients @ (result.x - origin) > bounds - 1e-9).all()
    return result.x


@pytest.mark.parametrize("share", [0.5, 0.8])
@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("images", [grey, partly_black, few_greys, black_and_white])
def test_projection_is_that_of_a_quadratic_programme(images, count, share):
    """Without a start, and at the latest from what that gives; also where all is black or white."""
    case = inequalities(images, count, share)
    wanted = torch.tensor(np.stack([quadratic_programme(*row) for row in zip(*case, strict=True)]))
    origin, gradients, bounds = map(torch.tensor, case)
    stopped = ((wanted < 1e-9) | (wanted > 1 - 1e-9)) & ((wanted - origin).abs() > 1e-3)
    assert stopped.any() or (images is black_and_white and share == 0.5)
    cold = projection_multipliers(origin, gradients, bounds, None)
    warm = projection_multipliers(origin, gradients, bounds, cold)
    assert (cold >= 0).all() and (warm >= 0).all() and (warm > 0).any(1).all()
    point = moved(origin, gradients, cold)
    torch.testing.assert_close(point, wanted, rtol=0, atol=1e-4 if share == 0.5 else 1e-2)
    point = moved(origin, gradients, warm)
    torch.testing.assert_close(point, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("factor", [0.9, 1.1])
@pytest.mark.parametrize("images", [grey, partly_black, few_greys, black_and_white])
def test_projection_from_a_start_nearby(images, factor):
    """Two rounds lead where a cold start leads."""
    origin, gradients, bounds = map(torch.tensor, inequalities(images, 2))
    wanted = projection_multipliers(origin, gradients, bounds, None)
    found = projection_multipliers(origin, gradients, bounds, factor * wanted)
    assert (factor * wanted - wanted).abs().max() > 1e-2
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("images", [grey, partly_black, few_greys, black_and_white])
@pytest.mark.parametrize("count", [1, 2])
def test_projection_from_multipliers_of_zero(images, count):
    """As after a point that needed none; a few rounds lead where a cold start leads."""
    origin, gradients, bounds = map(torch.tensor, inequalities(images, count))
    wanted = moved(origin, gradients, projection_multipliers(origin, gradients, bounds, None))
    multipliers = torch.zeros_like(bounds)
    for _ in range(5):
        multipliers = projection_multipliers(origin, gradients, bounds, multipliers)
    torch.testing.assert_close(moved(origin, gradients, multipliers), wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("images", [grey, black_and_white])
def test_satisfied_inequalities_need_no_multipliers(images):
    """The projection is the origin."""
    origin, gradients, bounds = map(torch.tensor, inequalities(images, 3))
    multipliers = projection_multipliers(origin, gradients, -bounds.abs(), None)
    assert torch.equal(multipliers, torch.zeros_like(bounds))
    assert torch.equal(moved(origin, gradients, multipliers), origin)


def test_gradient_of_zero_moves_nothing():
    """Not even where the inequality cannot be met."""
    origin, gradients, bounds = map(torch.tensor, inequalities(grey, 2))
    gradients[:, 1] = 0
    alone = projection_multipliers(origin, gradients[:, :1], bounds[:, :1], None)
    multipliers = projection_multipliers(origin, gradients, bounds.abs(), None)
    assert (multipliers[:, 1] == 0).all() and multipliers.isfinite().all()
    bounds[:, 1] = 1
    multipliers = projection_multipliers(origin, gradients, bounds, None)
    torch.testing.assert_close(multipliers[:, :1], alone, rtol=1e-4, atol=1e-5)


def test_memory_is_used_and_changes_nothing():
    """A longer one than needed, full of garbage."""
    origin, gradients, bounds = map(torch.tensor, inequalities(partly_black, 2))
    kept = gradients.clone()
    memory = torch.full((gradients.numel() + 5,), torch.nan, dtype=torch.float64)
    found = projection_multipliers(origin, gradients, bounds, None, memory)
    assert torch.equal(found, projection_multipliers(origin, gradients, bounds, None))
    assert torch.equal(gradients, kept)
    assert memory[:-5].isfinite().all() and memory[-5:].isnan().all()
    assert empty_like(gradients, memory).data_ptr() == memory.data_ptr()
    assert empty_like(gradients, memory).shape == gradients.shape


def test_pixels_at_or_beyond_the_bounds_are_not_inside():
    target = torch.tensor([[-0.1, 0.0, 1e-6, 0.5, 1.0, 1.1]])
    gradients = torch.full((1, 2, 6), 3.0)
    found = torch.full_like(gradients, torch.nan)
    where_inside(gradients, target, out=found)
    assert torch.equal(found, torch.tensor([0.0, 0, 3, 3, 0, 0]).expand(1, 2, 6))


def test_dot_and_moved_are_what_they_say():
    origin, gradients, _ = map(torch.tensor, inequalities(grey, 3))
    multipliers = torch.tensor(np.random.default_rng(0).uniform(0, 1, (ROWS, 3)))
    torch.testing.assert_close(
        dot(origin, gradients), torch.einsum("bn,bkn->bk", origin, gradients)
    )
    wanted = (origin + torch.einsum("bk,bkn->bn", multipliers, gradients)).clamp(0, 1)
    torch.testing.assert_close(moved(origin, gradients, multipliers), wanted)
