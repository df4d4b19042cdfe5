"""The batched box-constrained L-BFGS against scipy's, and what it promises for each row."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize as scipy_minimize
from threadpoolctl import threadpool_limits

from blindspots.optim.lbfgsb import BoxedDescent, minimize

INF = torch.inf
TIGHT = {"ftol": 0.0, "gtol": 1e-8}
MESSAGES = {
    "gradient": "converged: the projected gradient is at most gtol",
    "decrease": "converged: the relative decrease is at most ftol",
    "stuck": "stopped: the line search found no decrease",
    "iterations": "stopped: maxiter iterations are reached",
    "evaluations": "stopped: maxfun evaluations are reached",
}


@dataclass
class Problem:
    """Functions of a batch, their box, where to start, and the solution where it is known."""

    fun: Any
    x0: torch.Tensor
    lower: Any
    upper: Any
    solution: Any = None
    gtol: float = 1e-8


class Quadratics:
    """The functions x' H x / 2 + c' x of several problems."""

    def __init__(self, hessian, linear):
        self.hessian, self.linear = hessian, linear

    def __call__(self, x, rows):
        product = torch.einsum("bij,bj->bi", self.hessian[rows], x)
        linear = self.linear[rows]
        return (x * (product / 2 + linear)).sum(1), product + linear


def rosenbrock(x, rows):
    """The sum of 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2."""
    left, right = x[:, :-1], x[:, 1:]
    bend = right - left.square()
    value = (100 * bend.square() + (1 - left).square()).sum(1)
    gradient = torch.zeros_like(x)
    gradient[:, :-1] += -400 * left * bend - 2 * (1 - left)
    gradient[:, 1:] += 200 * bend
    return value, gradient


def hessians(generator, rows, size, condition):
    """Random matrices with eigenvalues from 1 to the condition number, evenly in the logarithm."""
    basis = np.linalg.qr(generator.standard_normal((rows, size, size)))[0]
    values = np.geomspace(1, condition, size)
    return torch.tensor(basis * values @ basis.transpose(0, 2, 1))


def quadratic(size, condition, bounded=True, rows=3):
    """Random quadratics whose solution, active bounds and multipliers are chosen beforehand."""
    generator = np.random.default_rng(size)
    hessian = hessians(generator, rows, size, condition)
    solution, width, multiplier = torch.tensor(generator.uniform(0.1, 1, (3, rows, size)))
    side = torch.tensor(generator.integers(-1, 2, (rows, size)))  # -1 at lower, 1 at upper
    lower = torch.where(side < 0, solution, solution - width)
    upper = torch.where(side > 0, solution, solution + width)
    if not bounded:
        side, lower, upper = 0 * side, -INF, INF
    gradient = -side * multiplier  # at the solution: outwards is down
    linear = gradient - torch.einsum("bij,bj->bi", hessian, solution)
    return Problem(Quadratics(hessian, linear), torch.zeros_like(solution), lower, upper, solution)


def fixed_variables():
    """Every other variable has lower == upper; the last problem has nothing left to move."""
    problem = quadratic(8, 10.0)
    problem.lower[:, ::2] = problem.upper[:, ::2] = problem.solution[:, ::2] + 0.3
    problem.lower[-1] = problem.upper[-1] = 0.25
    problem.solution = None
    return problem


def one_box(size, condition):
    """Bounds of shape (n,), one of them infinite on one side."""
    problem = quadratic(size, condition)
    lower, upper = problem.solution.amin(0) + 0.05, problem.solution.amax(0) - 0.05
    problem.lower, problem.upper = torch.minimum(lower, upper), torch.maximum(lower, upper)
    problem.lower[0], problem.upper[1] = -INF, INF
    problem.solution = None
    return problem


def number_and_column(size, condition):
    """A float below, one number for each row above."""
    problem = quadratic(size, condition, bounded=False)
    problem.lower, problem.upper = 0.3, torch.tensor([[0.4], [0.8], [INF]]).double()
    problem.solution = None
    return problem


def in_a_valley(size, lower, upper):
    """Rosenbrock's function from four starts."""
    starts = torch.tensor([[0.0, 0.0], [0.3, 0.3], [-1.2, 1.0], [-0.5, -0.5]], dtype=torch.float64)
    return Problem(rosenbrock, starts.repeat(1, size // 2), lower, upper)


def column(*starts):
    """Starts of one variable, (B, 1)."""
    return torch.tensor(starts, dtype=torch.float64)[:, None]


def linear(size, upper, slope=1.0):
    """A random linear function (-slope x for one variable) from the lower bound."""
    slopes = -slope * torch.ones(1) if size == 1 else torch.randn(size, generator=seeded())
    slopes = slopes.double()
    start = torch.zeros(1, size, dtype=torch.float64)
    return Problem(lambda x, rows: ((x * slopes).sum(1), slopes.expand_as(x)), start, 0.0, upper)


def linear_but_for_one(size):
    """One variable with curvature, whose pair says nothing about the others."""
    slopes = torch.linspace(0, -1, size).double()

    def fun(x, rows):
        gradient = slopes.repeat(len(x), 1)
        gradient[:, 0] += x[:, 0] - 0.5
        return (x * slopes).sum(1) + (x[:, 0] - 0.5).square() / 2, gradient

    return Problem(fun, torch.zeros(1, size, dtype=torch.float64), 0.0, 1e4)


def slope_that_grows(x, rows):
    """The function 1e-9 x^3 / 3 - x, minimal at 1e4.5."""
    return (1e-9 * x**3 / 3 - x).sum(1), 1e-9 * x.square() - 1


def shifted(factor, lower, upper, size=5):
    """The sum of (k_i x_i - 1)^2 from 0, k from the factor to so many times it."""
    factors = factor * torch.arange(1, size + 1).double()

    def fun(x, rows):
        rest = factors * x - 1
        return rest.square().sum(1), 2 * factors * rest

    start = torch.zeros(1, size, dtype=torch.float64)
    return Problem(fun, start, lower, upper, gtol=1e-9 * factor)


def scaled(problem, size, height):
    """Variables so many times as large, and values."""

    def fun(x, rows):
        value, gradient = problem.fun(x / size, rows)
        return height * value, height / size * gradient

    lower, upper = size * problem.lower, size * problem.upper
    solution = None if problem.solution is None else size * problem.solution
    gtol = problem.gtol * height / size
    return Problem(fun, size * problem.x0, lower, upper, solution, gtol)


def plateau(x, rows):
    """The sum of -1 / (1 + x^2), flat far away."""
    below = 1 + x.square()
    return -(1 / below).sum(1), 2 * x / below.square()


def walls(x, rows):
    """The sum of exp(60 x) - 1000 x."""
    power = torch.exp(60 * x)
    return (power - 1000 * x).sum(1), 60 * power - 1000


def seeded():
    return torch.Generator().manual_seed(0)


PROBLEMS = {
    "sphere": lambda: quadratic(10, 1.0),
    "quadratic": lambda: quadratic(10, 10.0),
    "quadratic of 30 variables": lambda: quadratic(30, 10.0),
    "one variable": lambda: quadratic(1, 1.0),
    "condition 1e3": lambda: quadratic(10, 1e3),
    "condition 1e5": lambda: quadratic(10, 1e5),
    "without bounds": lambda: quadratic(10, 1e3, bounded=False),
    "fixed variables": fixed_variables,
    "bounds (n,)": lambda: one_box(10, 10.0),
    "bounds float and (B, 1)": lambda: number_and_column(10, 10.0),
    "Rosenbrock in 2, inside": lambda: in_a_valley(2, -2.0, 2.0),
    "Rosenbrock in 2, stopped": lambda: in_a_valley(2, -2.0, 0.5),
    "Rosenbrock in 2, pushed": lambda: in_a_valley(2, 1.2, 3.0),
    "Rosenbrock in 10, inside": lambda: in_a_valley(10, -1.5, 1.5),
    "Rosenbrock in 10, stopped": lambda: in_a_valley(10, -INF, 0.8),
    "Rosenbrock in 10, without bounds": lambda: in_a_valley(10, -INF, INF),
    "linear in 784": lambda: linear(784, 1.0),
    "linear in 784, far away": lambda: linear(784, 1e5),
    "linear in one": lambda: linear(1, 2000.0),
    "linear and steep": lambda: linear(1, 2000.0, slope=1e8),
    "linear but for one": lambda: linear_but_for_one(784),
    "slope that grows": lambda: Problem(slope_that_grows, column(0.0), 0.0, 1e6, gtol=1e-6),
    "tiny variables": lambda: shifted(1e12, -INF, INF),
    "tiny variables in a huge box": lambda: shifted(1e8, 0.0, 1.0),
    "one tiny variable": lambda: shifted(1e16, -INF, INF, size=1),
    "huge variables": lambda: shifted(1e-4, -INF, INF),
    "huge variables in a box": lambda: shifted(1e-6, 0.0, 3e6),
    "tiny valley": lambda: scaled(in_a_valley(2, -2.0, 2.0), 1e-8, 1.0),
    "huge valley": lambda: scaled(in_a_valley(2, -2.0, 2.0), 1e3, 1.0),
    "tiny values": lambda: scaled(in_a_valley(2, -2.0, 2.0), 1.0, 1e-8),
    "huge values": lambda: scaled(in_a_valley(2, -2.0, 2.0), 1.0, 1e8),
    "values beyond all squares": lambda: scaled(quadratic(10, 10.0, bounded=False), 1.0, 1e160),
    "bounds far away": lambda: scaled(in_a_valley(4, -1e8, 1e8), 1.0, 1.0),
    "large gradients": lambda: scaled(quadratic(10, 10.0, bounded=False), 1.0, 1e10),
    "start at a bound": lambda: Problem(rosenbrock, column(-1.5).repeat(1, 4), -1.5, 1.3),
    "flat start": lambda: Problem(plateau, column(10.0, 100.0, 30.0), -INF, INF, gtol=1e-9),
    "steep walls": lambda: Problem(walls, column(-0.5, 0.0, -3.0), -3.0, 2.0, gtol=1e-6),
}


def solve_by_scipy(problem, row):
    """Return scipy's result of one row, which has its solution as an array."""

    def fun(x):
        value, gradient = problem.fun(torch.tensor(x)[None], torch.tensor([row]))
        return value.item(), gradient[0].numpy()

    lower, upper = (
        torch.as_tensor(bound).double().expand_as(problem.x0)[row].numpy()
        for bound in (problem.lower, problem.upper)
    )
    with threadpool_limits(1):  # threads of BLAS wait for each other, longer than they work
        return scipy_minimize(
            fun,
            np.clip(problem.x0[row].numpy(), lower, upper),
            jac=True,
            bounds=np.stack([lower, upper], axis=1),
            method="L-BFGS-B",
            options={"ftol": 0.0, "gtol": problem.gtol},
        )


@pytest.mark.parametrize("name", PROBLEMS)
def test_solution_is_that_of_scipy(name):
    """And the one that the problem was built from, if it was; within twice its evaluations."""
    problem = PROBLEMS[name]()
    lower, upper = (torch.as_tensor(bound).double() for bound in (problem.lower, problem.upper))
    result = minimize(problem.fun, problem.x0, lower, upper, ftol=0.0, gtol=problem.gtol)
    assert result.success.all(), result.message
    theirs = [solve_by_scipy(problem, row) for row in range(len(problem.x0))]
    wanted = np.stack([one.x for one in theirs])
    value, _ = problem.fun(result.x, torch.arange(len(problem.x0)))
    torch.testing.assert_close(result.fun, value)
    assert result.nfev.sum() <= 2 * sum(one.nfev for one in theirs)
    if problem.solution is not None:
        size = problem.solution.abs().amax()
        np.testing.assert_allclose(result.x / size, problem.solution / size, rtol=0, atol=1e-5)
    low = np.nan_to_num([one.fun for one in theirs], nan=1e300)
    start = problem.fun(problem.x0.clamp(lower, upper), torch.arange(len(low)))[0].numpy()
    excess = (result.fun.numpy() - low) / (start - low).clip(1e-300)
    assert (excess <= 1e-6).all(), excess
    alike = excess >= -1e-6  # elsewhere scipy stops too early
    scale = max(np.abs(wanted).max(), problem.x0.abs().max().item())
    np.testing.assert_array_less(np.abs(result.x.numpy() - wanted)[alike] / scale, 1e-5)


class Recorder:
    """A function that notes where it is called."""

    def __init__(self, fun):
        self.fun, self.points, self.rows = fun, [], []

    def __call__(self, x, rows):
        self.points.append(x.clone())
        self.rows.append(rows.clone())
        return self.fun(x, rows)


def starts_of_different_length():
    """Rosenbrock's function in 4 dimensions from near, far and at the solution."""
    starts = torch.tensor([[1.0], [0.99], [-1.2], [0.0], [0.9], [-0.7]]).double().repeat(1, 4)
    return Problem(rosenbrock, starts, -1.5, 1.3)


@pytest.mark.parametrize("maxiter", [1, 7, 15, 1000])
def test_rows_are_those_that_they_are_alone(maxiter):
    """On the way and at the end, whenever the other rows leave."""
    problem = starts_of_different_length()
    together = minimize(problem.fun, problem.x0, -1.5, 1.3, **TIGHT, maxiter=maxiter)
    assert len(set(together.nfev.tolist())) > 1
    for row in range(len(problem.x0)):
        alone = minimize(problem.fun, problem.x0[row, None], -1.5, 1.3, **TIGHT, maxiter=maxiter)
        torch.testing.assert_close(together.x[row], alone.x[0], rtol=0, atol=1e-9)
        assert together.message[row] == alone.message[0]
        if maxiter < 100:  # rounding has not grown yet
            assert together.nit[row] == alone.nit[0]
            assert together.nfev[row] == alone.nfev[0]


@pytest.mark.parametrize("poison", [torch.nan, INF, -INF])
def test_hopeless_row_leaves_the_others_alone(poison):
    problem = quadratic(6, 10.0)

    def fun(x, rows):
        value, gradient = problem.fun(x, rows)
        bad = rows == 1
        value = torch.where(bad, poison, value)
        return value, torch.where(bad[:, None], poison, gradient)

    result = minimize(fun, problem.x0, problem.lower, problem.upper, **TIGHT, maxfun=200)
    keep = [0, 2]
    torch.testing.assert_close(result.x[keep], problem.solution[keep])
    assert result.success[keep].all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_box_holds_exactly_at_every_point(dtype):
    """At the solution and wherever the function is evaluated, from a start outside."""
    problem = quadratic(10, 10.0)
    lower, upper = problem.lower.to(dtype), problem.upper.to(dtype)
    hessian, linear = problem.fun.hessian.to(dtype), problem.fun.linear.to(dtype)
    fun = Recorder(Quadratics(hessian, linear))
    start = torch.full_like(linear, 5.0)
    result = minimize(fun, start, lower, upper)
    for points, rows in zip(fun.points, fun.rows, strict=True):
        assert (points >= lower[rows]).all() and (points <= upper[rows]).all()
    assert (result.x >= lower).all() and (result.x <= upper).all()
    assert torch.equal(fun.points[0], start.clamp(lower, upper))
    at_bound = (problem.solution == problem.lower) | (problem.solution == problem.upper)
    assert torch.equal((result.x == lower) | (result.x == upper), at_bound)


def test_rows_name_the_problems_of_the_points():
    """All at first, fewer and fewer later, each with its own function."""
    problem = starts_of_different_length()
    fun = Recorder(problem.fun)
    result = minimize(fun, problem.x0, -1.5, 1.3, **TIGHT)
    assert torch.equal(fun.rows[0], torch.arange(6))
    assert len(fun.rows[-1]) < 6
    calls = torch.zeros_like(result.nfev)
    for points, rows in zip(fun.points, fun.rows, strict=True):
        assert rows.dtype == torch.int64 and len(points) == len(rows)
        assert (rows.diff() > 0).all()
        calls[rows] += 1
    assert (calls >= result.nfev).all() and calls.max() == result.nfev.max()


@pytest.mark.parametrize("maxfun", [2, 3, 7, 20])
def test_evaluations_are_counted_and_limited(maxfun):
    """For each row; one that converges earlier is a success, one that is cut short is none."""
    problem = starts_of_different_length()
    result = minimize(problem.fun, problem.x0, -1.5, 1.3, **TIGHT, maxfun=maxfun)
    cut = result.nfev == maxfun
    assert (result.nfev <= maxfun).all() and cut.any() and not cut.all()
    for row in range(6):
        fun = Recorder(problem.fun)
        minimize(fun, problem.x0[row, None], -1.5, 1.3, **TIGHT, maxfun=maxfun)
        assert len(fun.points) == result.nfev[row]
        assert result.success[row] == (result.message[row] == MESSAGES["gradient"])
        assert cut[row] or result.success[row]
        if not result.success[row]:
            assert result.message[row] == MESSAGES["evaluations"]


def test_one_evaluation_is_one():
    problem = starts_of_different_length()
    fun = Recorder(problem.fun)
    result = minimize(fun, problem.x0, -1.5, 1.3, maxfun=1)
    assert len(fun.points) == 1
    assert (result.nfev == 1).all() and (result.nit == 0).all()
    assert torch.equal(result.x, problem.x0)


@pytest.mark.parametrize("maxiter", [1, 4, 9])
def test_steps_are_counted_and_limited(maxiter):
    """Accepted ones: of a row alone, the points at which the value falls below all before."""
    problem = starts_of_different_length()
    result = minimize(problem.fun, problem.x0, -1.5, 1.3, **TIGHT, maxiter=maxiter)
    stopped = [message == MESSAGES["iterations"] for message in result.message]
    assert any(stopped) and not all(stopped)
    for row in range(6):
        fun = Recorder(problem.fun)
        minimize(fun, problem.x0[row, None], -1.5, 1.3, **TIGHT, maxiter=maxiter)
        values = [problem.fun(x, None)[0].item() for x in fun.points]
        falls = sum(v < min(values[:i]) for i, v in enumerate(values) if i)
        assert result.nit[row] == falls
        assert result.nit[row] == maxiter if stopped[row] else result.nit[row] <= maxiter
        assert result.fun[row].item() == pytest.approx(min(values), rel=1e-12)
        assert result.success[row].item() is not stopped[row]


def test_message_tells_how_it_converged():
    """By the gradient, at the start or later, or by the decrease."""
    problem = in_a_valley(2, -2.0, 2.0)
    problem.x0[0] = 1.0
    result = minimize(problem.fun, problem.x0, -2.0, 2.0, gtol=1e-3, ftol=0.0)
    assert result.message == [MESSAGES["gradient"]] * 4
    assert result.success.all()
    result = minimize(problem.fun, problem.x0, -2.0, 2.0, gtol=0.0, ftol=1e-1)
    assert result.message == [MESSAGES["gradient"]] + [MESSAGES["decrease"]] * 3
    assert result.success.all()


@pytest.mark.parametrize("place", [0.01, 3.0])
def test_line_search_without_decrease_is_a_failure(place):
    """A cliff: the function is higher everywhere but at the start."""

    def fun(x, rows):
        value = x.square().sum(1)
        return torch.where(x[:, 0] == place, value, 100 + value), 2 * x

    start = torch.full((2, 1), place, dtype=torch.float64)
    result = minimize(fun, start, -INF, INF, gtol=0.0, ftol=0.0)
    assert result.message == [MESSAGES["stuck"]] * 2
    assert not result.success.any()
    assert (result.nit == 0).all() and (result.nfev < 60).all()
    assert torch.equal(result.x, start)


@pytest.mark.parametrize("tolerance", ["ftol", "gtol"])
def test_smaller_tolerance_takes_longer_and_ends_lower(tolerance):
    problem = in_a_valley(10, -1.5, 1.5)
    options = {"ftol": 0.0, "gtol": 0.0, "maxfun": 500}
    loose, tight = (
        minimize(problem.fun, problem.x0, -1.5, 1.5, **{**options, tolerance: value})
        for value in (1e-1, 1e-6)
    )
    assert (loose.nfev < tight.nfev).all()
    assert (loose.fun > tight.fun).all()
    if tolerance == "gtol":
        for result, value in ((loose, 1e-1), (tight, 1e-6)):
            gradient = problem.fun(result.x, None)[1]
            reached = (result.x - (result.x - gradient).clamp(-1.5, 1.5)).abs().amax(1)
            assert (reached <= value).all()


def test_optimal_start_is_left_at_once():
    """Inside the box, on its boundary, and outside where clipping is the answer."""
    centre = torch.tensor([[0.5, 0.25], [2.0, -3.0], [2.0, -3.0]]).double()
    start = torch.tensor([[0.5, 0.25], [1.0, 0.0], [7.0, -1.0]]).double()
    fun = Recorder(lambda x, rows: ((x - centre[rows]).square().sum(1), 2 * (x - centre[rows])))
    result = minimize(fun, start, 0.0, 1.0)
    assert torch.equal(result.x, centre.clamp(0, 1))
    assert (result.nit == 0).all() and (result.nfev == 1).all() and len(fun.points) == 1
    assert result.success.all() and result.message == [MESSAGES["gradient"]] * 3


@pytest.mark.parametrize("poison", [torch.nan, INF, -INF])
@pytest.mark.parametrize("slope", [True, False], ids=["gradient too", "value only"])
def test_holes_in_the_function_are_stepped_back_from(poison, slope):
    """The sum of x - log x, minimal at 1, which is no number from 0 down."""
    holes = []

    def fun(x, rows):
        inside = (x > 0).all(1)
        holes.extend(rows[~inside].tolist())
        value = torch.where(inside, (x - x.abs().log()).sum(1), poison)
        gradient = 1 - 1 / x
        return value, torch.where(inside[:, None] | (not slope), gradient, poison)

    start = torch.tensor([[5.0, 0.01], [100.0, 3.0], [0.5, 80.0]]).double()
    result = minimize(fun, start, -50.0, 1000.0, **TIGHT)
    assert {1, 2} <= set(holes)
    assert result.success.all()
    torch.testing.assert_close(result.x, torch.ones_like(start), rtol=0, atol=1e-6)


@pytest.mark.parametrize("poison", [torch.nan, INF, -INF])
def test_start_in_a_hole_stays_there(poison):
    """A function that has no value anywhere: the row ends at once, where it was, as a failure."""
    fun = Recorder(lambda x, rows: (torch.full_like(x[:, 0], poison), 2 * (x - 1)))
    start = torch.full((1, 3), 0.7).double()
    result = minimize(fun, start, -2.0, 2.0, maxfun=300)
    assert torch.equal(result.x, start)
    assert not result.success[0] and result.nfev[0] == 1
    assert result.message == ["stopped: value or gradient at the start is not finite"]
    assert all(points.isfinite().all() for points in fun.points)


@pytest.mark.parametrize("value", [1.0, torch.nan])
def test_gradient_of_nan_is_no_success(value):
    start = torch.full((1, 3), 0.7).double()
    result = minimize(
        lambda x, rows: (torch.full_like(x[:, 0], value), torch.full_like(x, torch.nan)),
        start,
        -2.0,
        2.0,
        maxfun=300,
    )
    assert not result.success[0]


def test_steep_trial_does_not_destroy_a_row():
    """A rejected trial whose gradient is finite, and its square is not."""

    def fun(x, rows):
        power = torch.exp(60 * x)
        return (power - 1000 * x).sum(1), 60 * power - 1000

    fun = Recorder(fun)
    result = minimize(fun, torch.full((1, 1), -0.5), -3.0, 2.0, maxfun=100)
    assert any((points > 0.4).any() for points in fun.points)  # where squares exceed 1e20
    assert all((points.abs() <= 3).all() for points in fun.points)
    assert result.x.item() == pytest.approx(np.log(1000 / 60) / 60, abs=1e-3)


def test_single_precision_stays_single():
    problem = quadratic(10, 10.0)
    single = Quadratics(problem.fun.hessian.float(), problem.fun.linear.float())
    bounds = problem.lower.float(), problem.upper.float()
    result = minimize(single, problem.x0.float(), *bounds)
    assert result.x.dtype == result.fun.dtype == torch.float32
    assert result.nit.dtype == result.nfev.dtype == torch.int64
    assert result.success.dtype == torch.bool and result.success.all()
    torch.testing.assert_close(result.x.double(), problem.solution, rtol=0, atol=5e-4)


def test_one_row_is_a_batch():
    problem = quadratic(10, 10.0, rows=1)
    result = minimize(problem.fun, problem.x0, problem.lower, problem.upper, **TIGHT)
    assert result.x.shape == (1, 10) and len(result.message) == 1
    torch.testing.assert_close(result.x, problem.solution)


def test_start_is_not_overwritten():
    problem = quadratic(5, 10.0)
    start = torch.full_like(problem.x0, 0.3)
    minimize(problem.fun, start, -INF, INF)
    assert (start == 0.3).all()


def test_longer_history_needs_fewer_evaluations():
    problem = quadratic(30, 1e3)
    short, long = (
        minimize(problem.fun, problem.x0, problem.lower, problem.upper, **TIGHT, maxcor=maxcor)
        for maxcor in (1, 20)
    )
    assert short.success.all() and long.success.all()
    assert long.nfev.sum() < 0.8 * short.nfev.sum()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"x0": torch.zeros(3)}, "x0 must have shape"),
        ({"x0": torch.zeros(1, 2, 3)}, "x0 must have shape"),
        ({"x0": torch.zeros(2, 3, dtype=torch.int64)}, "x0 must be .* float64, not torch.int64"),
        ({"x0": torch.zeros(2, 3).half()}, "x0 must be .* float64, not torch.float16"),
        ({"x0": torch.zeros(2, 3).bfloat16()}, "x0 must be .* float64, not torch.bfloat16"),
        ({"x0": torch.zeros(2, 3) + 0j}, "x0 must be .* float64, not torch.complex64"),
        ({"x0": np.zeros((2, 3))}, "x0 must be .* float64, not ndarray"),
        ({"x0": torch.zeros(0, 3)}, "x0 must have shape"),
        ({"x0": torch.zeros(2, 0)}, "x0 must have shape"),
        ({"x0": torch.full((2, 3), 1e20)}, "x0 must be finite, and below 1.8e.16"),
        ({"lower": "low"}, "lower must be numbers, not str"),
        ({"lower": None}, "lower must be numbers, not NoneType"),
        ({"upper": torch.ones(3) + 1j}, "upper must be real numbers"),
        ({"lower": INF, "upper": INF}, "lower must be below infinity"),
        ({"lower": -INF, "upper": -INF}, "upper above minus infinity"),
        ({"gtol": torch.nan}, "gtol must be at least 0, not nan"),
        ({"x0": torch.full((2, 3), torch.nan)}, "x0 must be finite"),
        ({"x0": torch.full((2, 3), INF)}, "x0 must be finite"),
        ({"lower": torch.nan}, "lower must hold no NaN"),
        ({"upper": torch.tensor([1.0, torch.nan, 1.0])}, "upper must hold no NaN"),
        ({"lower": torch.zeros(4)}, "lower of shape .* does not broadcast"),
        ({"upper": torch.ones(3, 3)}, "upper of shape .* does not broadcast"),
        ({"upper": torch.ones(1, 2, 3)}, "upper of shape .* does not broadcast"),
        ({"lower": 2.0}, "lower must not exceed upper"),
        ({"upper": torch.tensor([1.0, -1.0, 1.0])}, "lower must not exceed upper"),
        ({"maxcor": 0}, "maxcor must be at least 1, not 0"),
        ({"maxfun": 0}, "maxfun must be at least 1, not 0"),
        ({"maxiter": 0}, "maxiter must be at least 1, not 0"),
        ({"ftol": -1e-9}, "ftol must be at least 0, not -1e-09"),
        ({"gtol": -1.0}, "gtol must be at least 0, not -1.0"),
    ],
)
def test_bad_input_is_refused(change, match):
    """Before the function is called."""
    good = {"x0": torch.zeros(2, 3), "lower": 0.0, "upper": 1.0}
    fun = Recorder(lambda x, rows: (x.sum(1), torch.ones_like(x)))
    assert minimize(fun, **good).success.all()
    fun.points.clear()
    with pytest.raises(ValueError, match=match):
        minimize(fun, **{**good, **change})
    assert not fun.points


