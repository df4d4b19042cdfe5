"""A logistic classifier of features, with classes that count alike and a ridge that is picked."""

import logging

import numpy as np
import torch
from torch import nn

from blindspots.models.minimize import minimize_lbfgs
from blindspots.models.whitening import Coordinates
from blindspots.randomness import stable_seed

LOG = logging.getLogger(__name__)
# Of standardised features, from strong to weak: two in each decade.
RIDGES = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)
HELD_OUT = 0.2  # share of the images that a ridge is picked on
LBFGS = {"max_evaluations": 400, "history": 20, "tolerance": 1e-3}


def fit_logistic(features, labels, classes, seed):
    """Fit a linear classifier by multinomial logistic regression.

    Each class has the same weight in the loss, however many images it has; so with two classes the
    threshold is that of the balanced accuracy. To the mean loss comes ridge / 2 ||W||^2 for
    features that are standardised. Ridges are tried from strong to weak, until the loss on images
    that are held out rises; then all images are fitted with the best of them.

    Parameters
    ----------
    features : torch.Tensor of float32, shape (N, D)
    labels : torch.Tensor of int64, shape (N,)
        In 0 to classes - 1; each class has at least two images.
    classes : int
    seed : int
        Draws what is held out.

    Returns
    -------
    layer : torch.nn.Linear
        Maps features as they are to logits.
    record : dict
        ``ridge``, ``held_out`` (the loss of each ridge that was tried), and as from
        `blindspots.models.minimize.minimize_lbfgs`.

    Raises
    ------
    ValueError
        If a class has no images that are fitted, or none that are held out.
    """
    held = _held_out(labels.cpu().numpy(), seed)
    held = torch.from_numpy(held).to(labels.device)
    counts = [torch.bincount(labels[part], minlength=classes) for part in (held, ~held)]
    if not all(bool((count > 0).all()) for count in counts):
        raise ValueError("a class has too few images for some to be held out; take a larger split")
    mean, spread = _standard(features[~held])
    layer = nn.Linear(features.shape[1], classes, device=features.device)
    layer.requires_grad_(True)
    losses = {}
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    fitted, judged = ((part - mean) / spread for part in (features[~held], features[held]))
    shares = _shares(labels[held], classes)
    for ridge in RIDGES:  # each goes on from the one before, until the loss rises
        _fit(layer, fitted, labels[~held], ridge)
        with torch.no_grad():
            losses[ridge] = _loss(layer, judged, labels[held], shares).item()
        LOG.info("ridge %g: loss %.4f on images held out", ridge, losses[ridge])
        if losses[ridge] > min(losses.values()):
            break
    ridge = min(losses, key=losses.get)
    mean, spread = _standard(features)
    record = _fit(layer, (features - mean) / spread, labels, ridge)
    with torch.no_grad():
        layer.weight /= spread
        layer.bias -= layer.weight @ mean
    return layer.requires_grad_(False), {
        "ridge": ridge,
        "held_out": list(losses.values()),
        **record,
    }


def _held_out(labels, seed):
    """Return which images are held out: the same share of each class, (N,)."""
    random = np.random.Generator(np.random.PCG64(stable_seed("held out", seed)))
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        places = random.permutation(np.flatnonzero(labels == label))
        held[places[: round(HELD_OUT * len(places)) or 1]] = True
    return held


def _standard(features):
    """Return mean and deviation of each feature; of one that is constant the deviation 1."""
    spread, mean = torch.std_mean(features, 0)
    return mean, torch.where(spread > 1e-6 * spread.max(), spread, 1.0)


def _shares(labels, classes):
    """Return what each image counts, (N,): each class as much as any other, all together 1."""
    return 1 / (classes * torch.bincount(labels, minlength=classes)[labels])


def _loss(layer, features, labels, shares):
    losses = nn.functional.cross_entropy(layer(features), labels, reduction="none")
    return (losses * shares).sum()


def _fit(layer, features, labels, ridge):
    shares = _shares(labels, layer.out_features)

    def loss():
        value = _loss(layer, features, labels, shares)
        value = value + ridge / 2 * layer.weight.square().sum()
        value.backward()
        return value.detach()

    return minimize_lbfgs(Coordinates(layer.parameters()), loss, LBFGS)
