"""Features whose directions are compared: those of a layer, whitened, untrained, the pixels."""

from dataclasses import dataclass

import torch

from blindspots.experiments.units.fields import TOP
from blindspots.models.layers import LOGITS

# Of wider layers so many units are drawn, and rotated among themselves; of pixels, whose rows are
# a control, fewer: the time of a basis grows with their square.
UNITS, PIXELS = 512, 200
ACTIVE = 0.01  # share of the images on which a unit must be active
AXES = 20  # principal axes, each in both directions
FLOOR = 1e-6  # of the largest variance: axes with less are not blown up to the same
INPUT = "input"


@dataclass(frozen=True)
class Space:
    """Features of all images, whose natural basis is tested.

    Attributes
    ----------
    layer, family : str
        Families: ``units``, ``whitened``, ``untrained``, ``logits``, ``pixels``.
    features : torch.Tensor of float32, shape (N, D)
    dead : int
        Units that were left out because they hardly ever respond.
    """

    layer: str
    family: str
    features: torch.Tensor
    dead: int

    @property
    def name(self):
        """What tells it from the others of a network."""
        return f"{self.family}/{self.layer}"

    @property
    def axes(self):
        """Principal axes that are compared, too: of a trained layer."""
        return min(AXES, self.features.shape[1]) if self.family == "units" else 0


def spaces(trained, untrained, images, generator):
    """Return all features of a network that are compared.

    Parameters
    ----------
    trained, untrained : dict of str to torch.Tensor of float32, shape (N, D)
        Of each layer, as `blindspots.models.layers.hidden_features` returns them.
    images : torch.Tensor of float32, shape (N, ...)
    generator : torch.Generator
        On the CPU; draws the units of wide layers, and the order of all.

    Returns
    -------
    list of Space
    """
    found = []
    for layer, features in trained.items():
        live, dead = live_units(features, generator)
        family = LOGITS if layer == LOGITS else "units"
        found.append(Space(layer, family, live, dead))
        if layer != LOGITS:
            found.append(Space(layer, "whitened", whitened(live), dead))
            live, dead = live_units(untrained[layer], generator)
            found.append(Space(layer, "untrained", live, dead))
    found.append(Space(INPUT, "pixels", *live_units(images.flatten(1), generator, PIXELS)))
    return found


def live_units(features, generator, most=UNITS):
    """Return the units that respond to some images, in random order, and how many do not.

    One responds to an image if it lies above the least that it gives, which is 0 for a ReLU. It
    must do so on a hundredth of the images, and on as many as are shown: all others have the same
    value, and the top ones would be a matter of their order.

    Parameters
    ----------
    features : torch.Tensor of float32, shape (N, D)
    generator : torch.Generator
    most : int

    Returns
    -------
    live : torch.Tensor of float32, shape (N, D'), D' at most ``most``
    dead : int
    """
    active = (features > features.min(0).values).sum(0)
    live = (active >= max(TOP, ACTIVE * len(features))).nonzero().flatten()
    order = torch.randperm(len(live), generator=generator)[:most].to(live.device)
    return features[:, live[order]].contiguous(), features.shape[1] - len(live)


def principal_axes(features, count):
    """Return the directions of largest variance, the largest first, (count, D)."""
    _, vectors = _spectrum(features)
    return vectors[:, -count:].flip(1).T.float()


def whitened(features):
    """Return features without their correlations, each rotated as little as can be.

    Parameters
    ----------
    features : torch.Tensor of float32, shape (N, D)

    Returns
    -------
    torch.Tensor of float32, shape (N, D)
        With the covariance of the projection onto the axes whose variance is above FLOOR of the
        largest: all directions among these have variance 1.
    """
    if features.shape[1] == 0:
        return features
    values, vectors = _spectrum(features)
    scales = torch.where(values > FLOOR * values[-1], values.clamp(min=0).rsqrt(), 0.0)
    centred = (features - features.mean(0)).double()
    return (centred @ (vectors * scales) @ vectors.T).float()


def _spectrum(features):
    """Return eigenvalues of the covariance, rising, and their directions in the columns."""
    centred = (features - features.mean(0)).double()
    return torch.linalg.eigh(centred.T @ centred / len(features))