def test_weight_of_the_anchor_may_change():
    """The descent ends at the minimiser of the last weight: f + q ||x - anchor||^2 in the box."""
    problem = quadratic(10, 100.0, rows=4)
    rows = torch.arange(4)
    anchor = torch.tensor(np.random.default_rng(0).uniform(0, 1, (4, 10)))
    weight = torch.tensor([0.1, 1.0, 10.0, 100.0]).double()
    descent = BoxedDescent(
        lambda x: problem.fun(x, rows),
        anchor.clamp(0.2, 0.8),
        0.2,
        0.8,
        pairs=5,
        anchor=anchor,
        weight=100 * weight,
    )
    fresh = torch.ones(4, dtype=torch.bool)
    for step in range(80):
        if step == 10:
            descent.weight, fresh = weight, torch.ones_like(fresh)
        descent.aim(fresh)
        fresh, _ = descent.trial()
    hessian = problem.fun.hessian + 2 * torch.diag_embed(weight[:, None].expand(4, 10))
    whole = Quadratics(hessian, problem.fun.linear - 2 * weight[:, None] * anchor)
    wanted = minimize(whole, anchor, 0.2, 0.8, **TIGHT)
    torch.testing.assert_close(descent.point, wanted.x, rtol=0, atol=1e-6)
    total = wanted.fun + weight * anchor.square().sum(1)
    torch.testing.assert_close(descent.objective, total)
    assert ((wanted.x == 0.2) | (wanted.x == 0.8)).any()


