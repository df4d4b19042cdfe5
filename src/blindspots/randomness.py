"""Random draws that belong to an image, not to the order in which images are processed.

Draws are made for blocks of consecutive image indices, each with a generator of its own. So an
image gets the same draw in whatever pool, chunk or job it is processed.
"""

import hashlib
import random
import sys

import numpy as np

BLOCK = 256


def stable_seed(*parts):
    """Return a 128-bit integer seed from any printable parts, the same on every machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")


def draws_by_index(indices, draw, *stream):
    """Draw one row for each image index.

    Parameters
    ----------
    indices : ndarray of int64, shape (B,)
        Positions of the images in their base set; at least 0.
    draw : callable
        ``draw(generator, count)`` returns an array with ``count`` rows.
    *stream
        What tells this stream of draws from others: a purpose, a seed, a level, a base set.

    Returns
    -------
    ndarray, shape (B, ...)
    """
    indices = np.asarray(indices, dtype=np.int64)
    blocks, position = np.unique(indices // BLOCK, return_inverse=True)
    rows = np.stack(
        [draw(np.random.Generator(np.random.PCG64(stable_seed(*stream, b))), BLOCK) for b in blocks]
    )
    return rows[position, indices % BLOCK]


def random_wrong_labels(labels, indices, classes, *stream):
    """Draw a wrong label for each image, uniformly over the other classes.

    Parameters
    ----------
    labels : ndarray of int64, shape (B,)
        True labels, in ``range(classes)``.
    indices : ndarray of int64, shape (B,)
        Positions of the images in their base set.
    classes : int
        At least 2.

    Returns
    -------
    ndarray of int64, shape (B,)
    """

    def shifts(generator, count):
        return generator.integers(1, classes, size=count)

    return (np.asarray(labels) + draws_by_index(indices, shifts, "target", *stream)) % classes


def gaussian_noise(indices, shape, *stream):
    """Draw standard normal noise for each image.

    Parameters
    ----------
    indices : ndarray of int64, shape (B,)
    shape : tuple of int
        Shape of one image.

    Returns
    -------
    ndarray of float32, shape (B, *shape)
    """

    def normal(generator, count):
        return generator.standard_normal((count, *shape), dtype=np.float32)

    return draws_by_index(indices, normal, "noise", *stream)


def seed_globals(seed):
    """Seed the global generators of Python, numpy and, if it is loaded, torch on all devices.

    Parameters
    ----------
    seed : int
        0 to 2**63 - 1.
    """
    seed_python_and_numpy(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


def seed_python_and_numpy(seed):
    """Seed the global generators of Python and numpy, for the draws of other people's code."""
    random.seed(seed)
    np.random.seed([seed % 2**32, seed >> 32])  # it takes words of 32 bits
