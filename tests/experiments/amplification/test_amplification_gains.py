"""Gains against closed forms, and their bounds on awkward networks."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from blindspots.attacks.ddn import ddn
from blindspots.experiments.amplification.fields import PERTURBATIONS
from blindspots.experiments.amplification.gains import (
    Layer,
    layers_of,
    partners,
    perturbations,
    stretches,
)
from blindspots.experiments.amplification.local import local_norms
from blindspots.models.networks import build_network


def seeded(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


class Branches(nn.Module):
    """Overlapping pools, a residual, a concatenation, batch normalisation and functions."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Linear(8 * 9, 5)
        self.norm.running_var.uniform_(0.2, 3.0)

    def forward(self, images):
        maps = self.act(self.norm(self.first(images)))
        maps = functional.max_pool2d(maps, 3, 2)
        maps = maps + functional.leaky_relu(self.second(maps), 0.1)
        maps = torch.cat([maps, torch.sigmoid(maps)], 1)
        return self.last(maps.flatten(1))


def built(name):
    torch.manual_seed(0)
    if name == "branches":
        return Branches().double().eval(), (2, 8, 8)
    kinds = {
        "conv": {"kind": "conv", "channels": [3, 4], "units": 7},
        "mlp": {"kind": "mlp", "widths": [12, 9], "activation": "sigmoid"},
        "autoencoder": {"kind": "autoencoder", "units": 7},
    }
    return build_network(kinds[name], (1, 8, 8), 10, seed=0).double().eval(), (1, 8, 8)


NETWORKS = ["branches", "conv", "mlp", "autoencoder"]


