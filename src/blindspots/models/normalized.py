"""Normalisation of images as the first layer of a network."""

import math

import torch
from torch import nn


class Normalized(nn.Module):
    """A network behind the normalisation that it was trained with: ``(images - mean) / std``.

    So the whole maps images in [0, 1] to logits, and gradients and distortions are those of images
    in [0, 1].

    The state dict of the whole holds ``mean`` and ``std`` beside the network's entries, which are
    named ``network.<name>``; what is saved of it can be computed without knowing the options. The
    network itself keeps its names: weights from elsewhere are loaded into ``network``.

    Parameters
    ----------
    network : torch.nn.Module
        Maps normalised images (B, C, H, W) to logits.
    mean, std : sequence of float
        One for each channel, in units of images in [0, 1]; ``std`` is positive.

    Raises
    ------
    ValueError
        If the lengths differ, or a number is not finite or ``std`` not positive; and, of images,
        if they have another number of channels.
    """

    def __init__(self, network, mean, std):
        super().__init__()
        if len(mean) != len(std) or not len(mean):
            raise ValueError(
                f"mean has {len(mean)} numbers and std {len(std)}; give one for each channel"
            )
        if not all(math.isfinite(number) for number in (*mean, *std)):
            raise ValueError(f"mean {list(mean)} and std {list(std)} must be finite numbers")
        mean, std = (
            torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (mean, std)
        )
        # After rounding, by which the smallest positive numbers become zero.
        if not bool((std > 0).all()):
            raise ValueError(f"std {std.flatten().tolist()} must be positive")
        self.network = network
        self.register_buffer("mean", mean)  # (C, 1, 1)
        self.register_buffer("std", std)

    def forward(self, images):
        if images.shape[1] != len(self.mean):  # one channel would be taken for several
            raise ValueError(
                f"images have {images.shape[1]} channels, mean and std {len(self.mean)} numbers"
            )
        return self.network((images - self.mean) / self.std)
