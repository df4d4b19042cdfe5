"""Features of hidden layers: which there are, and which axis holds their units."""

import pytest
import torch
from torch import nn

from blindspots.errors import UserError
from blindspots.models.layers import LOGITS, hidden_features
from blindspots.models.networks import build_network


class Forward(nn.Module):
    """A network by its layers and a function of them."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.function = forward

    def forward(self, images):
        return self.function(images, self.layers)


@pytest.fixture
def images():
    return torch.rand(7, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def names(network, images):
    return list(hidden_features(network, images, 4))


def test_features_of_a_convolutional_network_are_means_over_maps(images):
    architecture = {"kind": "conv", "channels": [3], "units": 5, "kernel": 5, "dropout": 0.5}
    network = build_network(architecture, (1, 8, 8), 10, seed=0).eval()
    found = hidden_features(network, images, 4)
    with torch.no_grad():
        first = network[:2](images)
        second = network[:6](images)
    assert list(found) == ["relu 1", "relu 2", LOGITS]
    torch.testing.assert_close(found["relu 1"], first.mean((2, 3)))
    torch.testing.assert_close(found["relu 2"], second)
    torch.testing.assert_close(found[LOGITS], network(images).detach())


@pytest.mark.parametrize("inplace", [True, False])
def test_what_overwrites_an_activation_later_is_not_seen(images, inplace):
    def forward(x, layers):
        hidden = layers["one"](x.flatten(1)).relu()
        kept = hidden.clone()
        (hidden.mul_(0) if inplace else hidden.mul(0)).add(1)
        return layers["two"](kept)

    network = Forward(forward, one=nn.Linear(64, 6), two=nn.Linear(6, 10))
    found = hidden_features(network, images, 4)["relu 1"]
    assert found.max() > 0
    torch.testing.assert_close(found, network.layers["one"](images.flatten(1)).relu().detach())


def test_an_activation_that_no_linear_layer_follows_is_not_hidden(images):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 10), nn.ReLU())
    assert names(network, images) == ["tanh 1", LOGITS]


def test_branches_that_are_put_side_by_side_are_one_layer(images):
    def forward(x, layers):
        both = [layers["a"](x).relu_(), layers["b"](x).relu_()]
        return layers["last"](torch.cat(both, 1)).mean((2, 3))

    network = Forward(forward, a=nn.Conv2d(1, 2, 1), b=nn.Conv2d(1, 3, 3), last=nn.Conv2d(5, 10, 1))
    network.layers["b"].padding = (1, 1)
    found = hidden_features(network, images, 4)
    assert list(found) == ["concatenation 1", LOGITS]
    wanted = [network.layers[name](images).relu().mean((2, 3)).detach() for name in "ab"]
    torch.testing.assert_close(found["concatenation 1"], torch.cat(wanted, 1))


def test_activations_that_are_joined_along_another_axis_stay_two(images):
    def forward(x, layers):
        both = [layers["a"](x).relu(), layers["a"](x).relu()]
        return layers["last"](torch.cat(both, 2)).mean((2, 3))

    network = Forward(forward, a=nn.Conv2d(1, 2, 1), last=nn.Conv2d(2, 10, 1))
    assert names(network, images) == ["relu 1", "relu 2", LOGITS]


def test_units_of_tokens_lie_behind_a_dense_layer(images):
    """As in transformers: (B, tokens, units)."""

    def forward(x, layers):
        return layers["two"](nn.functional.gelu(layers["one"](x[:, 0]))).mean(1)

    network = Forward(forward, one=nn.Linear(8, 6), two=nn.Linear(6, 10))
    found = hidden_features(network, images, 4)["gelu 1"]
    hidden = nn.functional.gelu(network.layers["one"](images[:, 0])).detach()
    torch.testing.assert_close(found, hidden.mean(1))


def test_computations_on_weights_are_no_layers(images):
    def forward(x, layers):
        hidden = layers["one"](x.flatten(1)).tanh()
        return nn.functional.linear(hidden, layers["two"].weight.sigmoid())

    network = Forward(forward, one=nn.Linear(64, 6), two=nn.Linear(6, 10))
    assert names(network, images) == ["tanh 1", LOGITS]


@pytest.mark.parametrize("kind", ["softmax", "autoencoder"])
def test_which_built_in_networks_have_hidden_units(images, kind):
    network = build_network({"kind": kind, "units": 5}, (1, 8, 8), 10, seed=0)
    if kind == "softmax":
        with pytest.raises(UserError, match="mine has no activation between two linear layers"):
            hidden_features(network, images, 4, "mine")
    else:
        assert names(network, images) == ["sigmoid 1", LOGITS]
