"""ImageNet networks and photographs for the benchmarks, from a folder ``imagenet-mini``.

The folder lies under the data root and holds ``tiny-darknet.pt`` (a state dict),
``squeezenet1_0.safetensors``, ``labels.csv`` (path, class_index) and the photographs.
"""

import csv
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from blindspots.torchvision_import import import_with_torchvision

SHORT_SIDE = 256
# Tiny Darknet (J. Redmon, pjreddie.com): channels and kernel of each convolution, or a pooling.
POOL = None
DARKNET = (
    *((16, 3), POOL, (32, 3), POOL, (16, 1), (128, 3), (16, 1), (128, 3), POOL),
    *((32, 1), (256, 3), (32, 1), (256, 3), POOL, (64, 1), (512, 3), (64, 1), (512, 3), (128, 1)),
)


class TinyDarknet(nn.Module):
    """Sixteen convolutions with batch norm and LeakyReLU, and a mean over space of 1x1 logits."""

    def __init__(self):
        super().__init__()
        layers, inputs = [], 3
        for layer in DARKNET:
            if layer is POOL:
                layers.append(nn.MaxPool2d(2, 2, ceil_mode=True))
                continue
            outputs, kernel = layer
            convolution = nn.Conv2d(inputs, outputs, kernel, 1, kernel // 2, bias=False)
            layers += [convolution, nn.BatchNorm2d(outputs, eps=1e-3), nn.LeakyReLU(0.1)]
            inputs = outputs
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Conv2d(inputs, 1000, 1)

    def forward(self, images):
        return self.classifier(self.features(images)).mean((2, 3))


def load(name, folder):
    """Return a network and the side of its images: ``Tiny Darknet`` or ``SqueezeNet``."""
    if name == "Tiny Darknet":
        network, side = TinyDarknet(), 224
        weights = torch.load(folder / "tiny-darknet.pt", map_location="cpu", weights_only=True)
    else:
        network = import_with_torchvision("torchvision").models.squeezenet1_0(weights=None)
        side, weights = 227, load_file(folder / "squeezenet1_0.safetensors")
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False), side


def photographs(folder, side):
    """Return photographs (N, 3, side, side) in [0, 1] and their labels, in order of the list."""
    images, labels = [], []
    with open(folder / "labels.csv", newline="") as stream:
        for line in csv.DictReader(stream):
            with Image.open(folder / line["path"]) as opened:
                images.append(_centre(opened.convert("RGB"), side))
            labels.append(int(line["class_index"]))
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return pixels.float() / 255, torch.tensor(labels)


def _centre(image, side):
    share = SHORT_SIDE / min(image.size)
    width, height = (round(share * length) for length in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - side) // 2, (height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)))
