"""The batched curvature memory against dense inverse BFGS matrices."""

import numpy as np
import pytest
import torch

from blindspots.optim.lbfgs_memory import CurvatureMemory

SIZE, MEMORY = 7, 4


def pairs_of_a_convex_function(generator, count):
    """Steps and differences of the gradient of a random positive definite quadratic."""
    factor = generator.standard_normal((SIZE, SIZE))
    hessian = factor @ factor.T + 0.1 * np.eye(SIZE)
    steps = generator.standard_normal((count, SIZE))
    return [(s, hessian @ s) for s in steps]


def dense_direction(pairs, gradient, weight):
    """Return -H g with the dense inverse BFGS matrix of the pairs that the memory keeps."""
    full = [(s, y + 2 * weight * s) for s, y in pairs[-MEMORY:]]
    full = [(s, y) for s, y in full if s @ y > 0]
    if not full:
        return -gradient / (2 * weight)
    s, y = full[-1]
    inverse = np.eye(SIZE) * (s @ y) / (y @ y)
    for s, y in full:
        v = np.eye(SIZE) - np.outer(y, s) / (s @ y)
        inverse = v.T @ inverse @ v + np.outer(s, s) / (s @ y)
    return -inverse @ gradient


def filled_memory(histories):
    """Return a memory in which every row has seen its own pairs, interleaved."""
    memory = CurvatureMemory(len(histories), SIZE, MEMORY, torch.zeros(1, dtype=torch.float64))
    for turn in range(max(map(len, histories))):
        accept = torch.tensor([turn < len(history) for history in histories])
        step = torch.full((len(histories), SIZE), torch.nan, dtype=torch.float64)
        difference = step.clone()  # rows that are not accepted may hold anything
        for row in accept.nonzero()[:, 0].tolist():
            step[row], difference[row] = map(torch.tensor, histories[row][turn])
        memory.update(accept, step, difference)
    return memory


@pytest.fixture
def generator():
    return np.random.default_rng(0)


@pytest.fixture
def histories(generator):
    """No pair, fewer than the memory holds, exactly as many, and more."""
    return [pairs_of_a_convex_function(generator, count) for count in (0, 1, 3, 4, 5, 11)]


@pytest.mark.parametrize("weight", [1e-3, 0.3, 20.0])
def test_direction_is_that_of_the_dense_matrix(generator, histories, weight):
    """Whatever the number of pairs of each row, and for every weight of the quadratic part."""
    memory = filled_memory(histories)
    gradient = generator.standard_normal((len(histories), SIZE))
    weights = weight * (1 + np.arange(len(histories)))
    found = memory.direction(torch.tensor(gradient), torch.tensor(weights)).numpy()
    rows = zip(histories, gradient, weights, strict=True)
    wanted = np.stack([dense_direction(*row) for row in rows])
    np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-10)


def test_weight_may_change_between_directions(generator, histories):
    """The answer depends on the pairs and the present weight alone."""
    memory = filled_memory(histories)
    gradient = torch.tensor(generator.standard_normal((len(histories), SIZE)))
    weight = torch.full((len(histories),), 0.7, dtype=torch.float64)
    before = memory.direction(gradient, weight)
    memory.direction(gradient, 100 * weight)
    assert torch.equal(memory.direction(gradient, weight), before)


def test_pairs_of_negative_curvature_are_passed_over(generator):
    """For a weight that does not make their curvature positive; for a larger one they count."""
    pairs = pairs_of_a_convex_function(generator, 3)
    step = generator.standard_normal(SIZE)
    pairs.insert(1, (step, -step))
    memory = filled_memory([pairs])
    gradient = generator.standard_normal((1, SIZE))
    for weight in (0.1, 2.0):
        found = memory.direction(torch.tensor(gradient), torch.tensor([weight]).double())
        wanted = dense_direction(pairs, gradient[0], weight)
        np.testing.assert_allclose(found[0].numpy(), wanted, rtol=1e-8)


def test_row_without_pairs_goes_down_the_gradient(generator):
    """By -g / (2 q), the minimiser of the quadratic part."""
    memory = CurvatureMemory(2, SIZE, MEMORY, torch.zeros(1, dtype=torch.float64))
    gradient = torch.tensor(generator.standard_normal((2, SIZE)))
    weight = torch.tensor([0.5, 4.0], dtype=torch.float64)
    found = memory.direction(gradient, weight)
    torch.testing.assert_close(found, -gradient / (2 * weight)[:, None])


def test_select_keeps_rows(generator, histories):
    """In the order asked for, and they go on learning on their own."""
    keep = [5, 2, 0]
    memory = filled_memory(histories)
    memory.select(torch.tensor(keep))
    kept = [histories[row] for row in keep]
    step, difference = pairs_of_a_convex_function(generator, 1)[0]
    pair = (torch.tensor(part).expand(3, SIZE) for part in (step, difference))
    memory.update(torch.tensor([False, True, False]), *pair)
    kept[1] = [*kept[1], (step, difference)]
    gradient = generator.standard_normal((3, SIZE))
    found = memory.direction(torch.tensor(gradient), torch.ones(3, dtype=torch.float64)).numpy()
    wanted = [dense_direction(history, g, 1.0) for history, g in zip(kept, gradient, strict=True)]
    np.testing.assert_allclose(found, np.stack(wanted), rtol=1e-8)