def test_direction_and_step_are_kept_after_a_rejection():
    """Until a new direction is asked for: with the full step then, though nothing was accepted."""

    def fun(x):  # steep below 0.1, so that the first step, of length one, goes too far
        return x[:, 0] ** 2 + 100 * (0.1 - x[:, 0]).clamp_min(0), 2 * x - 100 * (x < 0.1)

    start = torch.ones(2, 1).double()
    weight = torch.zeros(2).double()
    descent = BoxedDescent(fun, start, -5.0, 5.0, pairs=2, anchor=start, weight=weight)
    descent.aim(torch.ones(2, dtype=torch.bool))
    accepted, stuck = descent.trial()
    assert not accepted.any() and not stuck.any()
    assert torch.equal(descent.point, start) and (descent.tried != start).all()
    assert (descent.step < 1).all()
    step, direction = descent.step.clone(), descent.direction.clone()
    descent.aim(torch.tensor([True, False]))
    assert descent.step[0] == 1 and descent.step[1] == step[1]
    assert descent.direction[0] != direction[0] and descent.direction[1] == direction[1]


ANSWERS = {
    "double": lambda value, gradient: (value.double(), gradient.double()),
    "single": lambda value, gradient: (value.float(), gradient.float()),
    "arrays": lambda value, gradient: (value.numpy(), gradient.numpy()[:, ::-1][:, ::-1]),
    "lists": lambda value, gradient: [value.tolist(), gradient.tolist()],
    "graph": lambda value, gradient: (value.requires_grad_(), gradient.requires_grad_()),
}


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_answers_of_another_type_are_cast(dtype, answer):
    def fun(x, rows):
        assert x.dtype == dtype
        return ANSWERS[answer]((x - 0.3).square().sum(1), 2 * (x - 0.3))

    result = minimize(fun, torch.ones(2, 3, dtype=dtype), 0, np.ones(3))
    assert result.success.all() and result.x.dtype == result.fun.dtype == dtype
    torch.testing.assert_close(result.x, torch.full((2, 3), 0.3, dtype=dtype), atol=1e-4, rtol=0)


