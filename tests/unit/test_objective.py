"""Gradients of the attacks' objective against finite differences."""

import pytest
import torch

from blindspots.attacks.objective import ROUNDING, Objective, has_margin
from blindspots.models.admission import admit
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


class Logits(torch.nn.Module):
    """A network whose logits are its inputs."""

    def forward(self, points):
        return points


def exact(margins, logits, reference, classes):
    """Return margins without what they are counted short of, for rounding."""
    own = logits.gather(1, reference[:, None])
    return margins + ROUNDING * torch.maximum(own.abs(), logits.gather(1, classes).abs())


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
    """Those of the strongest competitors, strongest first, each to the class that it names."""
    objective = Objective(network, (1, 2, 4), LABELS, targets)
    margins, gradients, classes = objective.margins_and_gradients(points, competitors)
    count = min(competitors, 4)
    assert margins.shape == classes.shape == (3, count) and gradients.shape == (3, count, 8)
    torch.testing.assert_close(margins[:, 0], objective.loss_and_margin(points)[2])
    logits = objective.logits(points).detach()
    reference = LABELS if targets is None else targets
    gaps = logits.gather(1, classes) - logits.gather(1, reference[:, None])
    found = exact(margins, logits, reference, classes)
    torch.testing.assert_close(found, gaps if targets is None else -gaps)
    others = logits.scatter(1, reference[:, None], -torch.inf)
    assert torch.equal(classes, others.argsort(1, descending=True)[:, :count])
    for k in range(count):

        def margin(x, k=k):
            found, _, of = objective.margins_and_gradients(x, competitors)
            return exact(found, network(x.view(3, 1, 2, 4)), reference, of)[:, k]

        numeric = finite_differences(margin, points)
        torch.testing.assert_close(gradients[:, k], numeric, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("competitors", [1, 3, 9])
@pytest.mark.parametrize("targets", [TARGETS, None], ids=["targeted", "untargeted"])
def test_margins_without_gradients_are_the_same(network, points, targets, competitors):
    objective = Objective(network, (1, 2, 4), LABELS, targets)
    every = objective.margins_and_gradients(points, 9)[0]
    kept = min(competitors, 4) if targets is not None else 1
    torch.testing.assert_close(objective.margins(points, competitors), every[:, :kept])


def test_untargeted_direction_is_that_of_the_loss(network, points):
    objective = Objective(network, (1, 2, 4), LABELS, None)
    _, wanted, margin = objective.loss_and_margin(points)
    gradient, same = objective.gradient_and_margin(points)
    torch.testing.assert_close(gradient, wanted)
    assert torch.equal(same, margin)


def test_direction_to_a_target_is_that_of_the_margin_where_the_target_is_second():
    """Elsewhere that of the loss, which lowers all competitors above it."""
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0], [3.0, 2.0, 1.0, 0.0], [1.0, 3.0, 2.0, 0.0]])
    targets = torch.tensor([1, 2, 1])  # second, third, first
    objective = Objective(Logits(), (4,), torch.tensor([0, 0, 0]), targets)
    gradient, margin = objective.gradient_and_margin(logits)
    assert gradient[0].tolist() == [1.0, -1.0, 0.0, 0.0]
    assert gradient[2].tolist() == [0.0, -1.0, 1.0, 0.0]
    wanted = logits[1].softmax(0) - torch.tensor([0.0, 0.0, 1.0, 0.0])
    torch.testing.assert_close(gradient[1], wanted)
    torch.testing.assert_close(margin, torch.tensor([-1.0, -2.0, 1.0]), rtol=1e-5, atol=0)


@pytest.mark.parametrize("factor", [1e-20, 1e-8, 1e-5, 1e5, 1e20])
@pytest.mark.parametrize("targets", [TARGETS, None], ids=["targeted", "untargeted"])
def test_logits_in_other_units_are_scaled(network, points, targets, factor):
    """By powers of two, so that the margins of clean images are about 4."""
    network, points = network.float(), points.float()
    objective = Objective(lambda x: factor * network(x), (1, 2, 4), LABELS, targets)
    objective.suit(points)
    gradient, margin = objective.clean
    assert gradient.isfinite().all() and (gradient.norm(dim=1) > 0.01).all()
    assert (margin.abs() > 2.8).all() and (margin.abs() < 5.7).all()
    assert torch.equal(objective.scale.log2(), objective.scale.log2().round())
    some = objective.select(torch.tensor([2]))
    assert torch.equal(some.margins(points[2:])[:, 0], objective.margins(points)[2:, 0])


def test_usual_logits_are_left_as_they_are(network, points):
    objective = Objective(network, (1, 2, 4), LABELS, TARGETS)
    objective.suit(points)
    assert objective.scale is None and not objective.careful and objective.classes == 5


