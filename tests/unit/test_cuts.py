"""Cutting planes on small networks whose boundaries have kinks."""

import numpy as np
import pytest
import torch

from blindspots.attacks import cuts
from blindspots.attacks.cuts import cutting_planes
from blindspots.attacks.ddn import search
from blindspots.attacks.objective import Objective
from blindspots.attacks.polish import polish

SIZE, CLASSES, ROWS = 30, 5, 100


@pytest.fixture(scope="module")
def network():
    """A random network of ReLUs, 30-20-5."""
    generator = torch.Generator().manual_seed(0)
    hidden, output = torch.nn.Linear(SIZE, 20), torch.nn.Linear(20, CLASSES)
    with torch.no_grad():
        for parameter in (*hidden.parameters(), *output.parameters()):
            parameter.normal_(generator=generator)
    return torch.nn.Sequential(hidden, torch.nn.ReLU(), output).requires_grad_(False)


def grey_images(rows=ROWS):
    return torch.rand(rows, SIZE, generator=torch.Generator().manual_seed(1))


def objective_of(network, origin, targeted):
    labels = network(origin).argmax(1)
    return Objective(network, (SIZE,), labels, (labels + 1) % CLASSES if targeted else None)


def is_success(objective, points):
    answers = objective.logits(points).argmax(1)
    if objective.targets is None:
        return answers != objective.labels
    return answers == objective.targets


@pytest.mark.parametrize("steps", [1, 5, 30])
@pytest.mark.parametrize("targeted", [True, False])
@pytest.mark.parametrize("images", ["grey", "black and white"])
def test_successes_become_shorter_and_stay_in_the_box(network, images, targeted, steps):
    """No start of DDN is lengthened; on average, they are shortened after a few steps."""
    origin = grey_images() if images == "grey" else grey_images().round()
    objective = objective_of(network, origin, targeted)
    start, before = search(objective, origin, 10, 0.1, 1.0)
    found = before.isfinite()
    assert found.float().mean() > 0.9
    best, distance = cutting_planes(objective, origin, start, before, steps)
    assert (distance <= before).all()
    assert best.min() >= 0 and best.max() <= 1
    assert is_success(objective, best)[found].all()
    torch.testing.assert_close(distance[found], (best - origin).norm(dim=1)[found])
    if steps == 30:
        assert (distance[found] < 0.99 * before[found]).float().mean() > 0.6
        assert distance[found].mean() < 0.98 * before[found].mean()


def test_more_steps_shorten_more(network):
    origin = grey_images()
    objective = objective_of(network, origin, True)
    start, before = search(objective, origin, 20, 0.1, 1.0)
    means = [
        cutting_planes(objective, origin, start, before, steps)[1].mean().item()
        for steps in (3, 10, 40)
    ]
    assert means[0] > means[1] > means[2]


