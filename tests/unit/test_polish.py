"""The walk along the decision boundary, and its certificate."""

import numpy as np
import pytest
import torch

from blindspots.attacks.objective import Objective, has_margin
from blindspots.attacks.polish import certified, kkt_residual, polish

SIZE, CLASSES = 20, 4


def linear_network():
    generator = torch.Generator().manual_seed(0)
    network = torch.nn.Linear(SIZE, CLASSES)
    with torch.no_grad():
        network.weight.normal_(generator=generator)
        network.bias.zero_()
    return network.requires_grad_(False)


def images(rows, seed=1):
    """Images with some pixels at the bounds."""
    generator = torch.Generator().manual_seed(seed)
    return (1.4 * torch.rand(rows, SIZE, generator=generator) - 0.2).clamp(0, 1)


@pytest.fixture
def case():
    """A linear objective towards one target, and the images."""
    network, origin = linear_network(), images(10)
    labels = network(origin).argmax(1)
    return Objective(network, (SIZE,), labels, (labels + 1) % CLASSES), origin


@pytest.fixture
def success(case):
    """A point far beyond the boundary: every pixel where the target wants it most."""
    objective, origin = case
    weight = objective.model.weight
    pull = weight[objective.targets] - weight.mean(0)
    point = (origin + 10 * pull).clamp(0, 1)
    assert (objective.loss_and_margin(point)[2] > 0).all()
    return point


def curved_case(activation, rows=200):
    """A random network with one hidden layer, and far successes to start from."""
    generator = torch.Generator().manual_seed(3)
    hidden, output = torch.nn.Linear(SIZE, 12), torch.nn.Linear(12, CLASSES)
    with torch.no_grad():
        for layer in (hidden, output):
            layer.weight.normal_(std=2.0, generator=generator)
            layer.bias.uniform_(-0.2, 0.2, generator=generator)
    network = torch.nn.Sequential(hidden, activation, output).requires_grad_(False)
    origin = torch.rand(rows, SIZE, generator=generator)
    start = torch.rand(rows, SIZE, generator=generator)
    labels, targets = network(origin).argmax(1), network(start).argmax(1)
    differ = labels != targets
    return (
        Objective(network, (SIZE,), labels[differ], targets[differ]),
        origin[differ],
        start[differ],
    )


def solved(objective, origin, start, steps=8, cut_steps=0):
    return polish(
        objective,
        origin,
        start,
        torch.full((len(start),), torch.inf),  # nothing is known of the start
        steps=steps,
        cut_steps=cut_steps,
        competitors=CLASSES - 1,
    )


def residual_of(objective, origin, point):
    margins, gradients, _ = objective.margins_and_gradients(point, CLASSES - 1)
    return kkt_residual(margins, gradients, origin, point)


def test_polish_solves_a_linear_problem(case, success):
    """To a residual of rounding; the residual returned is that of the images returned."""
    objective, origin = case
    best, distance, residual, _ = solved(objective, origin, success)
    assert (residual < 1e-3).all()
    torch.testing.assert_close(distance, (best - origin).norm(dim=1))
    torch.testing.assert_close(residual, residual_of(objective, origin, best), rtol=0, atol=1e-4)
    assert best.min() >= 0 and best.max() <= 1


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


def wrong_label_far_away(network, origin, labels):
    """Corners of the box that the network calls something else."""
    generator = torch.Generator().manual_seed(4)
    corners = torch.rand(500, SIZE, generator=generator).round()
    answers = network(corners).argmax(1)
    return torch.stack([corners[answers != label][0] for label in labels])