def test_whole_numbers_are_cast():
    """A linear function over whole numbers, which the bounds are, too."""
    result = minimize(
        lambda x, rows: (x.sum(1).round().int(), torch.ones(x.shape, dtype=torch.int32)),
        torch.full((1, 3), 5.0),
        torch.tensor([1, 2, 3]),
        9,
    )
    assert result.x.tolist() == [[1, 2, 3]] and result.success.all()


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (lambda v, g: v, "fun must return values and gradients, not Tensor"),
        (lambda v, g: (v, g, g), "fun must return values and gradients"),
        (lambda v, g: (v[:, None], g), r"values .* must have shape \(2,\), not \(2, 1\)"),
        (lambda v, g: (v.sum(), g), r"values .* must have shape \(2,\), not \(\)"),
        (lambda v, g: (v, g[:1]), r"gradients .* must have shape \(2, 3\), not \(1, 3\)"),
        (lambda v, g: (v, None), "gradients that fun returns must be numbers, not NoneType"),
        (lambda v, g: (v + 0j, g), "values that fun returns must be real numbers"),
    ],
)
def test_answers_that_are_none_are_refused(answer, match):
    with pytest.raises(ValueError, match=match):
        minimize(lambda x, rows: answer(x.sum(1), torch.ones_like(x)), torch.ones(2, 3), 0.0, 1.0)


