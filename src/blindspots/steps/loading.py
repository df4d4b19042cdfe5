"""Data and adversarial sets read back; shared by the steps that use them."""

import numpy as np
import torch

from blindspots.artifacts import read_tensors
from blindspots.data.detection import detecting, first_of_each
from blindspots.data.splits import split_indices
from blindspots.errors import UserError

AGAIN = "delete it and run again"


def load_images(path, job_digest, split, device):
    """Read the images of a split.

    Parameters
    ----------
    path : path-like
        The data artifact.
    job_digest : str
        Digest of the job that must have made it.
    split : dict
        As for `blindspots.data.splits.split_indices`. With ``detect``, a class, labels are 1 for
        its images and 0 for all others; with ``each``, so many of either, the first ones.
    device : torch.device

    Returns
    -------
    images : torch.Tensor of float32, shape (B, 1, H, W)
        In [0, 1].
    labels : torch.Tensor of int64, shape (B,)
    indices : ndarray of int64, shape (B,)
        Positions in the base set.
    facts : dict
        ``maximum``, ``classes``, ``shape`` and, if the classes have any, ``names``.

    Raises
    ------
    UserError
        If the file does not hold what it should.
    """
    tensors, provenance = read_tensors(path, job_digest)
    base, facts = split["of"], provenance["facts"]
    images, labels = f"{base}_images", f"{base}_labels"
    _check(path, tensors, labels, "int64", [], (0, facts["classes"] - 1))
    _check(path, tensors, images, "uint8", facts["shape"], (0, facts["maximum"]), labels)
    indices = split_indices(split, len(tensors[labels]))
    if "detect" in split:
        facts = detecting(facts, split["detect"])
        tensors[labels] = (tensors[labels] == split["detect"]).astype(np.int64)
    if "each" in split:
        indices = first_of_each(indices, tensors[labels], split["each"])
    pixels = torch.from_numpy(tensors[images][indices]).to(device)
    labels = torch.from_numpy(tensors[labels][indices]).to(device)
    return pixels.float() / facts["maximum"], labels, indices, facts


def load_adversarial_set(path, job_digest, facts, device):
    """Read an adversarial set as tensors, and its provenance; ``facts`` are those of the data."""
    arrays, provenance = read_tensors(path, job_digest)
    classes = (0, facts["classes"] - 1)
    _check(path, arrays, "labels", "int64", [], classes)
    _check(path, arrays, "targets", "int64", [], (-1, classes[1]), "labels")
    _check(path, arrays, "success", "bool", [], (False, True), "labels")
    _check(path, arrays, "indices", "int64", [], (0, np.inf), "labels")
    _check(path, arrays, "images", "float32", facts["shape"], (0, 1), "labels")
    return {name: torch.from_numpy(a).to(device) for name, a in arrays.items()}, provenance


def _check(path, arrays, name, dtype, shape, bounds, partner=None):
    """Raise UserError unless an array has a type, a shape and values within bounds.

    ``shape`` is that of one row; there are as many rows as in ``partner``.
    """
    array = arrays.get(name)
    if array is None:
        raise UserError(f"{path} holds no {name}; {AGAIN}")
    rows = len(arrays[partner]) if partner else array.size
    if array.dtype != dtype or array.shape != (rows, *shape):
        form = f"{array.dtype} of shape {array.shape}, not {dtype} of shape {(rows, *shape)}"
        raise UserError(f"{path}: {name} are {form}; {AGAIN}")
    low, high = bounds
    if not ((low <= array) & (array <= high)).all():  # false for NaN
        raise UserError(f"{path}: {name} are not all within {low} to {high}; {AGAIN}")


def to_arrays(tensors):
    """Return tensors as contiguous arrays on the CPU."""
    return {n: np.ascontiguousarray(t.detach().cpu().numpy()) for n, t in tensors.items()}
