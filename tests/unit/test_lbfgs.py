"""L-BFGS for one function: directions, line search, what it does at the end of its wits."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.optimize import line_search, minimize, rosen, rosen_der

from blindspots.optim.lbfgs import CURVATURE, DECREASE, LBFGS, strong_wolfe


def rosenbrock(x):
    array = x.double().numpy()
    return torch.tensor(rosen(array)).to(x), torch.from_numpy(rosen_der(array)).to(x)


def quartic(size, seed=0):
    """Return a convex function with fourth powers, and a start."""
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(size, size, generator=generator, dtype=torch.float64)
    hessian = factor @ factor.T + 0.1 * torch.eye(size, dtype=torch.float64)

    def fun(x):
        return 0.5 * x @ hessian @ x + x.pow(4).sum(), hessian @ x + 4 * x**3

    return fun, torch.randn(size, generator=generator, dtype=torch.float64)


def descended(fun, start, pairs, iterations):
    descent = LBFGS(fun, start, pairs)
    descent.begin()
    for _ in range(iterations):
        if not descent.iterate():
            break
    return descent


# Directions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("pairs", [1, 4, 30])
def test_direction_is_that_of_the_bfgs_formula(pairs):
    """The dense inverse Hessian, updated with the newest pairs one after the other."""
    fun, start = quartic(12)
    descent, kept = LBFGS(fun, start, pairs), []
    descent.begin()
    for _ in range(14):
        point, gradient = descent.point.clone(), descent.gradient.clone()
        assert descent.iterate()
        kept.append((descent.point - point, descent.gradient - gradient))
        step, change = kept[-1]
        identity = torch.eye(12, dtype=torch.float64)
        inverse = (step @ change) / (change @ change) * identity
        for step, change in kept[-pairs:]:
            curvature = step @ change
            across = identity - torch.outer(change, step) / curvature
            inverse = across.T @ inverse @ across + torch.outer(step, step) / curvature
        torch.testing.assert_close(
            descent._direction(), -inverse @ descent.gradient, rtol=1e-8, atol=1e-12
        )


@pytest.mark.parametrize("pairs", [3, 10, 40])
def test_rosenbrock_as_scipy(pairs):
    """Its minimum, in about as many evaluations."""
    start = np.full(30, -0.5)
    options = {"maxcor": pairs, "gtol": 1e-6, "ftol": 0, "maxfun": 10**5}
    theirs = minimize(rosen, start, jac=rosen_der, method="L-BFGS-B", options=options)
    descent = LBFGS(rosenbrock, torch.from_numpy(start), pairs)
    descent.begin()
    while descent.gradient.abs().max() > 1e-6 and descent.evaluations < 2000:
        assert descent.iterate()
    np.testing.assert_allclose(descent.point.numpy(), theirs.x, atol=1e-5)
    assert descent.evaluations < 1.5 * theirs.nfev


def test_value_and_gradient_are_those_of_the_point():
    """And every point is lower than the one before."""
    fun, start = quartic(20)
    descent, last = LBFGS(fun, start, 5), math.inf
    descent.begin()
    for _ in range(10):
        value, gradient = fun(descent.point)
        assert descent.value == value.item() < last
        assert torch.equal(descent.gradient, gradient)
        last = descent.value
        assert descent.iterate()
    assert descent.iterations == 10


def test_evaluations_are_counted():
    calls = []

    def counted(x):
        calls.append(x)
        return rosenbrock(x)

    descent = descended(counted, torch.zeros(6, dtype=torch.float64), 5, 15)
    assert descent.evaluations == len(calls) >= 16


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_at_a_minimum_little_is_tried(dtype):
    """Where only rounding is left, it ends, or stays there with few evaluations of each line."""
    fun, start = quartic(8)

    def raised(x):
        value, gradient = fun(x.double())
        return (value + 1).to(x), gradient.to(x)

    descent = descended(raised, start.to(dtype), 8, 200)
    assert descent.value == pytest.approx(1.0, rel=1e-6)
    assert descent.evaluations < 5 * (descent.iterations + 10)
    still = descended(raised, torch.zeros(8, dtype=dtype), 8, 1)
    assert still.iterations == 0 and still.evaluations == 1


@pytest.mark.parametrize("hole", [math.nan, math.inf])
def test_holes_are_stepped_back_from(hole):
    """Where the function is no number; at the start there is nothing to be done."""

    def holed(x):
        value, gradient = (x - 1).square().sum(), 2 * (x - 1)
        return (value, gradient) if x.norm() < 2 else (value * hole, gradient * hole)

    descent = descended(holed, torch.full((3,), -0.9, dtype=torch.float64), 5, 50)
    torch.testing.assert_close(descent.point, torch.ones(3, dtype=torch.float64))
    lost = descended(holed, torch.full((3,), 5.0, dtype=torch.float64), 5, 50)
    assert not math.isfinite(lost.value) and lost.evaluations == 1


def test_state_goes_on_with_the_same_bits():
    """Before the history is full, and after."""
    fun, start = quartic(15)
    whole = descended(fun, start, 6, 25)
    for iterations in (1, 4, 13):
        state = copy.deepcopy(descended(fun, start, 6, iterations).state_dict())
        again = LBFGS(fun, start, 6)
        again.load_state_dict(state)
        again.begin()
        while again.iterations < whole.iterations:
            assert again.iterate()
        assert torch.equal(again.point, whole.point) and again.value == whole.value
        assert again.evaluations == whole.evaluations


# Line search -------------------------------------------------------------------------------------

FUNCTIONS = {
    "parabola": (lambda t: (t - 1) ** 2, lambda t: 2 * (t - 1)),
    "far": (lambda t: (t / 300 - 1) ** 2, lambda t: 2 * (t / 300 - 1) / 300),
    "near": (lambda t: (300 * t - 1) ** 2, lambda t: 600 * (300 * t - 1)),
    "waves": (lambda t: math.cos(3 * t) - t / 2, lambda t: -3 * math.sin(3 * t) - 0.5),
    "More-Thuente 1": (
        lambda t: -t / (t * t + 2),
        lambda t: (t * t - 2) / (t * t + 2) ** 2,
    ),
    "More-Thuente 2": (
        lambda t: (t + 0.004) ** 5 - 2 * (t + 0.004) ** 4,
        lambda t: 5 * (t + 0.004) ** 4 - 8 * (t + 0.004) ** 3,
    ),
}


@pytest.mark.parametrize("first", [1e-3, 0.1, 1.0, 10.0, 1e3])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_strong_wolfe_conditions_hold(name, first):
    value, slope = FUNCTIONS[name]
    begin = (value(0.0), slope(0.0))
    assert begin[1] < 0
    length, reached = strong_wolfe(lambda t: (value(t), slope(t)), *begin, first)
    assert length > 0 and reached == value(length)
    assert reached <= begin[0] + DECREASE * length * begin[1]
    assert abs(slope(length)) <= CURVATURE * abs(begin[1])
    # As scipy's own, which begins at 1.
    theirs = line_search(
        lambda t: value(t[0]), lambda t: np.array([slope(t[0])]), np.zeros(1), np.ones(1)
    )[0]
    assert theirs is None or abs(slope(theirs)) <= CURVATURE * abs(begin[1])


def test_step_of_a_search_that_finds_nothing():
    """Where the function only rises, whatever its slope says: none."""
    assert strong_wolfe(lambda t: (1 + t, -1.0), 0.0, -1.0, 1.0) == (0, 0)


def test_search_that_never_flattens_takes_the_lowest():
    """A straight line down: no step satisfies the second condition, the longest is the lowest."""
    length, reached = strong_wolfe(lambda t: (-t, -1.0), 0.0, -1.0, 1.0)
    assert length > 1e6 and reached == -length
