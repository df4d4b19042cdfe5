"""Networks for photographs, and the weights that others have trained for them."""

import csv
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from blindspots.errors import UserError
from blindspots.models.imagenet import tiny_darknet
from blindspots.models.torchvision_models import torchvision_network
from blindspots.models.weight_files import load_strictly, read_weights

IMAGENET = Path(os.environ.get("BLINDSPOTS_DATA", "data")) / "imagenet-mini"
COUNT = 32  # photographs
needs_imagenet = pytest.mark.skipif(
    not IMAGENET.is_dir(), reason="no imagenet-mini below BLINDSPOTS_DATA"
)


def photographs(side):
    """Return the first photographs, short side 256 and centre crop, and their labels."""
    with open(IMAGENET / "labels.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))[:COUNT]
    crops = []
    for row in rows:
        image = Image.open(IMAGENET / row["path"]).convert("RGB")
        scale = 256 / min(image.size)
        width, height = (round(scale * length) for length in image.size)
        left, top = (width - side) // 2, (height - side) // 2
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        crops.append(np.asarray(image.crop((left, top, left + side, top + side))))
    images = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255
    return images, torch.tensor([int(row["class_index"]) for row in rows])


def right_answers(network, side):
    images, labels = photographs(side)
    with torch.no_grad():
        return int((network.eval()(images).argmax(1) == labels).sum())


def test_shape_of_tiny_darknet():
    """Fifteen convolutions before the classifier, a million weights for a thousand classes."""
    network = tiny_darknet(1000)
    convolutions = [m for m in network.features if isinstance(m, nn.Conv2d)]
    filters = [16, 32, 16, 128, 16, 128, 32, 256, 32, 256, 64, 512, 64, 512, 128]
    assert [m.out_channels for m in convolutions] == filters
    assert sum(isinstance(m, nn.MaxPool2d) for m in network.features) == 4
    weights = sum(parameter.numel() for parameter in network.parameters())
    assert weights == 1_042_104


@pytest.mark.parametrize(("classes", "side"), [(10, 32), (7, 33)])
def test_tiny_darknet_takes_images_of_any_side(classes, side):
    network = tiny_darknet(classes).eval()
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    assert network(images).shape == (2, classes)
    # Pooling keeps the last odd row and column.
    assert network.features(images).shape[2:] == (-(-side // 16),) * 2


@needs_imagenet
def test_tiny_darknet_on_photographs():
    """62 % of 128 photographs are classified right, so of these about 20; measured: 19."""
    network = tiny_darknet(1000)
    load_strictly(network, read_weights(IMAGENET / "tiny-darknet.pt"), "tiny-darknet.pt")
    assert 17 <= right_answers(network, side=224) <= 21


@needs_imagenet
def test_squeezenet_on_photographs():
    """52 % of 128 photographs are classified right, so of these about 17; measured: 15."""
    network = torchvision_network("squeezenet1_0", 1000)
    weights = read_weights(IMAGENET / "squeezenet1_0.safetensors")
    load_strictly(network, weights, "squeezenet1_0.safetensors")
    assert 13 <= right_answers(network, side=227) <= 17


@needs_imagenet
def test_weights_for_other_classes_are_refused():
    weights = read_weights(IMAGENET / "tiny-darknet.pt")
    with pytest.raises(UserError, match=r"classifier\.weight \(1000, 128, 1, 1\) in place of \(10"):
        load_strictly(tiny_darknet(10), weights, "tiny-darknet.pt")


@pytest.mark.parametrize("name", ["squeezenet1_0", "resnet18", "mobilenet_v3_small", "googlenet"])
def test_torchvision_networks_give_logits(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network = torchvision_network(name, 7).eval()
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert network(images).shape == (2, 7)


def test_torchvision_has_no_such_network():
    for name, near in [("resnet19", "resnet18"), ("fasterrcnn_resnet50_fpn", ""), ("", "alexnet")]:
        with pytest.raises(UserError, match=f"no network {name!r} for classification.*{near}"):
            torchvision_network(name, 10)