def test_points_may_be_changed_by_the_function():
    """They are its own."""

    def fun(x, rows):
        value, gradient = (x - 0.3).square().sum(1), 2 * (x - 0.3)
        x.zero_().requires_grad_()
        return value, gradient

    assert minimize(fun, torch.ones(2, 3), 0.0, 1.0).success.all()


@pytest.mark.parametrize("factor", [1e20, 1e30, 1e-30])
def test_function_of_any_size_in_single_precision(factor):
    """Its gradient is finite and its square is not, or is nothing."""

    def fun(x, rows):
        return factor * (x - 0.3).square().sum(1), 2 * factor * (x - 0.3)

    result = minimize(fun, torch.ones(2, 5), -INF, INF, ftol=0.0, gtol=1e-5 * factor)
    assert result.success.all() and result.fun.isfinite().all()
    torch.testing.assert_close(result.x, torch.full((2, 5), 0.3), rtol=0, atol=1e-4)


def test_function_that_falls_for_ever_is_no_success():
    result = minimize(lambda x, rows: (-x.sum(1), -torch.ones_like(x)), torch.zeros(1, 2), 0, INF)
    assert not result.success[0] and result.x.isfinite().all() and result.nfev[0] < 60
    assert "grown so large" in result.message[0]


@pytest.mark.parametrize("weight", [torch.nan, INF, 1e38, -INF])
def test_row_whose_weight_overflows_stays_where_it_is(weight):
    """And comes back with the next weight that does not."""
    start = torch.full((2, 3), 0.5)

    def fun(x):
        return (x - 0.2).square().sum(1), 2 * (x - 0.2)

    weights = torch.tensor([weight, 1.0])
    descent = BoxedDescent(fun, start, 0.0, 1.0, pairs=2, anchor=start / 2, weight=weights)
    fresh = torch.ones(2, dtype=torch.bool)
    for _ in range(4):
        descent.aim(fresh)
        accepted, stuck = descent.trial()
        assert not accepted[0] and stuck[0]
        assert torch.equal(descent.point[0], start[0])
    descent.weight = torch.ones(2)
    for _ in range(30):
        descent.aim(fresh)
        descent.trial()
    torch.testing.assert_close(descent.point, torch.full((2, 3), 0.225), rtol=0, atol=1e-4)


