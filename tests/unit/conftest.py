"""Small trained models and their images, for the tests of the science."""

import pytest
import torch

from blindspots.data.sources import digits as embedded
from blindspots.models.networks import build_network
from blindspots.models.training import train_classifier

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits():
    """Training images of the embedded digits in [0, 1], (1297, 1, 8, 8), and their labels."""
    data = embedded.load()
    images = torch.from_numpy(data.images["train"]).float() / data.facts.maximum
    return images, torch.from_numpy(data.labels["train"])


@pytest.fixture(scope="session")
def softmax(digits):
    """A linear softmax trained on the digits."""
    return _trained({"kind": "softmax"}, digits, decay=1e-3)


@pytest.fixture(scope="session")
def mlp(digits):
    """A sigmoid network 64-30-10 trained on the digits."""
    return _trained({"kind": "mlp", "widths": [30], "activation": "sigmoid"}, digits, decay=1e-4)


def _trained(architecture, digits, decay):
    settings = {"max_evaluations": 200, "history": 20, "tolerance": 1e-4}
    settings |= {
        "optimizer": "lbfgs",
        "preconditioner": "none",
        "weight_decay_convention": "half_l2",
    }
    network = build_network(architecture, (1, 8, 8), 10, seed=0)
    train_classifier(network, *digits, {**settings, "weight_decay": [decay]}, seed=0)
    return network.eval()
