"""Whitened coordinates: a change of variables, and one in which curvature is even."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from blindspots.models import whitening
from blindspots.models.minimize import minimize_lbfgs
from blindspots.models.networks import SigmoidCode, build_network
from blindspots.models.whitening import Coordinates, WhitenedLayer, inverse_roots, whitened


class Shared(nn.Module):
    """One layer used twice, weights used by two layers, and a weight of its own."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(5))
        self.twice, self.tied, self.last = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.again = nn.Linear(5, 5)
        self.again.weight = self.tied.weight

    def forward(self, images):
        hidden = torch.tanh(self.twice(torch.tanh(self.twice(images.flatten(1) * self.scale))))
        return self.last(torch.tanh(self.again(torch.tanh(self.tied(hidden)))))


def convolutional():
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False),
        nn.Tanh(),
        nn.Conv2d(3, 4, (2, 1), dilation=(1, 2)),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(4 * 2 * 3, 3),
    )


NETWORKS = {
    "linear": ((6,), lambda: nn.Sequential(nn.Linear(6, 5), nn.Sigmoid(), nn.Linear(5, 3)), 2),
    "without bias": ((6,), lambda: nn.Sequential(nn.Linear(6, 3, bias=False)), 1),
    "code": ((6,), lambda: nn.Sequential(SigmoidCode(6, 4), nn.Linear(4, 3)), 2),
    "convolutional": ((2, 5, 5), convolutional, 3),
    "shared": ((5,), Shared, 2),
    "positions": ((4, 6), lambda: nn.Sequential(nn.Linear(6, 2), nn.Flatten(), nn.Linear(8, 3)), 2),
    "grouped": (
        (2, 5, 5),
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, groups=2), nn.Tanh(), nn.Flatten(), nn.Linear(36, 3)
        ),
        1,
    ),
    "same padding": (
        (2, 5, 5),
        lambda: nn.Sequential(
            nn.Conv2d(2, 2, 3, padding="same"), nn.Tanh(), nn.Flatten(), nn.Linear(50, 3)
        ),
        1,
    ),
}


def probe_of(network):
    """Return the probe of a softmax."""

    def probe(images, generator):
        logits = network(images)
        root = logits.detach().softmax(1).sqrt()
        noise = root * whitening.random_signs(logits, generator)
        return (logits * (noise - root.square() * noise.sum(1, keepdim=True))).sum()

    return probe