@pytest.mark.parametrize("poison", [torch.nan, INF, -INF])
def test_row_whose_trial_is_poisoned_stays_where_it_was(poison):
    """In the first trials the first row has no gradient; later it goes its way."""
    calls = []

    def fun(x):
        calls.append(1)
        value, gradient = (x - 0.2).square().sum(1), 2 * (x - 0.2)
        if 1 < len(calls) < 5:
            gradient[0] = poison
        return value, gradient

    start = torch.full((2, 3), 0.5)
    descent = BoxedDescent(
        fun, start, 0.0, 1.0, pairs=2, anchor=torch.zeros(2, 3), weight=torch.zeros(2)
    )
    fresh = torch.ones(2, dtype=torch.bool)
    for trial in range(40):
        descent.aim(fresh)
        accepted, _ = descent.trial()
        assert accepted[0].item() is False or trial >= 3
        assert trial >= 3 or torch.equal(descent.point[0], start[0])
    torch.testing.assert_close(descent.point, torch.full((2, 3), 0.2), rtol=0, atol=1e-4)


def test_function_may_return_tensors_with_a_graph():
    """As it does with torch.autograd.grad and nothing detached."""

    def fun(x, rows):
        x = x.detach().requires_grad_(True)
        value = ((x - 0.3) ** 4).sum(1)
        return value, torch.autograd.grad(value.sum(), x, create_graph=True)[0]

    start = torch.ones(3, 2, dtype=torch.float64, requires_grad=True)
    result = minimize(fun, start, 0.0, 1.0)
    assert result.success.all() and not result.x.requires_grad
    assert torch.allclose(result.x, torch.full_like(result.x, 0.3), atol=0.05)
