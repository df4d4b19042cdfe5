"""Gradients of the attacks' objective against finite differences."""

import pytest
import torch

from blindspots.attacks.objective import Objective, has_margin
from blindspots.models.networks import build_network

LABELS = torch.tensor([0, 3, 2])
TARGETS = torch.tensor([1, 0, 4])


@pytest.fixture
def network():
    architecture = {"kind": "mlp", "widths": [6], "activation": "tanh"}
    return build_network(architecture, (1, 2, 4), 5, seed=1).double().eval()


@pytest.fixture
def points():
    return torch.rand(3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def finite_differences(function, points, width=1e-6):
    """Return the gradient (B, n) of a function from (B, n) to (B,) by central differences."""
    columns = []
    for pixel in range(points.shape[1]):
        shift = torch.zeros_like(points)
        shift[:, pixel] = width
        columns.append((function(points + shift) - function(points - shift)) / (2 * width))
    return torch.stack(columns, dim=1)


@pytest.mark.parametrize("targets", [TARGETS, None], ids=["targeted", "untargeted"])
def test_loss_has_its_gradient(network, points, targets):
    objective = Objective(network, (1, 2, 4), LABELS, targets)
    _, gradient, _ = objective.loss_and_margin(points)
    numeric = finite_differences(lambda x: objective.loss_and_margin(x)[0], points)
    torch.testing.assert_close(gradient, numeric, rtol=1e-6, atol=1e-8)


def test_loss_is_the_cross_entropy_of_the_target(network, points):
    loss, _, _ = Objective(network, (1, 2, 4), LABELS, TARGETS).loss_and_margin(points)
    logits = network(points.view(3, 1, 2, 4))
    wanted = torch.nn.functional.cross_entropy(logits, TARGETS, reduction="none")
    torch.testing.assert_close(loss, wanted.detach())


def test_untargeted_loss_is_that_of_all_wrong_labels_together(network, points):
    loss, _, _ = Objective(network, (1, 2, 4), LABELS, None).loss_and_margin(points)
    right = network(points.view(3, 1, 2, 4)).softmax(1)[range(3), LABELS]
    torch.testing.assert_close(loss, -(1 - right).log().detach())


@pytest.mark.parametrize("targets", [TARGETS, None], ids=["targeted", "untargeted"])
def test_margin_is_positive_where_the_attack_has_succeeded(network, targets):
    """For random images and labels: target on top, or any wrong label on top."""
    generator = torch.Generator().manual_seed(2)
    points = 8 * torch.rand(200, 8, dtype=torch.float64, generator=generator) - 4
    labels = torch.randint(5, (200,), generator=generator)
    goal = None if targets is None else (labels + 1) % 5
    objective = Objective(network, (1, 2, 4), labels, goal)
    _, _, margin = objective.loss_and_margin(points)
    answers = objective.logits(points).argmax(1)
    succeeded = answers != labels if goal is None else answers == goal
    assert torch.equal(margin > 0, succeeded)
    assert succeeded.any() and not succeeded.all()


@pytest.mark.parametrize("competitors", [1, 3, 9])
@pytest.mark.parametrize("targets", [TARGETS, None], ids=["targeted", "untargeted"])
def test_margins_have_their_gradients(network, points, targets, competitors):
    """The smallest ones, each to the class that it names; untargeted a single one."""
    objective = Objective(network, (1, 2, 4), LABELS, targets)
    margins, gradients, classes = objective.margins_and_gradients(points, competitors)
    count = 1 if targets is None else min(competitors, 4)
    assert margins.shape == (3, count) and gradients.shape == (3, count, 8)
    torch.testing.assert_close(margins.amin(1), objective.loss_and_margin(points)[2])
    logits = objective.logits(points).detach()
    reference = LABELS if targets is None else targets
    gaps = logits.gather(1, classes) - logits.gather(1, reference[:, None])
    torch.testing.assert_close(margins, gaps if targets is None else -gaps)
    assert (classes != reference[:, None]).all()
    for k in range(count):
        numeric = finite_differences(
            lambda x, k=k: objective.margins_and_gradients(x, competitors)[0][:, k], points
        )
        torch.testing.assert_close(gradients[:, k], numeric, rtol=1e-6, atol=1e-8)


def test_select_keeps_rows(network, points):
    keep = torch.tensor([2, 0])
    objective = Objective(network, (1, 2, 4), LABELS, TARGETS)
    for some, every in zip(
        objective.select(keep).loss_and_margin(points[keep]),
        objective.loss_and_margin(points),
        strict=True,
    ):
        torch.testing.assert_close(some, every[keep])


@pytest.mark.parametrize(
    ("margins", "safe"),
    [([1.0, 1.0], True), ([1.0, 0.0], False), ([1.0, -1.0], False), ([1.0, 1e-9], False)],
)
def test_margin_must_exceed_rounding(margins, safe):
    """Each margin, relative to its gradient times the length of the perturbation."""
    gradients = torch.ones(1, 2, 4)
    assert has_margin(torch.tensor([margins]), gradients, torch.ones(1)).item() is safe
