"""The batched curvature memory against dense inverse BFGS matrices."""

import numpy as np
import pytest
import torch

from blindspots.optim.lbfgs_memory import CurvatureMemory

SIZE, MEMORY, ROWS = 7, 4, 3
FREE = np.array([[1, 1, 1, 1, 1, 1, 1], [1, 0, 1, 1, 0, 1, 0], [0, 0, 0, 1, 0, 0, 0]], dtype=float)
SCALE = np.array([0.3, 1.0, 4.0])


def pairs_of_a_convex_function(generator, count):
    """Steps and differences of the gradient of a random positive definite quadratic."""
    factor = generator.standard_normal((SIZE, SIZE))
    hessian = factor @ factor.T + 0.1 * np.eye(SIZE)
    steps = generator.standard_normal((count, SIZE))
    return [(s, hessian @ s) for s in steps]


def usable_pairs(pairs, weight, free):
    """Return what the memory still holds, whole function and free variables, oldest first."""
    full = [(free * s, free * (y + 2 * weight * s)) for s, y in pairs[-MEMORY:]]
    return [(s, y) for s, y in full if s @ y > 1e-10 * (y @ y)]


def dense_direction(pairs, gradient, weight, scale, free):
    """Return -H g with the dense inverse BFGS matrix of the pairs in the free variables."""
    inverse = scale * np.eye(SIZE)
    for s, y in usable_pairs(pairs, weight, free):
        v = np.eye(SIZE) - np.outer(y, s) / (s @ y)
        inverse = v.T @ inverse @ v + np.outer(s, s) / (s @ y)
    return -inverse @ (free * gradient)


def dense_directions(histories, gradient, weight, free):
    rows = zip(histories, gradient, weight, SCALE, free, strict=True)
    return np.stack([dense_direction(*row) for row in rows])


def filled_memory(histories):
    """Return a memory in which every row has seen its own pairs, all as many."""
    memory = CurvatureMemory(len(histories), SIZE, MEMORY, torch.zeros(1, dtype=torch.float64))
    for turn in zip(*histories, strict=True):
        memory.update(*(torch.tensor(np.stack(part)) for part in zip(*turn, strict=True)))
    return memory


def directions(memory, gradient, weight, free):
    """Return the directions of the memory as an array."""
    arguments = (free * gradient, weight, SCALE, free)
    return memory.direction(*map(torch.tensor, arguments)).numpy()


@pytest.fixture
def generator():
    return np.random.default_rng(0)


@pytest.fixture
def histories(generator):
    """One of each row, as long as the memory."""
    return [pairs_of_a_convex_function(generator, MEMORY) for _ in range(ROWS)]


@pytest.fixture
def gradient(generator):
    return generator.standard_normal((ROWS, SIZE))


@pytest.mark.parametrize("free", [np.ones((ROWS, SIZE)), FREE], ids=["all", "some"])
@pytest.mark.parametrize("weight", [0.0, 1e-3, 0.3, 20.0])
@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 11])
def test_direction_is_that_of_the_dense_matrix(generator, gradient, count, weight, free):
    """For fewer pairs than the memory holds, as many and more; for every weight and free space."""
    histories = [pairs_of_a_convex_function(generator, count) for _ in range(ROWS)]
    weights = weight * np.arange(1, ROWS + 1)
    found = directions(filled_memory(histories), gradient, weights, free)
    wanted = dense_directions(histories, gradient, weights, free)
    np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-9)
    assert (found[free == 0] == 0).all()


def test_row_without_free_variables_stays(histories, gradient):
    found = directions(filled_memory(histories), gradient, np.ones(ROWS), 0 * FREE)
    assert (found == 0).all()


def test_weight_and_free_variables_may_change_between_directions(histories, gradient):
    """The answer depends on the pairs, the present weight and the present mask alone."""
    memory = filled_memory(histories)
    weight = np.full(ROWS, 0.7)
    before = directions(memory, gradient, weight, FREE)
    directions(memory, gradient, 100 * weight, 1 - FREE)
    np.testing.assert_array_equal(directions(memory, gradient, weight, FREE), before)


