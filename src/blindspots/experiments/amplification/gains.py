"""How much the layers of a network stretch small changes of its images.

Szegedy et al. 2013, section 4.3 (https://arxiv.org/abs/1312.6199), asks whether the network is
unstable because its layers may stretch (their upper bounds). Here it is measured, for each layer k:
the gain ||phi_k(x + r) - phi_k(x)|| / ||r|| of a perturbation r of an image x.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch

from blindspots.experiments.amplification.fields import (
    ADVERSARIAL,
    DIFFERENCE,
    GAUSSIAN,
    SHUFFLED,
)
from blindspots.models.activations import look_at_layers
from blindspots.models.operators import SLOPES, trace
from blindspots.models.singular_values import cumulative_bounds, upper_bound
from blindspots.randomness import gaussian_noise, stable_seed

INPUT = "images"
# What beside linear layers and slopes is shown: all that changes distances, but for scaling.
SHOWN = {*SLOPES, "leaky relu", "elu", "prelu", "norm", "max pool", "average pool", "mean", "total"}
SHOWN |= {"sum", "concatenation", INPUT}


@dataclass(frozen=True)
class Layer:
    """A layer, or the images themselves.

    Attributes
    ----------
    name : str
        Its kind, and its number among those of that kind.
    number : int or None
        Its place in the pass, as `blindspots.models.activations` takes it; None of the images.
    bound : float
        What no difference of two images is stretched by, up to here; NaN if it is not known.
    """

    name: str
    number: int | None
    bound: float


def layers_of(network, shape):
    """Return the layers of a network, in the order of the pass, the images first.

    Linear layers (each with the batch normalisation behind it), activations, pools, means, and
    where branches meet.

    Parameters
    ----------
    network : torch.nn.Module
        Maps images (B, *shape) to logits; it is left as it was.
    shape : tuple of int

    Returns
    -------
    list of Layer
    """

    def upper(operation):
        if operation.layer:
            return upper_bound(operation.layer)
        return torch.nan if operation.constant is None else operation.constant

    operations = trace(network, shape)
    bounds, counts, layers = cumulative_bounds(operations, upper), Counter(), []
    for operation in operations:
        if operation.layer or operation.kind in SHOWN:
            counts[operation.kind] += 1
            name = f"{operation.kind} {counts[operation.kind]}"
            name = INPUT if operation.kind == INPUT else name
            layers.append(Layer(name, operation.number, bounds[operation]))
    return layers


def partners(count, *stream):
    """Return another image for each of some images: a random cycle through all of them.

    Parameters
    ----------
    count : int
        At least 2.
    *stream
        What tells this draw from others.

    Returns
    -------
    torch.Tensor of int64, shape (count,)
        No image is its own partner, and each is the partner of one.
    """
    if count < 2:
        raise ValueError("a single image has no other image as its partner")
    generator = np.random.Generator(np.random.PCG64(stable_seed("partners", *stream)))
    order = torch.from_numpy(generator.permutation(count))
    found = torch.empty_like(order)
    found[order] = order.roll(-1)
    return found


def perturbations(originals, adversarial, sizes, partner, indices, *stream):
    """Return the perturbations whose gains are compared.

    Parameters
    ----------
    originals, adversarial : torch.Tensor, shape (N, ...)
    sizes : torch.Tensor, shape (N,)
        Euclidean lengths of the noise.
    partner : torch.Tensor of int64, shape (N,)
        Of `partners`.
    indices : ndarray of int64, shape (N,)
        Positions of the images in their base set.
    *stream
        What tells this draw of noise from others.

    Returns
    -------
    dict of str to torch.Tensor, shape (N, ...)
        ``adversarial``; ``shuffled``, that of the partner; ``gaussian``, noise; ``difference``, the
        partner minus the image.
    """
    found = adversarial - originals
    noise = torch.from_numpy(gaussian_noise(indices, tuple(originals.shape[1:]), *stream))
    noise = noise.to(found)
    rows = (-1, *[1] * (found.dim() - 1))
    noise *= (sizes / lengths(noise)).view(rows)
    return {
        ADVERSARIAL: found,
        SHUFFLED: found[partner],
        GAUSSIAN: noise,
        DIFFERENCE: originals[partner] - originals,
    }


def stretches(network, layers, originals, changes):
    """Return how far the output of each layer moves when the images do.

    Parameters
    ----------
    network : torch.nn.Module
        In double precision: a perturbation of RMS 1e-4 is near the rounding of single precision.
    layers : list of Layer
    originals : torch.Tensor of float64, shape (B, ...)
    changes : list of torch.Tensor of float64, shape (B, ...)
        Perturbations; the perturbed images may leave [0, 1].

    Returns
    -------
    torch.Tensor of float64, shape (P, L, B)
        ||phi_k(x + r) - phi_k(x)||; that of the images is ||r||.
    """
    images = torch.cat([originals, *(originals + change for change in changes)])
    place = {layer.number: row for row, layer in enumerate(layers)}
    moved = images.new_full((len(changes), len(layers), len(originals)), torch.nan)

    def look(number, output):
        first, *others = output.flatten(1).split(len(originals))
        for row, other in zip(moved[:, place[number]], others, strict=True):
            row.copy_((other - first).norm(dim=1))

    moved[:, place[None]] = torch.stack([lengths(change) for change in changes])
    look_at_layers(network, images, place.keys() - {None}, look)
    return moved


def lengths(changes):
    """Return the Euclidean length of each of some perturbations (B, ...), (B,)."""
    return changes.flatten(1).norm(dim=1)