def problem(shape, build, dtype=torch.float64, images=40):
    """Return a network, images, and a function that adds the gradient of its loss."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build().to(dtype)
        pictures = torch.randn(images, *shape, dtype=dtype)
        labels = torch.randint(0, 3, (images,))

    def loss():
        value = nn.functional.cross_entropy(network(pictures), labels)
        value = value + 0.01 * sum(p.square().sum() for p in network.parameters())
        value.backward()
        return value.detach()

    return network, pictures, loss


def evaluated(coordinates, loss, x):
    coordinates.write(x)
    for parameter in coordinates.parameters:
        parameter.grad = None
    return loss(), coordinates.gradient()


def layers_of(coordinates):
    return [part for part in coordinates.parts if isinstance(part, WhitenedLayer)]


@pytest.mark.parametrize("name", NETWORKS)
def test_gradient_is_that_of_finite_differences(name):
    shape, build, count = NETWORKS[name]
    network, images, loss = problem(shape, build)
    before = [p.detach().clone() for p in network.parameters()]
    coordinates = whitened(network, images, probe_of(network), {}, seed=0)
    assert len(layers_of(coordinates)) == count
    assert len(coordinates.start) == sum(p.numel() for p in network.parameters())
    evaluated(coordinates, loss, coordinates.start)
    for parameter, was in zip(network.parameters(), before, strict=True):
        assert torch.equal(parameter, was)  # zero is where the weights are
    generator = torch.Generator().manual_seed(1)
    point = 0.01 * torch.randn(len(coordinates.start), generator=generator).double()
    gradient = evaluated(coordinates, loss, point)[1]
    for _ in range(5):
        direction = torch.randn(len(point), generator=generator).double()
        higher, lower = (
            evaluated(coordinates, loss, point + t * direction)[0] for t in (1e-6, -1e-6)
        )
        slope = (higher - lower) / 2e-6
        torch.testing.assert_close(gradient @ direction, slope, rtol=1e-5, atol=1e-7)
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("name", ["linear", "without bias", "code", "convolutional", "positions"])
def test_every_weight_is_reached(name):
    """The coordinates span all weights: some x leads to any others."""
    shape, build, _ = NETWORKS[name]
    network, images, _ = problem(shape, build)
    coordinates = whitened(network, images, probe_of(network), {}, seed=0)
    columns = []
    for x in torch.eye(len(coordinates.start), dtype=torch.float64):
        coordinates.write(x)
        columns.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    coordinates.write(coordinates.start)
    origin = torch.cat([p.detach().flatten() for p in network.parameters()])
    assert torch.linalg.matrix_rank(torch.stack(columns) - origin) == len(origin)


def test_curvature_of_a_softmax_is_even():
    """Of inputs of quite different sizes, which plain coordinates show."""
    images = 400
    network, pictures, _ = problem((6,), lambda: nn.Sequential(nn.Linear(6, 3)), images=images)
    pictures *= torch.tensor([100.0, 10.0, 10.0, 3.0, 1.0, 1.0], dtype=torch.float64)
    with torch.no_grad():
        network[0].weight /= 100
    numbers = {}
    for kind, coordinates in {
        "plain": Coordinates(network.parameters()),
        "whitened": whitened(network, pictures, probe_of(network), {}, seed=0),
    }.items():
        rows = []
        for picture in pictures:
            chances = network(picture[None]).softmax(1)[0].detach()
            for label, chance in enumerate(chances):
                for parameter in network.parameters():
                    parameter.grad = None
                loss = -network(picture[None]).log_softmax(1)[0, label]
                (loss * chance.sqrt()).backward()
                rows.append(coordinates.gradient())
        fisher = torch.stack(rows).T @ torch.stack(rows) / images
        values = torch.linalg.eigvalsh(fisher)
        values = values[values > 1e-9 * values[-1]]  # a shift of all logits changes nothing
        numbers[kind] = (values[-1] / values[0]).item()
    assert numbers["plain"] > 1e3
    assert numbers["whitened"] < 30


@pytest.mark.parametrize("decay", [1e-4, 1e-2, 1.0])
def test_smallest_loss_of_a_softmax_is_the_same(decay, digits):
    """In either coordinates, on images of which some pixels are always black."""
    images, labels = digits[0][:300].flatten(1).double(), digits[1][:300]
    found = []
    for whiten in (False, True):
        network = nn.Sequential(nn.Linear(64, 10)).double()
        for parameter in network.parameters():
            nn.init.zeros_(parameter)

        def loss(network=network):
            value = nn.functional.cross_entropy(network(images), labels)
            value = value + decay / 2 * network[0].weight.square().sum()
            value.backward()
            return value.detach()

        if whiten:
            decays = {network[0].weight: decay}
            coordinates = whitened(network, images, probe_of(network), decays, seed=0)
        else:
            coordinates = Coordinates(network.parameters())
        settings = {"max_evaluations": 3000, "history": 50, "tolerance": 1e-12}
        record = minimize_lbfgs(coordinates, loss, settings)
        assert record["converged"] is True
        found.append((record["loss"], network[0].weight.detach()))
    (plain, weights), (white, others) = found
    assert white == pytest.approx(plain, rel=1e-9)
    torch.testing.assert_close(others, weights, rtol=0, atol=1e-6 / decay**0.5)


def test_decay_is_part_of_the_curvature():
    """Where it is nearly all of it, a step along the gradient leads nearly to the minimum."""
    shape, build, _ = NETWORKS["without bias"]
    network, images, _ = problem(shape, build)
    weight = network[0].weight

    def loss():
        value = network(images).logsumexp(1).mean() + 500 * weight.square().sum()
        value.backward()
        return value.detach()

    coordinates = whitened(network, images, probe_of(network), {weight: 1000.0}, seed=0)
    before, gradient = evaluated(coordinates, loss, coordinates.start)
    after, left = evaluated(coordinates, loss, -gradient)
    assert after < 0.01 * before
    assert left.norm() < 0.05 * gradient.norm()


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_singular_factors(rank):
    """Dead units and black pixels: their inverse roots are finite, and symmetric."""
    basis = torch.randn(5, rank, generator=torch.Generator().manual_seed(0))
    matrix = basis @ basis.T
    for pair in ((matrix, torch.eye(4)), (torch.eye(4), matrix), (matrix, matrix)):
        for factor, root in zip(pair, inverse_roots(*pair, 1e-3), strict=True):
            assert root.shape == factor.shape and bool(root.isfinite().all())
            torch.testing.assert_close(root, root.T)
            assert torch.linalg.eigvalsh(root)[0] > 0


def test_inverse_roots_undo_the_damped_product():
    generator = torch.Generator().manual_seed(0)
    factors = [torch.randn(n, n, generator=generator, dtype=torch.float64) for n in (4, 3)]
    inputs, outputs = (10**k * f @ f.T for k, f in zip((0, 3), factors, strict=True))
    roots = inverse_roots(inputs, outputs, 1e-3)
    damped = [torch.linalg.inv(root @ root) for root in roots]
    shares = [
        (wet - dry).diagonal().mean().item()
        for wet, dry in zip(damped, (inputs, outputs), strict=True)
    ]
    assert shares[0] * shares[1] == pytest.approx(1e-3, rel=1e-4)
    ratio = inputs.trace() / 4 / (outputs.trace() / 3)
    assert shares[0] / shares[1] == pytest.approx(ratio.item(), rel=1e-3)


def test_dead_network_stays_finite():
    """Images and gradients that are all zero."""
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        network[0].bias.fill_(-1)
        network[2].weight.zero_()
    coordinates = whitened(network, torch.zeros(20, 4), probe_of(network), {}, seed=0)
    coordinates.write(torch.ones_like(coordinates.start))
    assert all(bool(p.isfinite().all()) for p in network.parameters())


def test_frozen_and_unused_weights():
    """What is frozen stays; what takes no part in the answer has no gradient."""
    network = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    network[0].bias.requires_grad_(False)
    network.spare = nn.Parameter(torch.ones(2))
    network.forward = lambda images: network[1](network[0](images))
    images = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    frozen = network[0].bias.clone()
    coordinates = whitened(network, images, probe_of(network), {}, seed=0)
    assert len(layers_of(coordinates)) == 1  # a layer in part is not whitened

    def loss():
        value = network(images).square().sum()
        value.backward()
        return value.detach()

    _, gradient = evaluated(coordinates, loss, torch.ones_like(coordinates.start))
    assert len(gradient) == 12 + 8 + 2
    assert torch.equal(network[0].bias, frozen)
    assert (gradient == 0).sum() == 2


def test_wide_layers_are_only_scaled(monkeypatch):
    monkeypatch.setattr(whitening, "WIDEST", 5)
    network, images, _ = problem(*NETWORKS["linear"][:2])
    coordinates = whitened(network, images, probe_of(network), {}, seed=0)
    assert len(layers_of(coordinates)) == 1


def test_same_seed_same_coordinates():
    def roots(seed):
        network, images, _ = problem(*NETWORKS["linear"][:2])
        part = layers_of(whitened(network, images, probe_of(network), {}, seed))[0]
        return torch.cat([part.left.flatten(), part.right.flatten()])

    state = torch.get_rng_state()
    assert torch.equal(roots(3), roots(3)) and not torch.equal(roots(3), roots(4))
    assert torch.equal(torch.get_rng_state(), state)


class Counted(TorchDispatchMode):
    """Counts the operations that reach the dispatcher."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_operations_of_an_evaluation_outside_the_network():
    """Of three layers: at most sixty, whatever the length of the history."""
    network = build_network(
        {"kind": "mlp", "widths": [8, 8], "activation": "sigmoid"}, (1, 6, 6), 3, 0
    )
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(60, 1, 6, 6, generator=generator)
    labels = torch.randint(0, 3, (60,), generator=generator)
    inside = []

    def loss():
        with Counted() as own:  # what it counts, the one around it counts, too
            value = nn.functional.cross_entropy(network(images), labels)
            value.backward()
            value = value.detach()
        inside.append(own.count)
        return value

    coordinates = whitened(network, images, probe_of(network), {}, seed=0)
    settings = {"max_evaluations": 100, "history": 30, "tolerance": 0}
    with Counted() as total:
        record = minimize_lbfgs(coordinates, loss, settings)
    assert record["evaluations"] == len(inside) > 100
    assert total.count > sum(inside) > 10 * len(inside)
    assert (total.count - sum(inside)) / len(inside) <= 60