def test_untargeted_polish_reaches_the_nearest_class():
    """The closed form min_k margin_k / ||w_y - w_k||, often not of the strongest competitor."""
    network = linear_network()
    network.weight.mul_(torch.tensor([[0.5], [1.0], [1.0], [3.0]]))
    network.bias.copy_(-network.weight.sum(1) / 2)  # all classes meet in mid-grey
    generator = torch.Generator().manual_seed(5)
    origin = 0.45 + 0.1 * torch.rand(60, SIZE, generator=generator)  # the box doesn't matter
    logits = network(origin)
    labels = logits.argmax(1)
    gap = logits.gather(1, labels[:, None]) - logits
    length = (network.weight[labels][:, None] - network.weight).norm(dim=2)
    lengths = torch.where(gap > 0, gap / length, torch.inf)
    keep = lengths.amin(1) > 0.01  # nearer, rounding matters
    labels, origin, lengths, gap = labels[keep], origin[keep], lengths[keep], gap[keep]
    second = gap.scatter(1, labels[:, None], torch.inf).argmin(1)
    assert (second != lengths.argmin(1)).sum() > 5
    start = wrong_label_far_away(network, origin, labels)
    best, distance, residual, _ = solved(Objective(network, (SIZE,), labels, None), origin, start)
    assert best.min() > 0 and best.max() < 1
    torch.testing.assert_close(distance, lengths.amin(1), rtol=1e-3, atol=0)
    assert torch.equal(network(best).argmax(1), lengths.argmin(1))
    assert (residual < 1e-3).all()


def test_untargeted_polish_is_the_best_of_all_targets_in_the_box():
    network, origin = linear_network(), images(40, seed=6)
    labels = network(origin).argmax(1)
    start = wrong_label_far_away(network, origin, labels)
    _, distance, _, _ = solved(Objective(network, (SIZE,), labels, None), origin, start)
    every = []
    for shift in range(1, CLASSES):
        objective = Objective(network, (SIZE,), labels, (labels + shift) % CLASSES)
        every.append(solved(objective, origin, start)[1])
    nearest = torch.stack(every).amin(0)
    assert nearest.isfinite().all()
    torch.testing.assert_close(distance, nearest, rtol=1e-3, atol=0)


@pytest.mark.parametrize("cut_steps", [0, 5])
@pytest.mark.parametrize("steps", [1, 3, 8])
@pytest.mark.parametrize("share", [0.3, 0.7, 1.0])
def test_polish_never_makes_a_success_worse(case, success, steps, share, cut_steps):
    """Whatever success it starts from."""
    objective, origin = case
    optimum, _, _, _ = solved(objective, origin, success)
    start = optimum + share * (success - optimum)
    _, distance, residual, _ = solved(objective, origin, start, steps, cut_steps)
    assert (distance <= (start - origin).norm(dim=1) * (1 + 1e-6)).all()
    assert not residual.isnan().any()


def test_polish_never_makes_a_success_of_a_curved_boundary_worse():
    objective, origin, start = curved_case(torch.nn.Sigmoid())
    best, distance, _, _ = solved(objective, origin, start, steps=6)
    before = (start - origin).norm(dim=1)
    found = distance.isfinite()
    assert found.float().mean() > 0.95
    assert (distance[found] <= before[found]).all()
    assert torch.equal(objective.model(best[found]).argmax(1), objective.targets[found])


def test_more_steps_settle_more_rows_of_a_curved_boundary():
    """The residual falls, the distance too."""
    objective, origin, start = curved_case(torch.nn.Sigmoid())
    few, many = (solved(objective, origin, start, steps=steps) for steps in (3, 12))
    assert (many[2] < 1e-3).sum() > 1.2 * (few[2] < 1e-3).sum()
    assert many[1].mean() < few[1].mean()


