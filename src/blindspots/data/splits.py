"""Named index sets of a data set: whole, and disjoint random parts."""

import numpy as np

from blindspots.randomness import stable_seed


def split_indices(split, size):
    """Return the image indices of a split, in increasing order.

    Parameters
    ----------
    split : dict
        ``{"of": base}`` for a whole base set, or with ``"seed"`` and one of ``"share": [a, b]``
        (fractions of a random permutation, 0 <= a < b <= 1) and ``"range": [i, j]`` (positions in
        it). Parts of one base with one seed share the permutation, so parts whose intervals do
        not meet are disjoint.
    size : int
        Number of images in the base set.

    Returns
    -------
    ndarray of int64

    Raises
    ------
    ValueError
        If a range reaches beyond the base set or the part would be empty.
    """
    if "share" in split:
        start, stop = (round(edge * size) for edge in split["share"])
    elif "range" in split:
        start, stop = split["range"]
    else:
        return np.arange(size)
    if not 0 <= start < stop <= size:
        raise ValueError(f"positions {start} to {stop} do not lie within the {size} images")
    seed = stable_seed("split", split["of"], split["seed"])
    permutation = np.random.Generator(np.random.PCG64(seed)).permutation(size)
    return np.sort(permutation[start:stop])
