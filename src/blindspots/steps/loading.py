"""Artifacts read back as what they stand for; shared by the steps that use tensors."""

import numpy as np
import torch

from blindspots.artifacts import read_tensors, write_tensors
from blindspots.data.splits import split_indices
from blindspots.models.networks import build_network


def load_images(path, job_digest, split, device):
    """Read the images of a split.

    Parameters
    ----------
    path : path-like
        The data artifact.
    job_digest : str
        Digest of the job that must have made it.
    split : dict
        As for `blindspots.data.splits.split_indices`.
    device : torch.device

    Returns
    -------
    images : torch.Tensor of float32, shape (B, 1, H, W)
        In [0, 1].
    labels : torch.Tensor of int64, shape (B,)
    indices : ndarray of int64, shape (B,)
        Positions in the base set.
    facts : dict
        ``maximum``, ``classes``, ``shape``.
    """
    tensors, provenance = read_tensors(path, job_digest)
    base = split["of"]
    indices = split_indices(split, len(tensors[f"{base}_labels"]))
    pixels = torch.from_numpy(tensors[f"{base}_images"][indices]).to(device)
    labels = torch.from_numpy(tensors[f"{base}_labels"][indices]).to(device)
    return pixels.float() / provenance["facts"]["maximum"], labels, indices, provenance["facts"]


def save_network(path, network, provenance):
    """Write the weights of a network, with the description that rebuilds it."""
    weights = {n: t.detach().cpu().contiguous().numpy() for n, t in network.state_dict().items()}
    write_tensors(path, weights, provenance)


def load_network(path, job_digest, device):
    """Read a network, frozen and in evaluation mode, and its provenance."""
    tensors, provenance = read_tensors(path, job_digest)
    about = provenance["network"]
    network = build_network(about["architecture"], tuple(about["shape"]), about["classes"], seed=0)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()})
    return network.to(device).eval().requires_grad_(False), provenance


def load_adversarial_set(path, job_digest, device):
    """Read an adversarial set as tensors, and its provenance."""
    arrays, provenance = read_tensors(path, job_digest)
    return {name: torch.from_numpy(a).to(device) for name, a in arrays.items()}, provenance


def to_arrays(tensors):
    """Return tensors as contiguous arrays on the CPU."""
    return {n: np.ascontiguousarray(t.detach().cpu().numpy()) for n, t in tensors.items()}
