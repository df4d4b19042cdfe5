"""Measure attacks side by side on ImageNet networks and photographs.

    python benchmarks/photographs.py data/imagenet-mini docs/benchmarks

The first argument is a folder with ``tiny-darknet.pt`` (a state dict),
``squeezenet1_0.safetensors``, ``labels.csv`` (path, class_index) and the photographs. Attacked are
the first that each network gets right, towards random wrong labels and untargeted. DDN is run with
as many gradients as lbfgs took, too.
"""

import argparse
import csv
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from attacks import attacks, measure, own, peer, write  # beside this file; finds src/ for us
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from blindspots.attacks.ddn import ddn
from blindspots.attacks.external import AttackError
from blindspots.attacks.lbfgs import lbfgs
from blindspots.models.inference import logits_of
from blindspots.randomness import random_wrong_labels
from blindspots.torchvision_import import import_with_torchvision

NETWORKS = ("Tiny Darknet", "SqueezeNet")
SHORT_SIDE = 256
# Too slow for what they add here: scipy takes minutes an image.
LEFT_OUT = ("scipy L-BFGS-B", "blindspots ddn 100, polished", "foolbox ddn 100")
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
    # Contiguous: adv-lib's fmn projects in place what flatten returns, a copy of anything else.
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return pixels.float() / 255, torch.tensor(labels)


def _centre(image, side):
    share = SHORT_SIDE / min(image.size)
    width, height = (round(share * length) for length in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - side) // 2, (height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)))


def case_of(name, folder, count, device):
    """Return a network, photographs that it gets right, labels and random targets."""
    network, side = load(name, folder)
    network = network.to(device)
    images, labels = (part.to(device) for part in photographs(folder, side))
    logits = logits_of(network, images, 32)
    right = (logits.argmax(1) == labels).nonzero()[:count, 0]
    drawn = random_wrong_labels(
        labels[right].cpu().numpy(), right.cpu().numpy(), logits.shape[1], "photographs", 0
    )
    return network, images[right], labels[right], torch.from_numpy(drawn).to(device)


def contenders(case, device):
    """Return the attacks by name, with DDN at the number of gradients that lbfgs takes."""
    network, images, labels, targets = case
    passes = lbfgs(network, images, labels, targets=targets).evaluations
    steps = round(passes.float().mean().item())
    known = {title: call for title, call in attacks(device).items() if title not in LEFT_OUT}
    known[f"blindspots ddn {steps}"] = own(ddn, steps=steps)
    with suppress(AttackError):  # not installed: `attacks` has said so
        known[f"adv-lib ddn {steps}"] = peer("adv-lib:ddn", steps=steps)
    return known


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of networks and photographs")
    parser.add_argument("output", type=Path, help="folder for table and plot")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    options.output.mkdir(parents=True, exist_ok=True)
    lines = []
    for name in NETWORKS:
        case = case_of(name, options.folder, options.images, device)
        for mode, one in (("random targets", case), ("untargeted", (*case[:3], None))):
            title = f"{name}, {mode}"
            lines += measure(title, one, contenders(one, device), options.repeats, device)
            write(pd.DataFrame(lines), "", options.output / f"photographs-{device.type}")


if __name__ == "__main__":
    main()