def test_masked_class_does_not_spoil_gradients(network, points):
    """The logarithm of a probability of zero has an infinite derivative."""

    def masked(images):
        never = torch.full((len(images), 1), -torch.inf)
        return torch.cat([network(images), never], dim=1).softmax(1).log()

    network, points = network.float(), points.float()
    admitted = admit(masked, points.view(3, 1, 2, 4))
    wanted = Objective(network, (1, 2, 4), LABELS, TARGETS)
    objective = Objective(admitted, (1, 2, 4), LABELS, TARGETS)
    assert objective.loss_and_margin(points)[1].isnan().all()
    objective.suit(points)
    assert objective.careful
    for found, known in zip(
        objective.loss_and_margin(points), wanted.loss_and_margin(points), strict=True
    ):
        torch.testing.assert_close(found, known, rtol=1e-4, atol=1e-4)  # margins: their rounding


# Logits of five classes: of two rows, the strongest first; labels and targets are class 0.
ORDERED = torch.tensor([[0.0, 5.0, 4.0, 3.0, 2.0], [9.0, -1.0, -4.0, -2.0, -3.0]])
PREFERRED = torch.tensor([[0.0, 0.0, 0.0, 0.1, 2.0], [0.0, 0.0, 1.0, 0.0, 0.0]])


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_preferred_classes_come_after_the_strongest_competitor(count):
    """Targeted: by their logits, whatever the size of their entries, then the others."""
    zeros = torch.zeros(2, dtype=torch.int64)
    objective = Objective(Logits(), (5,), zeros + 1, zeros)
    margins, gradients, classes = objective.margins_and_gradients(ORDERED, count, PREFERRED)
    wanted = torch.tensor([[1, 3, 4, 2], [1, 2, 3, 4]])[:, :count]
    assert torch.equal(classes, wanted)
    found = exact(margins, ORDERED, zeros, classes)
    torch.testing.assert_close(found, ORDERED[:, :1] - ORDERED.gather(1, wanted))
    assert (gradients[:, :, 0] == 1).all()
    assert (gradients.gather(2, wanted[:, :, None]) == -1).all()
    assert (gradients.abs().sum(2) == 2).all()


def test_untargeted_the_preferred_class_comes_alone():
    """The strongest of them; without any, the strongest competitor."""
    zeros = torch.zeros(2, dtype=torch.int64)
    objective = Objective(Logits(), (5,), zeros, None)
    margins, _, classes = objective.margins_and_gradients(ORDERED, 3, PREFERRED)
    assert classes.tolist() == [[3], [2]]
    torch.testing.assert_close(
        exact(margins, ORDERED, zeros, classes), torch.tensor([[3.0], [-13.0]])
    )
    _, _, classes = objective.margins_and_gradients(ORDERED, 3, torch.zeros(2, 5))
    assert classes.tolist() == [[1], [1]]


def test_reference_is_never_a_competitor():
    """Not even if it is preferred and the strongest of all."""
    zeros = torch.zeros(2, dtype=torch.int64)
    preferred = torch.ones(2, 5)
    for targets in (zeros, None):
        objective = Objective(Logits(), (5,), zeros, targets)
        _, _, classes = objective.margins_and_gradients(ORDERED, 9, preferred)
        assert (classes != 0).all()


@pytest.mark.parametrize("competitors", [1, 3, 9])
def test_gradients_are_written_where_wanted(network, points, competitors):
    """To the beginning of longer memory, with the same result."""
    objective = Objective(network, (1, 2, 4), LABELS, TARGETS)
    memory = torch.full((3 * 4 * 8 + 7,), torch.nan, dtype=torch.float64)
    results = objective.margins_and_gradients(points, competitors, None, memory)
    for result, wanted in zip(
        results, objective.margins_and_gradients(points, competitors), strict=True
    ):
        torch.testing.assert_close(result, wanted, rtol=0, atol=0)
    assert results[1].data_ptr() == memory.data_ptr() and results[1].is_contiguous()
    used = results[1].numel()
    assert memory[:used].isfinite().all() and memory[used:].isnan().all()


def test_select_keeps_rows(network, points):
    keep = torch.tensor([2, 0])
    objective = Objective(network, (1, 2, 4), LABELS, TARGETS)
    for some, every in zip(
        objective.select(keep).loss_and_margin(points[keep]),
        objective.loss_and_margin(points),
        strict=True,
    ):
        torch.testing.assert_close(some, every[keep])


def test_margin_must_exceed_rounding():
    """Each margin for itself, relative to its gradient times the length of the perturbation."""
    margins = torch.tensor([[1.0, 0.0, -1.0], [1e-5, 3e-5, 1e-3]])
    gradients = torch.ones(2, 3, 4)  # of length 2
    gradients[1, 2] = 500.0  # of length 1000
    safe = has_margin(margins, gradients, torch.ones(2))
    assert safe.tolist() == [[True, False, False], [False, True, False]]
    safe = has_margin(margins, gradients, torch.full((2,), 0.01))
    assert safe.tolist() == [[True, False, False], [True, True, True]]


def test_margin_of_zero_is_never_safe():
    """Where the bound of rounding is zero: no perturbation, or a flat margin."""
    margins, gradients = torch.tensor([[0.0, 1e-9]]), torch.ones(1, 2, 4)
    assert has_margin(margins, gradients, torch.zeros(1)).tolist() == [[False, True]]
    assert has_margin(margins, 0 * gradients, torch.ones(1)).tolist() == [[False, True]]
