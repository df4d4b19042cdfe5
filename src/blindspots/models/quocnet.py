"""The stages of QuocNet: linear filters, L2 pooling and local contrast normalisation.

Le et al. 2012, "Building high-level features using large scale unsupervised learning"
(https://arxiv.org/abs/1112.6209), which Szegedy et al. 2013 (https://arxiv.org/abs/1312.6199,
figure 6) call QuocNet; here with filters that are the same at every place of an image.
"""

import hashlib

import torch
from torch import nn

SMALLEST = 1e-12  # of variances: below, an image is flat
POOLED = 1e-4  # under the root of L2 pooling, which has no gradient at 0


class L2Pool(nn.Module):
    """The root of the sum of squares over windows.

    Parameters
    ----------
    size, stride : int
    epsilon : float
        What is added to the sum.
    """

    def __init__(self, size, stride, epsilon=POOLED):
        super().__init__()
        self.size, self.stride, self.epsilon = size, stride, epsilon

    def forward(self, maps):
        means = nn.functional.avg_pool2d(maps.square(), self.size, self.stride)
        return (means * self.size**2 + self.epsilon).sqrt()


class LocalContrastNorm(nn.Module):
    """Maps less their local mean, divided by their local deviation.

    Both are weighted by a Gaussian over space and taken over all maps together; beyond the edge
    there is nothing, and the weights of what there is add up to 1. A deviation below the image's
    mean one counts as that, so that flat regions stay flat. Nothing changes if the maps are scaled
    by a positive number or a constant is added to all.

    Parameters
    ----------
    size : int
        Side of the window, odd.
    sigma : float
        Of the Gaussian.
    """

    def __init__(self, size=5, sigma=1.5):
        super().__init__()
        places = torch.arange(size) - size // 2
        line = torch.exp(-places.square() / (2 * sigma**2))
        self.register_buffer("window", torch.outer(line, line)[None, None], persistent=False)

    def forward(self, maps):
        one = maps[:1, :1]
        weights = self._summed(torch.ones_like(one))  # (1, 1, H, W)
        centred = maps - self._summed(maps.mean(1, keepdim=True)) / weights
        variance = self._summed(centred.square().mean(1, keepdim=True)) / weights
        deviation = variance.clamp_min(SMALLEST).sqrt()
        return centred / torch.maximum(deviation, deviation.mean((2, 3), keepdim=True))

    def _summed(self, one):
        window = self.window.to(one.dtype)
        return nn.functional.conv2d(one, window, padding=window.shape[-1] // 2)


def quocnet(stages, shape, classes):
    """Return a network of stages and a linear classifier on the last one.

    Parameters
    ----------
    stages : list of dict
        Of each ``filters``, their side ``kernel``, and ``pool`` and ``stride`` of L2 pooling.
    shape : tuple of int
        Of an image, (C, H, W).
    classes : int

    Returns
    -------
    torch.nn.Sequential
        The stages, each a Sequential whose first layer holds the filters; Flatten; Linear.
    """
    channels, layers = shape[0], []
    for stage in stages:
        layers.append(
            nn.Sequential(
                nn.Conv2d(channels, stage["filters"], stage["kernel"]),
                L2Pool(stage["pool"], stage["stride"]),
                LocalContrastNorm(),
            )
        )
        channels = stage["filters"]
    with torch.no_grad():
        features = nn.Sequential(*layers, nn.Flatten())(torch.zeros(1, *shape)).shape[1]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, classes))


def features_digest(network):
    """Return a SHA-256 over the weights of all layers of a network but the last."""
    found = hashlib.sha256()
    for name, value in network[:-1].state_dict().items():
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
