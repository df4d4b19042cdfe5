"""Sizes of perturbations, and perturbations of a given size."""

import torch

from blindspots.randomness import gaussian_noise


def rms_distortion(images, originals):
    """Return the root-mean-square distortion of each image over its pixels.

    sqrt(sum_i (x'_i - x_i)^2 / n), Szegedy et al. 2013, section 4.2, where it is called
    distortion, average distortion and stddev.

    Parameters
    ----------
    images, originals : torch.Tensor, shape (B, ...)

    Returns
    -------
    torch.Tensor, shape (B,)
    """
    return (images - originals).flatten(1).square().mean(1).sqrt()


def amplify(images, originals, rms):
    """Scale each perturbation to a given RMS distortion; the result may leave [0, 1].

    ``x + s r / RMS(r)``. The paper prints ``x + 0.1 (x' - x) / ||x' - x||_2``; that would be an
    RMS of 0.1 / sqrt(n), and "stddev 0.1" is what is meant.

    Parameters
    ----------
    images, originals : torch.Tensor, shape (B, ...)
    rms : float
        The wanted RMS distortion s, above 0.

    Returns
    -------
    torch.Tensor
        Shape of ``images``. An image without perturbation stays as it is.
    """
    size = rms_distortion(images, originals).clamp_min(1e-12)
    return originals + (images - originals) * (rms / size).view(-1, *[1] * (images.ndim - 1))


def add_gaussian_noise(originals, indices, stddev, *stream):
    """Add i.i.d. Gaussian noise, drawn per image index; the result may leave [0, 1].

    Parameters
    ----------
    originals : torch.Tensor of float32, shape (B, ...)
    indices : ndarray of int64, shape (B,)
        Positions of the images in their base set.
    stddev : float
    *stream
        What tells this draw from others, such as base set, seed and level.
    """
    noise = gaussian_noise(indices, tuple(originals.shape[1:]), *stream, f"{stddev:g}")
    return originals + stddev * torch.from_numpy(noise).to(originals.device)
