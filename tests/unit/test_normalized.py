"""Normalisation as a part of the network."""

import math

import pytest
import torch
from torch import nn

from blindspots.models.normalized import Normalized
from blindspots.models.weight_files import load_strictly

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def network(channels=3):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))


@pytest.fixture
def images():
    return torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def test_images_are_normalised_channel_by_channel(images):
    by_hand = [(images[:, c] - MEAN[c]) / STD[c] for c in range(3)]
    whole, inner = Normalized(network(), MEAN, STD), network()
    assert torch.equal(whole(images), inner(torch.stack(by_hand, 1)))
    grey = Normalized(nn.Identity(), [0.5], [0.25])
    assert torch.equal(grey(images[:, :1]), (images[:, :1] - 0.5) / 0.25)


def test_gradient_is_that_of_the_images(images):
    """Against central differences, in double precision."""
    whole = Normalized(network(), MEAN, STD).double().requires_grad_(False)
    points = images.double().requires_grad_(True)
    assert torch.autograd.gradcheck(whole, points)
    (gradient,) = torch.autograd.grad(whole(points)[:, 0].sum(), points)
    normal = ((points.detach() - whole.mean) / whole.std).requires_grad_(True)
    (inner,) = torch.autograd.grad(whole.network(normal)[:, 0].sum(), normal)
    std = torch.tensor(STD).double()[:, None, None]
    torch.testing.assert_close(gradient, inner / std)


def test_names_in_the_state_dict(images):
    """The network keeps its own; what is saved of the whole brings the normalisation along."""
    inner = network()
    whole = Normalized(network(), MEAN, STD)
    assert set(whole.network.state_dict()) == set(inner.state_dict())
    assert set(whole.state_dict()) == {"mean", "std", *(f"network.{n}" for n in inner.state_dict())}
    assert [n for n, _ in whole.named_parameters()] == [
        f"network.{n}" for n, _ in inner.named_parameters()
    ]
    again = Normalized(nn.Sequential(*network()), [0.0] * 3, [1.0] * 3)
    load_strictly(again, whole.state_dict(), "the artifact")
    assert torch.equal(again(images), whole(images))
    nn.init.zeros_(whole.network[3].weight)
    load_strictly(whole.network, inner.state_dict(), "weights")
    assert torch.equal(again(images), whole(images))


@pytest.mark.parametrize(
    ("mean", "std", "part"),
    [
        (MEAN, STD[:2], "mean has 3 numbers and std 2;"),
        ([], [], "mean has 0 numbers"),
        (MEAN, [0.2, 0.0, 0.2], "must be positive"),
        (MEAN, [0.2, -0.1, 0.2], "must be positive"),
        (MEAN, [0.2, 1e-60, 0.2], "must be positive"),
        (MEAN, [0.2, math.nan, 0.2], "must be finite"),
        ([0.5, math.inf, 0.5], STD, "must be finite"),
    ],
)
def test_wrong_numbers(mean, std, part):
    with pytest.raises(ValueError, match=part) as caught:
        Normalized(network(), mean, std)
    assert "\n" not in str(caught.value)


def test_images_of_other_channels(images):
    """Torch would stretch one channel to three, and take one number for all channels."""
    with pytest.raises(ValueError, match="images have 1 channels, mean and std 3 numbers"):
        Normalized(network(), MEAN, STD)(images[:, :1])
    with pytest.raises(ValueError, match="images have 3 channels, mean and std 1 numbers"):
        Normalized(network(), [0.5], [0.25])(images)
