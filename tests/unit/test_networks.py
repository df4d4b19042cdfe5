"""Architectures, and their construction from a description."""

import random
import sys

import numpy as np
import pytest
import torch
from torch import nn

from blindspots.models.inference import logits_of
from blindspots.models.networks import BUILDERS, build_network, linear_layers

ARCHITECTURES = [
    {"kind": "softmax"},
    {"kind": "mlp", "widths": [7], "activation": "sigmoid"},
    {"kind": "mlp", "widths": [7, 5, 6], "activation": "relu"},
    {"kind": "mlp", "widths": [3], "activation": "tanh"},
    {"kind": "autoencoder", "units": 9},
    {"kind": "conv", "channels": [2], "units": 5},
    {"kind": "conv", "channels": [2, 3, 2], "units": 5},
]
NAMES = [architecture["kind"] for architecture in ARCHITECTURES]


def test_every_builder_is_tested():
    # The others have tests of their own: test_quocnet_layers.py, test_imagenet.py,
    # test_torchvision.py.
    assert set(NAMES) == set(BUILDERS) - {"quocnet", "tiny_darknet", "torchvision"}


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28)])
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=NAMES)
def test_images_become_logits(architecture, shape):
    network = build_network(architecture, shape, 10, seed=0)
    assert network(torch.rand(3, *shape)).shape == (3, 10)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=NAMES)
def test_weights_follow_from_the_seed(architecture):
    """Same seed same bytes, another seed other weights, and the global state untouched."""
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, same, other = (build_network(architecture, (1, 8, 8), 10, seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    pairs = zip(one.state_dict().values(), same.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    ("architecture", "wanted"),
    [
        ({"kind": "softmax"}, [(10, 64)]),
        (
            {"kind": "mlp", "widths": [7, 5], "activation": "sigmoid"},
            [(7, 64), (5, 7), (10, 5)],
        ),
        ({"kind": "autoencoder", "units": 9}, [(10, 9)]),
        ({"kind": "conv", "channels": [2], "units": 5}, [(2, 1, 3, 3), (5, 32), (10, 5)]),
    ],
    ids=["softmax", "mlp", "autoencoder", "conv"],
)
def test_decaying_layers_go_from_input_to_output(architecture, wanted):
    layers = linear_layers(build_network(architecture, (1, 8, 8), 10, seed=0))
    assert [tuple(layer.weight.shape) for layer in layers] == wanted


@pytest.mark.parametrize(
    ("activation", "kind"), [("sigmoid", nn.Sigmoid), ("relu", nn.ReLU), ("tanh", nn.Tanh)]
)
def test_activation(activation, kind):
    architecture = {"kind": "mlp", "widths": [4, 4], "activation": activation}
    network = build_network(architecture, (1, 8, 8), 10, seed=0)
    assert sum(isinstance(module, kind) for module in network.modules()) == 2


def test_logits_of_many_images_in_chunks():
    network = build_network({"kind": "softmax"}, (1, 8, 8), 10, seed=0)
    images = torch.rand(11, 1, 8, 8)
    logits = logits_of(network, images, chunk=4)
    assert not logits.requires_grad
    torch.testing.assert_close(logits, network(images).detach())


USER_MODULE = """
import random

import numpy as np
import torch
from torch import nn

def good(shape, classes, width=3):
    size = shape[0] * shape[1] * shape[2]
    layers = [nn.Linear(size, width), nn.Dropout(0.5), nn.Linear(width, classes)]
    return nn.Sequential(nn.Flatten(), *layers)

random.random(), np.random.rand(), torch.rand(1)

def drawn(shape, classes):
    network = nn.Linear(shape[1] * shape[2], classes)
    with torch.no_grad():
        network.weight.copy_(torch.tensor(np.random.randn(*network.weight.shape)))
        network.bias.fill_(random.gauss(0, 1))
    return nn.Sequential(nn.Flatten(), network)

def no_module(shape, classes):
    return torch.relu

class InPlace(nn.Linear):
    def forward(self, images):
        return super().forward(images.mul_(2).flatten(1))

class Infinite(nn.Linear):
    def forward(self, images):
        return super().forward(images.flatten(1)) / 0

class Several(nn.Linear):
    def forward(self, images):
        return super().forward(images.flatten(1)), images

class Whole(nn.Linear):
    def forward(self, images):
        return super().forward(images.flatten(1)).long()

def infinite(shape, classes):
    return Infinite(shape[1] * shape[2], classes)

def several(shape, classes):
    return Several(shape[1] * shape[2], classes)

def whole(shape, classes):
    return Whole(shape[1] * shape[2], classes)

def in_place(shape, classes):
    return InPlace(shape[1] * shape[2], classes)

def wrong_shape(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[1] * shape[2], classes + 1))
"""


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    """A module of the user's on the Python path, forgotten afterwards."""
    (tmp_path / "own_networks.py").write_text(USER_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_networks"
    sys.modules.pop("own_networks", None)


def test_user_factory(user_module):
    """Called with shape, classes and options, with the seed, and left ready for training."""
    architecture = {"kind": f"{user_module}:good", "options": {"width": 6}}
    state = torch.get_rng_state()
    one, same = (build_network(architecture, (1, 8, 8), 10, seed=1) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert one[1].out_features == 6 and one.training
    assert torch.equal(one[1].weight, same[1].weight)


def test_user_factory_that_draws_from_other_generators(user_module):
    """Numpy's and Python's: weights follow from the seed, and the states are left alone."""
    architecture = {"kind": f"{user_module}:drawn"}
    random.seed(3), np.random.seed(3)
    states = random.getstate(), np.random.get_state()[1].tolist()
    first, same, other = (build_network(architecture, (1, 8, 8), 10, seed) for seed in (1, 1, 2))
    assert states == (random.getstate(), np.random.get_state()[1].tolist())
    for name in ("weight", "bias"):
        assert torch.equal(getattr(first[1], name), getattr(same[1], name))
        assert not torch.equal(getattr(first[1], name), getattr(other[1], name))


@pytest.mark.parametrize(
    ("factory", "told"),
    [
        ("no_module", "torch.nn.Module"),
        ("wrong_shape", r"\(2, 11\)"),
        ("in_place", "changes the images that it is given"),
        ("infinite", "logits that are not finite numbers"),
        ("whole", "a tensor of type int64"),
        ("several", "a tuple of 2"),
    ],
)
def test_user_factory_that_returns_something_else(user_module, factory, told):
    with pytest.raises(ValueError, match=f"own_networks:{factory}.*{told}"):
        build_network({"kind": f"{user_module}:{factory}"}, (1, 8, 8), 10, seed=0)


def test_global_state_survives_a_mistake(user_module):
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="own_networks"):
        build_network({"kind": f"{user_module}:wrong_shape"}, (1, 8, 8), 10, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
