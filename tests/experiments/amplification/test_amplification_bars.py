"""What is measured on real images: a network trained on MNIST, and Tiny Darknet."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blindspots.attacks.ddn import ddn
from blindspots.data.idx import read_idx
from blindspots.experiments.amplification.gains import (
    layers_of,
    lengths,
    partners,
    perturbations,
    stretches,
)
from blindspots.models.networks import build_network
from blindspots.models.training import train_classifier


@pytest.fixture
def data():
    """The data root, which holds images that are not part of the project."""
    root = os.environ.get("BLINDSPOTS_DATA")
    if not root:
        pytest.skip("BLINDSPOTS_DATA names no data root")
    return Path(root)


def median_gains(network, images, labels, steps):
    """Return the median gains (perturbations, layers) of successes, and whether any is too large.

    Of perturbations there are adversarial, shuffled, Gaussian ones and differences.
    """
    found = ddn(network, images, labels, steps=steps)
    assert found.success.all()
    layers = layers_of(network, tuple(images.shape[1:]))
    originals, adversarial = images.double(), found.images.double()
    sizes = lengths(adversarial - originals)
    indices = np.arange(len(images))
    changes = perturbations(originals, adversarial, sizes, partners(len(images), 0), indices, "a")
    moved = stretches(network.double(), layers, originals, list(changes.values()))
    gains = moved / moved[:, :1]
    bounds = torch.tensor([layer.bound for layer in layers], dtype=torch.float64)
    assert (gains <= bounds[:, None] * (1 + 1e-9)).all()
    return gains.median(2).values


@pytest.mark.mnist
def test_on_mnist_the_adversarial_gain_leaves_that_of_noise_behind_with_depth(data):
    """At the logits at least three times as far as at the first layer."""
    if not (data / "MNIST/raw").is_dir():
        pytest.skip("the data root holds no MNIST/raw")
    content, start = read_idx("mnist", data, "test", "images")
    pixels = np.frombuffer(content, np.uint8, offset=start).reshape(-1, 1, 28, 28)
    images = torch.from_numpy(pixels.astype(np.float32)) / 255
    content, start = read_idx("mnist", data, "test", "labels")
    labels = torch.from_numpy(np.frombuffer(content, np.uint8, offset=start).astype(np.int64))
    network = build_network(
        {"kind": "conv", "channels": [8, 16], "units": 32}, (1, 28, 28), 10, seed=0
    )
    training = {"optimizer": "adam", "epochs": 2, "batch_size": 64, "learning_rate": 0.003}
    training |= {"weight_decay": [0.0], "weight_decay_convention": "half_l2"}
    train_classifier(network, images[:3000], labels[:3000], training, seed=0)
    network.eval()
    some, answers = images[5000:5060], labels[5000:5060]
    right = network(some).argmax(1) == answers
    assert right.sum() > 40
    gains = median_gains(network, some[right], answers[right], steps=30)
    ratio = gains[0] / gains[2]
    assert ratio[-1] >= 3 * ratio[1]


def test_in_tiny_darknet_it_does_so_by_far_and_other_images_perturbations_do_not(data):
    """Adversarial against noise: twenty times the first layer's; shuffled ones stay near noise."""
    folder = data / "imagenet-mini"
    if not (folder / "tiny-darknet.pt").is_file():
        pytest.skip("the data root holds no imagenet-mini/tiny-darknet.pt")
    network = build_network({"kind": "tiny_darknet"}, (3, 224, 224), 1000, seed=0).eval()
    network.load_state_dict(torch.load(folder / "tiny-darknet.pt", weights_only=True))
    with open(folder / "labels.csv", newline="") as stream:
        paths = [row["path"] for row in csv.DictReader(stream)][:2]
    pictures = [Image.open(folder / path).convert("RGB").resize((256, 256)) for path in paths]
    pixels = np.stack([np.asarray(picture)[16:240, 16:240] for picture in pictures])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        labels = network(images).argmax(1)
    gains = median_gains(network, images, labels, steps=15)
    ratio = gains[:2] / gains[2]
    assert ratio[0, -1] >= 20 * ratio[0, 1]
    assert (ratio[1] < 2.5).all()