def test_noise_finds_shorter_ones(monkeypatch):
    """Max pooling and ReLUs: many pieces, each of which may hold a walk without noise up."""
    generator = torch.Generator().manual_seed(1)
    layers = [torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
    layers += [torch.nn.Conv2d(8, 16, 3), torch.nn.ReLU(), torch.nn.Flatten()]
    network = torch.nn.Sequential(*layers, torch.nn.Linear(144, CLASSES)).requires_grad_(False)
    for weight in network.parameters():
        spread = (2 / weight[0].numel()) ** 0.5 if weight.dim() > 1 else 0.1
        weight.normal_(0, spread, generator=generator)
    images = torch.rand(300, 1, 12, 12, generator=generator)
    labels = network(images).argmax(1)
    objective = Objective(network, images.shape[1:], labels, (labels + 1) % CLASSES)
    origin = images.flatten(1)
    start, before = search(objective, origin, 20, 0.1, 1.0)
    found = before.isfinite()
    assert found.float().mean() > 0.9
    _, noisy = cutting_planes(objective, origin, start, before, 80)
    monkeypatch.setattr(cuts, "FIRST_NOISE", 0.0)
    _, silent = cutting_planes(objective, origin, start, before, 80)
    assert noisy[found].mean() < 0.998 * silent[found].mean()
    assert (noisy < silent)[found].float().mean() > 0.55


def test_rows_do_not_depend_on_each_other(network):
    """The noise is the same for all of them."""
    origin = grey_images()
    objective = objective_of(network, origin, True)
    start, before = search(objective, origin, 20, 0.1, 1.0)
    _, together = cutting_planes(objective, origin, start, before, 20)
    some = torch.arange(ROWS - 1, 0, -7)
    _, apart = cutting_planes(objective.select(some), origin[some], start[some], before[some], 20)
    torch.testing.assert_close(apart, together[some], rtol=1e-3, atol=0)


def test_successes_are_found_from_the_image_itself(network):
    """The start is none, and its distance infinite."""
    origin = grey_images()
    objective = objective_of(network, origin, False)
    nothing = torch.full((ROWS,), torch.inf)
    best, distance = cutting_planes(objective, origin, origin, nothing, 30)
    assert distance.isfinite().float().mean() > 0.95
    found = distance.isfinite()
    assert is_success(objective, best)[found].all()
    torch.testing.assert_close(distance[found], (best - origin).norm(dim=1)[found])


def test_impossible_target_stays_infinitely_far(network):
    origin = grey_images(5)
    with torch.no_grad():
        bias = network[2].bias.clone()
        network[2].bias[0] = -1000.0
        labels = network(origin).argmax(1)
        objective = Objective(network, (SIZE,), labels, torch.zeros_like(labels))
        nothing = torch.full((5,), torch.inf)
        _, distance = cutting_planes(objective, origin, origin, nothing, 10)
        network[2].bias.copy_(bias)
    assert distance.isinf().all()


@pytest.mark.parametrize("images", ["grey", "black and white"])
def test_far_successes_are_shortened_much(network, images):
    """From other images of the wrong class, in every row."""
    generator = torch.Generator().manual_seed(2)
    origin, start = torch.rand(2, 300, SIZE, generator=generator)
    if images != "grey":
        origin, start = origin.round(), start.round()
    labels, targets = network(origin).argmax(1), network(start).argmax(1)
    differ = labels != targets
    origin, start = origin[differ], start[differ]
    objective = Objective(network, (SIZE,), labels[differ], targets[differ])
    before = (start - origin).norm(dim=1)
    _, distance = cutting_planes(objective, origin, start, before, 30)
    assert (distance < 0.9 * before).all()


def test_several_classes_at_once_are_reached_one_by_one():
    """The margin of a linear network is the least of several: the cuts find all of them."""
    generator = torch.Generator().manual_seed(3)
    network = torch.nn.Linear(SIZE, CLASSES).requires_grad_(False)
    network.weight.copy_(torch.randn(CLASSES, SIZE, generator=generator))
    network.bias.zero_()
    origin = grey_images(50)
    objective = objective_of(network, origin, True)
    pull = network.weight[objective.targets] - network.weight.mean(0)
    start = (origin + 10 * pull).clamp(0, 1)
    able = is_success(objective, start)
    assert able.float().mean() > 0.9
    before = torch.where(able, (start - origin).norm(dim=1), torch.inf)
    _, wanted, residual, _ = polish(
        objective, origin, start, before, steps=10, cut_steps=0, competitors=CLASSES - 1
    )
    known = residual < 1e-3
    assert known.float().mean() > 0.9
    _, distance = cutting_planes(objective, origin, start, before, 30)
    ratio = (distance / wanted)[known].numpy()
    assert ratio.min() > 1 - 1e-4
    assert np.median(ratio) < 1.005 and ratio.max() < 1.05


def test_inputs_are_not_overwritten(network):
    origin = grey_images()
    objective = objective_of(network, origin, False)
    start, before = search(objective, origin, 20, 0.1, 1.0)
    copies = [tensor.clone() for tensor in (origin, start, before)]
    cutting_planes(objective, origin, start, before, 5)
    for tensor, copy in zip((origin, start, before), copies, strict=True):
        assert torch.equal(tensor, copy)