def test_cutting_planes_go_on_where_the_boundary_has_kinks():
    """They lengthen nothing and shorten much; the residual is that of the final images."""
    objective, origin, start = curved_case(torch.nn.ReLU())
    _, before, _, used_before = solved(objective, origin, start)
    best, distance, residual, used = solved(objective, origin, start, cut_steps=20)
    assert (distance <= before).all()
    assert distance.mean() < 0.9 * before.mean()
    # The cuts, and the certificate: all margins or, where only the first is near, that one.
    every = CLASSES - 1
    assert set((used - used_before).tolist()) <= {0, 20 - every, 20, 20 + every}
    assert (used - used_before >= 20 - every).any()
    assert torch.equal(distance[used == used_before], before[used == used_before])
    assert torch.equal(objective.model(best).argmax(1), objective.targets)
    torch.testing.assert_close(distance, (best - origin).norm(dim=1))
    wanted = residual_of(objective, origin, best)
    assert ((residual - wanted).abs() < 1e-3).float().mean() > 0.95  # some margins hardly bind


@pytest.mark.parametrize("cut_steps", [0, 5])
@pytest.mark.parametrize("steps", [1, 4])
def test_evaluations_are_the_gradients_computed(monkeypatch, steps, cut_steps):
    """For a row alone: those of the walk, of the cutting planes and of the certificate."""
    objective, origin, start = curved_case(torch.nn.ReLU(), rows=20)
    counts = []
    compute = Objective.margins_and_gradients

    def counted(self, *arguments):
        results = compute(self, *arguments)
        counts.append(results[0].shape[1])
        return results

    monkeypatch.setattr(Objective, "margins_and_gradients", counted)
    with_cuts = []
    for row in range(len(origin)):
        some = torch.tensor([row])
        counts.clear()
        _, _, _, evaluations = solved(
            objective.select(some), origin[some], start[some], steps, cut_steps
        )
        looks = counts.index(1)  # all margins at every point of the walk, then one at a time
        with_cuts.append(len(counts) - looks >= cut_steps > 0)
        assert counts[:looks] == [CLASSES - 1] * looks and looks <= steps + 1
        assert evaluations.dtype == torch.int64 and evaluations.shape == (1,)
        assert evaluations.item() == sum(counts)
    assert any(with_cuts) is (cut_steps > 0)


def test_evaluations_differ_from_row_to_row():
    """Those that leave early have spent less."""
    objective, origin, start = curved_case(torch.nn.Sigmoid())
    _, _, _, evaluations = solved(objective, origin, start, steps=10)
    assert evaluations.shape == (len(origin),) and len(evaluations.unique()) > 1
    assert evaluations.max() <= (CLASSES - 1) * 12 + 1


@pytest.mark.parametrize("cut_steps", [0, 5])
def test_no_success_is_not_a_number(case, cut_steps):
    """An impossible target: infinite distance, NaN residual, and the origin."""
    objective, origin = case
    with torch.no_grad():
        objective.model.bias[objective.targets[0]] = -100.0
    keep = (objective.targets == objective.targets[0]).nonzero()[:, 0]
    objective, origin = objective.select(keep), origin[keep]
    best, distance, residual, _ = solved(objective, origin, origin, 4, cut_steps)
    assert torch.equal(best, origin)
    assert distance.isinf().all() and residual.isnan().all()


def test_no_success_from_another_start_is_the_origin(case):
    """As documented, also after cutting planes."""
    objective, origin = case
    with torch.no_grad():
        objective.model.bias[objective.targets[0]] = -100.0
    keep = (objective.targets == objective.targets[0]).nonzero()[:, 0]
    objective, origin = objective.select(keep), origin[keep]
    start = torch.full_like(origin, 0.5)
    best, distance, _, _ = solved(objective, origin, start, 4, 5)
    assert distance.isinf().all()
    assert torch.equal(best, origin)


class Drifting(torch.nn.Module):
    """A network whose logits are never twice the same, as with another size of the batch."""

    def __init__(self, network, size):
        super().__init__()
        self.network, self.size = network, size
        self.generator = torch.Generator().manual_seed(7)

    def forward(self, images):
        logits = self.network(images)
        drift = torch.rand(logits.shape, generator=self.generator) - 0.5
        return logits + self.size * drift