def test_gains_of_a_linear_layer_are_those_of_the_closed_form():
    """Along a: ||W a|| / ||a||. Of noise, on average over it: ||W||_F^2 / n."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 5)).double()
    weight = network[1].weight.detach()
    layers = layers_of(network, (1, 4, 4))
    assert [layer.name for layer in layers] == ["images", "dense 1"]
    direction = (weight[1] - weight[3]).view(1, 1, 4, 4)
    noise = seeded(20000, 1, 4, 4)
    images = torch.full((20000, 1, 4, 4), 0.5, dtype=torch.float64)
    found = stretches(network, layers, images, [0.1 * direction.expand_as(images), noise])
    along = (weight @ direction.flatten()).norm() / direction.norm()
    torch.testing.assert_close(found[0, 1] / found[0, 0], along.expand(20000))
    square = (found[1, 1] / found[1, 0]).square().mean().item()
    assert square == pytest.approx(weight.square().sum().item() / 16, rel=0.01)


def test_the_smallest_change_of_a_linear_softmax_has_the_gain_of_the_closed_form():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 5))
    # Boundaries meet at mid-grey, so that no change reaches the edges of the box.
    network[1].bias.data = -network[1].weight.detach().sum(1) / 2
    images = 0.5 + 0.05 * seeded(12, 1, 4, 4).float()
    labels = network(images).argmax(1)
    result = ddn(network, images, labels, steps=60, polish_steps=10)
    assert result.success.all()
    originals, changes = images.double(), result.images.double() - images.double()
    weight = network[1].weight.detach().double()
    directions = weight[result.targets] - weight[labels]  # w_j - w_y
    expected = (directions @ weight.T).norm(dim=1) / directions.norm(dim=1)
    layers = layers_of(network, (1, 4, 4))
    (found,) = stretches(network.double(), layers, originals, [changes])
    torch.testing.assert_close(found[1] / found[0], expected, rtol=1e-4, atol=0)


def test_adversarial_gain_is_below_the_local_norm_and_that_below_the_bound():
    """In a linear network, where the Jacobian is the same everywhere and known."""
    torch.manual_seed(1)
    network = nn.Sequential(
        *(nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(32, 4))
    )
    images = 0.5 + 0.01 * seeded(6, 1, 6, 6).float()
    labels = network(images).argmax(1)
    result = ddn(network, images, labels, steps=60, polish_steps=10)
    assert result.success.all()
    layers = layers_of(network, (1, 6, 6))
    network.double()
    originals = images.double()
    (found,) = stretches(network, layers, originals, [result.images.double() - originals])
    norms = local_norms(network, layers, originals, seeded(6, 1, 6, 6, seed=2))
    whole = torch.autograd.functional.jacobian(lambda x: network(x)[0], originals[:1])
    exact = torch.linalg.svdvals(whole.reshape(4, 36))[0].item()
    assert norms[-1].numpy() == pytest.approx(exact, rel=1e-6)
    bounds = torch.tensor([layer.bound for layer in layers], dtype=torch.float64)[:, None]
    assert [layer.name for layer in layers] == ["images", "conv 1", "conv 2", "dense 1"]
    assert (found / found[0] <= norms * (1 + 1e-6)).all()
    assert (norms <= bounds * (1 + 1e-9)).all()
    assert (norms[1] > 0.7 * bounds[1]).all()  # and not by far


@pytest.mark.parametrize("name", NETWORKS)
def test_no_gain_exceeds_the_cumulative_bound(name):
    network, shape = built(name)
    layers = layers_of(network, shape)
    images = seeded(20, *shape).sigmoid()
    changes = [scale * seeded(20, *shape, seed=1) for scale in (1e-4, 0.1, 3.0)]
    found = stretches(network, layers, images, changes)
    bounds = torch.tensor([layer.bound for layer in layers], dtype=torch.float64)
    assert bounds.isfinite().all()
    assert (found <= bounds[:, None] * found[:, :1] * (1 + 1e-9)).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_is_seen_as_it_was_before_the_network_went_on(name):
    """Against the same layers computed by hand, one after the other."""
    network, shape = built(name)
    layers = layers_of(network, shape)
    images, change = seeded(3, *shape).sigmoid(), 0.1 * seeded(3, *shape, seed=1)
    (found,) = stretches(network, layers, images, [change])
    names = [layer.name for layer in layers]
    with torch.no_grad():
        if name == "branches":
            pair = [network.norm(network.first(x)) for x in (images, images + change)]
            assert names[:4] == ["images", "conv 1", "relu 1", "max pool 1"]
            assert names[4:] == [
                *("conv 2", "leaky relu 1", "sum 1", "sigmoid 1", "concatenation 1", "dense 1")
            ]
        else:
            first = {"conv": network[0], "mlp": network[:2]}.get(name)
            if first is None:
                code = network[1]
                first = nn.Sequential(nn.Flatten(), nn.Linear(*reversed(code.weight.shape)))
                first[1].weight, first[1].bias = code.weight, code.bias
            pair = [first(x) for x in (images, images + change)]
        torch.testing.assert_close(found[1], (pair[1] - pair[0]).flatten(1).norm(dim=1))
        if name == "branches":
            moved = (pair[1].relu() - pair[0].relu()).flatten(1).norm(dim=1)
            torch.testing.assert_close(found[2], moved)
        logits = network(images + change) - network(images)
    torch.testing.assert_close(found[-1], logits.norm(dim=1))


@pytest.mark.parametrize("name", NETWORKS)
def test_local_norms_are_those_of_the_jacobians(name):
    network, shape = built(name)
    layers = layers_of(network, shape)
    images = seeded(3, *shape).sigmoid()
    norms = local_norms(network, layers, images, seeded(3, *shape, seed=1))
    for image, found in zip(images, norms[-1], strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda x: network(x[None])[0], image)
        exact = torch.linalg.svdvals(jacobian.flatten(1))[0]
        assert exact * (1 - 1e-3) <= found <= exact * (1 + 1e-9)
    bounds = torch.tensor([layer.bound for layer in layers], dtype=torch.float64)[:, None]
    assert (norms <= bounds * (1 + 1e-6)).all()
    assert norms[0].tolist() == [1, 1, 1]
    alone = [
        local_norms(network, layers, images[[i]], seeded(3, *shape, seed=1)[[i]]) for i in range(3)
    ]
    # Beside others an image may take a step more.
    torch.testing.assert_close(torch.cat(alone, 1), norms, rtol=1e-3, atol=0)


def test_a_tiny_step_along_the_worst_direction_gains_the_local_norm():
    """What the norms claim is reached, by differences and not by gradients."""
    network, shape = built("mlp")
    images = seeded(2, *shape).sigmoid()
    layers = [layers_of(network, shape)[-1]]
    jacobian = torch.autograd.functional.jacobian(lambda x: network(x[None])[0], images[0])
    worst = torch.linalg.svd(jacobian.flatten(1)).Vh[0].view(1, *shape)
    (found,) = stretches(network, [Layer("images", None, 1.0), *layers], images[:1], [1e-6 * worst])
    norms = local_norms(network, layers, images, seeded(2, *shape, seed=1))
    assert (found[1] / found[0]).item() == pytest.approx(norms[0, 0].item(), rel=1e-3)


def test_a_layer_within_a_script_has_gains_but_no_norm():
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.ReLU())
    inner = torch.jit.trace(inner, torch.rand(2, 1, 4, 4))
    network = nn.Sequential(inner, nn.Linear(4, 3)).double()
    layers = layers_of(network, (1, 4, 4))
    assert [layer.name for layer in layers] == ["images", "dense 1", "relu 1", "dense 2"]
    images = seeded(2, 1, 4, 4)
    (found,) = stretches(network, layers, images, [0.1 * seeded(2, 1, 4, 4, seed=1)])
    assert found.isfinite().all()
    norms = local_norms(network, layers, images, seeded(2, 1, 4, 4, seed=1))
    assert norms[1].isnan().all() and norms[3].isfinite().all()


def test_unknown_operations_leave_the_gain_and_take_the_bound():
    network = nn.Sequential(nn.Flatten(), nn.LayerNorm(16), nn.Linear(16, 3)).double()
    *_, last = layers_of(network, (1, 4, 4))
    assert last.name == "dense 1" and math.isnan(last.bound)


@pytest.mark.parametrize("count", [2, 3, 50])
def test_partners_go_round_through_all_images(count):
    partner = partners(count, "a", 0)
    place, seen = 0, []
    for _ in range(count):
        seen.append(place)
        place = int(partner[place])
    assert place == 0 and sorted(seen) == list(range(count))
    assert (partner == partners(count, "a", 0)).all()
    assert count < 50 or (partner != partners(count, "a", 1)).any()


def test_a_single_image_has_no_partner():
    with pytest.raises(ValueError, match="no other image"):
        partners(1, "a", 0)


def test_perturbations_are_as_long_as_they_should_be():
    originals = seeded(5, 1, 4, 4).sigmoid()
    adversarial = originals + seeded(5, 1, 4, 4, seed=1) * torch.rand(5, 1, 1, 1)
    partner = partners(5, 0)
    sizes = (adversarial - originals).flatten(1).norm(dim=1)
    found = perturbations(originals, adversarial, sizes, partner, np.arange(5), "a", 0)
    assert tuple(found) == PERTURBATIONS
    lengths = {name: change.flatten(1).norm(dim=1) for name, change in found.items()}
    torch.testing.assert_close(lengths["gaussian"], lengths["adversarial"])
    torch.testing.assert_close(found["shuffled"], found["adversarial"][partner])
    torch.testing.assert_close(originals + found["difference"], originals[partner])
    # An image gets the same noise in whatever company.
    others = originals[2:], adversarial[2:], sizes[2:], partners(3, 0), np.arange(2, 5)
    some = perturbations(*others, "a", 0)
    torch.testing.assert_close(some["gaussian"], found["gaussian"][2:])
