"""The projection onto linearised margins, and its certificate."""

import numpy as np
import pytest
import torch

from blindspots.attacks.objective import Objective
from blindspots.attacks.projection import kkt_residual, polish

SIZE, CLASSES = 20, 4


@pytest.fixture
def case():
    """A linear objective towards one target, and the images, some pixels at the bounds."""
    generator = torch.Generator().manual_seed(0)
    network = torch.nn.Linear(SIZE, CLASSES)
    with torch.no_grad():
        network.weight.normal_(generator=generator)
        network.bias.zero_()
        origin = (1.4 * torch.rand(10, SIZE, generator=generator) - 0.2).clamp(0, 1)
        labels = network(origin).argmax(1)
        targets = (labels + 1) % CLASSES
    return Objective(network.requires_grad_(False), (SIZE,), labels, targets), origin


@pytest.fixture
def success(case):
    """A point far beyond the boundary: every pixel where the target wants it most."""
    objective, origin = case
    weight = objective.model.weight
    pull = weight[objective.targets] - weight.mean(0)
    point = (origin + 10 * pull).clamp(0, 1)
    assert (objective.loss_and_margin(point)[2] > 0).all()
    return point


def solved(objective, origin, start, steps=8):
    able = torch.ones(len(origin), dtype=torch.bool)
    return polish(objective, origin, start, able, steps=steps, competitors=CLASSES - 1)


def residual_of(objective, origin, point):
    margins, gradients, _ = objective.margins_and_gradients(point, CLASSES - 1)
    return kkt_residual(margins, gradients, origin, point)


def test_polish_solves_a_linear_problem(case, success):
    """To a residual of rounding; the residual returned is that of the images returned."""
    objective, origin = case
    best, distance, residual, evaluations = solved(objective, origin, success)
    assert (residual < 1e-3).all()
    torch.testing.assert_close(distance, (best - origin).norm(dim=1))
    torch.testing.assert_close(residual, residual_of(objective, origin, best), rtol=0, atol=1e-4)
    assert best.min() >= 0 and best.max() <= 1
    assert evaluations > 0


@pytest.mark.parametrize("active", [1, 2])
def test_residual_of_an_exact_solution_is_zero(active):
    """r = clip(x + sum l_j a_j) - x is optimal for its own margins, by construction."""
    generator = torch.Generator().manual_seed(1)
    origin = torch.rand(6, SIZE, generator=generator, dtype=torch.float64)
    gradients = torch.randn(6, active, SIZE, generator=generator, dtype=torch.float64)
    multipliers = 0.05 + 0.2 * torch.rand(6, active, generator=generator, dtype=torch.float64)
    moved = torch.einsum("bk,bkn->bn", multipliers, gradients)
    point = (origin + moved).clamp(0, 1)
    assert ((point == 0) | (point == 1)).any()
    margins = torch.zeros(6, active, dtype=torch.float64)
    residual = kkt_residual(margins, gradients, origin, point)
    assert (residual < (1e-8 if active == 1 else 1e-3)).all()


@pytest.mark.parametrize("factor", [0.8, 1.3])
def test_residual_of_a_scaled_solution_is_large(case, success, factor):
    """A perturbation that is too long leaves no margin binding: the residual is one."""
    objective, origin = case
    best, _, _, _ = solved(objective, origin, success)
    point = (origin + factor * (best - origin)).clamp(0, 1)
    residual = residual_of(objective, origin, point)
    if factor > 1:
        assert (residual > 0.9).all()
    else:  # all margins of the longer solution still bind, with too small multipliers
        assert (residual >= 0).all()


def test_residual_of_a_detour_is_large(case, success):
    """A point on the boundary that is not the nearest one."""
    objective, origin = case
    best, distance, _, _ = solved(objective, origin, success)
    _, gradients, _ = objective.margins_and_gradients(best, CLASSES - 1)
    aside = torch.randn(best.shape, generator=torch.Generator().manual_seed(2))
    basis = torch.linalg.qr(gradients.transpose(1, 2)).Q  # keep every margin as it is
    aside = aside - (basis @ (basis.transpose(1, 2) @ aside[:, :, None]))[:, :, 0]
    point = best + 0.5 * distance[:, None] * aside / aside.norm(dim=1, keepdim=True)
    assert (residual_of(objective, origin, point) > 0.1).all()


@pytest.mark.parametrize("steps", [1, 3, 8])
@pytest.mark.parametrize("share", [0.3, 0.7, 1.0])
def test_polish_never_makes_a_success_worse(case, success, steps, share):
    """Whatever success it starts from."""
    objective, origin = case
    optimum, _, _, _ = solved(objective, origin, success)
    start = optimum + share * (success - optimum)
    _, distance, residual, _ = solved(objective, origin, start, steps=steps)
    assert (distance <= (start - origin).norm(dim=1) * (1 + 1e-6)).all()
    assert not residual.isnan().any()


def test_polish_never_makes_a_success_of_a_curved_boundary_worse():
    generator = torch.Generator().manual_seed(3)
    hidden, output = torch.nn.Linear(SIZE, 12), torch.nn.Linear(12, CLASSES)
    with torch.no_grad():
        hidden.weight.normal_(std=2.0, generator=generator)
        output.weight.normal_(std=2.0, generator=generator)
    network = torch.nn.Sequential(hidden, torch.nn.Sigmoid(), output).requires_grad_(False)
    origin = torch.rand(200, SIZE, generator=generator)
    start = torch.rand(200, SIZE, generator=generator)
    labels, targets = network(origin).argmax(1), network(start).argmax(1)
    differ = labels != targets
    origin, start = origin[differ], start[differ]
    objective = Objective(network, (SIZE,), labels[differ], targets[differ])
    best, distance, _, _ = solved(objective, origin, start, steps=6)
    before = (start - origin).norm(dim=1)
    found = distance.isfinite()
    assert found.float().mean() > 0.95
    assert (distance[found] <= before[found]).all()
    assert torch.equal(network(best[found]).argmax(1), objective.targets[found])


def test_no_success_is_not_a_number(case):
    """An impossible target: infinite distance, NaN residual, and the origin."""
    objective, origin = case
    with torch.no_grad():
        objective.model.bias[objective.targets[0]] = -100.0
    keep = (objective.targets == objective.targets[0]).nonzero()[:, 0]
    objective, origin = objective.select(keep), origin[keep]
    unable = torch.zeros(len(origin), dtype=torch.bool)
    best, distance, residual, _ = polish(
        objective, origin, origin, unable, steps=4, competitors=CLASSES - 1
    )
    assert torch.equal(best, origin)
    assert distance.isinf().all() and residual.isnan().all()


def test_linear_solution_is_that_of_scipy(case, success):
    """The polished distance against a quadratic programme solved by SLSQP."""
    from scipy.optimize import minimize

    objective, origin = case
    _, distance, _, _ = solved(objective, origin, success)
    weight = objective.model.weight.double().numpy()
    for row in range(4):
        target = objective.targets[row].item()
        gap = weight[target] - np.delete(weight, target, axis=0)
        image = origin[row].double().numpy()
        exact = minimize(
            lambda x, image=image: 0.5 * ((x - image) ** 2).sum(),
            success[row].double().numpy(),
            jac=lambda x, image=image: x - image,
            bounds=[(0, 1)] * SIZE,
            constraints={"type": "ineq", "fun": lambda x, gap=gap: gap @ x},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        wanted = np.linalg.norm(exact.x - image)
        assert distance[row].item() == pytest.approx(wanted, rel=1e-3)