@pytest.mark.parametrize("weight", [0.1, 2.0])
def test_pairs_of_negative_curvature_are_passed_over(generator, histories, gradient, weight):
    """For a weight that does not make their curvature positive; for a larger one they count."""
    step = generator.standard_normal(SIZE)
    histories[0][2] = (step, -step)
    weights, free = np.full(ROWS, weight), np.ones((ROWS, SIZE))
    assert len(usable_pairs(histories[0], weight, free[0])) == MEMORY - (weight < 0.5)
    found = directions(filled_memory(histories), gradient, weights, free)
    np.testing.assert_allclose(
        found, dense_directions(histories, gradient, weights, free), rtol=1e-8
    )


def test_pairs_are_judged_in_the_free_variables(histories, gradient):
    """A pair of positive curvature that is negative among the free variables, and the opposite."""
    free = np.ones((ROWS, SIZE))
    free[:, 0] = 0
    step = np.ones(SIZE)
    outside = 10 * np.eye(SIZE)[0]
    histories[0][3] = (step, outside - 0.2 * step)
    histories[1][3] = (step, 0.2 * step - outside)
    counts = [len(usable_pairs(h, 0.0, f)) for h, f in zip(histories, free, strict=True)]
    assert counts[:2] == [MEMORY - 1, MEMORY]
    found = directions(filled_memory(histories), gradient, np.zeros(ROWS), free)
    wanted = dense_directions(histories, gradient, np.zeros(ROWS), free)
    np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-9)


def test_zero_steps_are_passed_over(histories, gradient):
    """Of rows that wait while others move; a waiting row still loses its oldest pairs."""
    nothing = (np.zeros(SIZE), np.zeros(SIZE))
    histories[0][1:3] = [nothing, nothing]
    histories[2] = [nothing] * MEMORY
    weight = np.full(ROWS, 0.4)
    found = directions(filled_memory(histories), gradient, weight, FREE)
    wanted = dense_directions(histories, gradient, weight, FREE)
    np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(found[2], -SCALE[2] * FREE[2] * gradient[2])


@pytest.mark.parametrize("weight", [0.1, 2.0])
def test_scale_is_that_of_the_newest_usable_pair(generator, histories, weight):
    """The inverse curvature s.y / y.y of the whole function; the fallback where there is none."""
    step = generator.standard_normal(SIZE)
    histories[1][-1] = (step, -step)  # usable for the larger weight only
    histories[2] = [(np.zeros(SIZE), np.zeros(SIZE))] * MEMORY
    fallback = torch.tensor([5.0, 6.0, 7.0], dtype=torch.float64)
    weights = torch.full((ROWS,), weight, dtype=torch.float64)
    found = filled_memory(histories).scale(weights, fallback).numpy()
    wanted = fallback.numpy().copy()
    for row in range(2):
        s, y = usable_pairs(histories[row], weight, np.ones(SIZE))[-1]
        wanted[row] = (s @ y) / (y @ y)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_scale_of_an_empty_memory_is_the_fallback():
    fallback = torch.tensor([5.0, 6.0])
    memory = CurvatureMemory(2, SIZE, MEMORY, fallback)
    assert torch.equal(memory.scale(torch.ones(2), fallback), fallback)


def test_select_keeps_rows(generator, histories):
    """In the order asked for, and they go on learning on their own."""
    memory = filled_memory(histories)
    keep = [2, 0]
    memory.select(torch.tensor(keep))
    kept = [histories[row] + pairs_of_a_convex_function(generator, 1) for row in keep]
    memory.update(*(torch.tensor(np.stack([h[-1][part] for h in kept])) for part in (0, 1)))
    gradient = generator.standard_normal((2, SIZE))
    arguments = (FREE[keep] * gradient, np.ones(2), SCALE[keep], FREE[keep])
    found = memory.direction(*map(torch.tensor, arguments)).numpy()
    rows = zip(kept, *arguments, strict=True)
    wanted = np.stack([dense_direction(*row) for row in rows])
    np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-12)
    fallback = torch.full((2,), torch.nan).double()
    found = memory.scale(torch.ones(2).double(), fallback).numpy()
    newest = [usable_pairs(history, 1.0, np.ones(SIZE))[-1] for history in kept]
    np.testing.assert_allclose(found, [(s @ y) / (y @ y) for s, y in newest])


def test_select_keeps_what_scale_needs(histories):
    """Also before the next pair comes."""
    memory = filled_memory(histories)
    weight, fallback = torch.ones(ROWS).double(), torch.full((ROWS,), torch.nan).double()
    keep = torch.tensor([2, 0])
    wanted = memory.scale(weight, fallback)[keep]
    memory.select(keep)
    assert torch.equal(memory.scale(weight[keep], fallback[keep]), wanted)