@pytest.mark.parametrize("cut_steps", [0, 20])
@pytest.mark.parametrize("targeted", [True, False])
def test_every_success_has_its_residual(cut_steps, targeted):
    """Also where the margin, measured again, has come out smaller than it was."""
    objective, origin, start = curved_case(torch.nn.Sigmoid())
    targets = objective.targets if targeted else None
    drifting = Drifting(objective.model, 2e-4)
    drifting = Objective(drifting, (SIZE,), objective.labels, targets)
    best, distance, residual, _ = solved(drifting, origin, start, cut_steps=cut_steps)
    assert distance.isfinite().float().mean() > 0.95
    assert torch.equal(residual.isfinite(), distance.isfinite())
    again = certified(drifting, origin, best, distance.isfinite(), CLASSES - 1)[1]
    assert (again.isinf() & distance.isfinite()).any()


@pytest.mark.parametrize("targeted", [True, False])
def test_certificate_is_that_of_all_margins(targeted):
    """Of the points that may count and succeed by their margin; the origin stands for others."""
    objective, origin, start = curved_case(torch.nn.Sigmoid())
    if not targeted:
        objective = Objective(objective.model, (SIZE,), objective.labels, None)
    point = solved(objective, origin, start, steps=6)[0]
    point[::3] = origin[::3] + 0.99 * (point[::3] - origin[::3])  # just short of success
    usable = torch.arange(len(origin)) % 4 != 0
    best, distance, residual, _ = certified(objective, origin, point, usable, CLASSES - 1)
    margins, gradients, _ = objective.margins_and_gradients(point, CLASSES - 1)
    length = (point - origin).norm(dim=1)
    able = has_margin(margins, gradients, length)
    able = (able.all(1) if targeted else able[:, 0]) & usable
    assert able.any() and (~able & usable).any()
    if not targeted:  # the margin of the strongest competitor alone
        margins, gradients = margins[:, :1], gradients[:, :1]
    wanted = kkt_residual(margins, gradients, origin, point)
    assert torch.equal(distance.isfinite(), able)
    torch.testing.assert_close(distance[able], length[able])
    torch.testing.assert_close(residual[able], wanted[able], rtol=1e-2, atol=1e-4)
    assert residual[~able].isnan().all()
    assert torch.equal(best, torch.where(able[:, None], point, origin))


def test_certificate_asks_for_every_margin():
    """A second class whose margin is larger, but not by what its steeper gradient asks for."""
    network = torch.nn.Linear(2, 3).requires_grad_(False)
    network.weight.copy_(torch.tensor([[0.0, 0.0], [-0.1, 0.0], [0.0, -10.0]]))
    zeros = torch.zeros(2, dtype=torch.int64)
    objective = Objective(network, (2,), zeros + 1, zeros)
    origin = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    point = torch.tensor([[1.0, 0.5], [1.0, 0.5]])
    for gap, success in ((5e-5, False), (3e-4, True)):
        network.bias.copy_(torch.tensor([0.0, 0.1 - 1e-5, 5.0 - gap]))
        best, distance, residual, _ = certified(objective, origin, point, zeros == 0, 2)
        assert (distance.isfinite() == success).all()
        assert (residual.isfinite() == success).all()
        assert torch.equal(best, point if success else origin)


@pytest.mark.parametrize("targeted", [True, False])
def test_rows_go_on_as_they_would_alone(targeted):
    """When others leave: the same points for a row that takes as many steps as alone."""
    objective, origin, start = curved_case(torch.nn.Sigmoid(), rows=150)
    if not targeted:
        objective = Objective(objective.model, (SIZE,), objective.labels, None)
    best, _, residual, evaluations = solved(objective, origin, start, steps=7)
    most = (evaluations == evaluations.max()).nonzero()[:, 0]
    assert 5 < len(most) < 0.8 * len(origin)
    same = 0
    for row in most:
        some = row[None]
        alone = solved(objective.select(some), origin[some], start[some], steps=7)
        if alone[3] == evaluations[row]:
            same += 1
            torch.testing.assert_close(alone[0][0], best[row], rtol=0, atol=1e-3)
            torch.testing.assert_close(alone[2][0], residual[row], rtol=0.05, atol=1e-3)
    assert same > 3


def constructed(active):
    """Images, points r = clip(x + sum l_j a_j) that are optimal for their margins, and these."""
    generator = torch.Generator().manual_seed(1)
    origin = torch.rand(6, SIZE, generator=generator, dtype=torch.float64)
    gradients = torch.randn(6, active, SIZE, generator=generator, dtype=torch.float64)
    multipliers = 0.05 + 0.2 * torch.rand(6, active, generator=generator, dtype=torch.float64)
    moved = torch.einsum("bk,bkn->bn", multipliers, gradients)
    point = (origin + moved).clamp(0, 1)
    assert ((point == 0) | (point == 1)).any()
    return origin, gradients, point


@pytest.mark.parametrize("active", [1, 2, 3])
def test_residual_of_an_exact_solution_is_zero(active):
    """By construction; margins far above zero do not bind and say nothing."""
    origin, gradients, point = constructed(active)
    margins = torch.zeros(6, active, dtype=torch.float64)
    assert (kkt_residual(margins, gradients.clone(), origin, point) < 1e-4).all()
    margins = torch.nn.functional.pad(margins, (0, 1), value=100.0)
    gradients = torch.cat([gradients, torch.randn(6, 1, SIZE).double()], dim=1)
    assert (kkt_residual(margins, gradients, origin, point) < 1e-4).all()


@pytest.mark.parametrize("active", [1, 2])
@pytest.mark.parametrize("size", [1e-3, 1e-2])
def test_residual_of_a_perturbed_solution_is_the_perturbation(active, size):
    """To first order, if it is across the gradients and the pixels at the bounds stay there."""
    origin, gradients, point = constructed(active)
    generator = torch.Generator().manual_seed(2)
    aside = torch.randn(point.shape, generator=generator, dtype=torch.float64)
    inside = (point > 0.05) & (point < 0.95)
    aside = aside * inside
    basis = torch.linalg.qr((gradients * inside[:, None]).transpose(1, 2)).Q
    aside = aside - (basis @ (basis.transpose(1, 2) @ aside[:, :, None]))[:, :, 0]
    length = (point - origin).norm(dim=1)
    aside *= (size * length / aside.norm(dim=1))[:, None]
    found = kkt_residual(torch.zeros(6, active).double(), gradients, origin, point + aside)
    torch.testing.assert_close(found, torch.full_like(found, size), rtol=0.05, atol=0)


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


def test_more_classes_bind_than_are_followed():
    """Each of nine classes is held back by a pixel of its own: all nine pixels must move by 0.3."""
    network = torch.nn.Linear(SIZE, 10).requires_grad_(False)
    network.weight.zero_()
    network.weight[:9, :9] = -10 * torch.eye(9)
    network.bias[:9], network.bias[9] = 5.0, 0.0
    origin = torch.full((3, SIZE), 0.2)
    origin[:, 9:] = torch.rand(3, SIZE - 9, generator=torch.Generator().manual_seed(0))
    targets = torch.full((3,), 9)
    objective = Objective(network, (SIZE,), torch.zeros_like(targets), targets)
    start = origin.clone()
    start[0, :9] = 1.0  # a far success; the second has none to start from
    start[2, :9] = torch.linspace(0.5, 0.9, 9)
    best, distance, residual, _ = polish(
        objective, origin, start, torch.full((3,), torch.inf), steps=10, cut_steps=0, competitors=9
    )
    assert (residual < 1e-3).all()
    torch.testing.assert_close(distance, torch.full((3,), 0.9), rtol=1e-3, atol=0)
    torch.testing.assert_close(best[:, 9:], origin[:, 9:])
