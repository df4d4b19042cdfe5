"""Detection: of a data set with many classes, is an image of one of them?"""

import numpy as np


def detecting(facts, label):
    """Return the facts of a data set whose labels say whether an image is of a class.

    Parameters
    ----------
    facts : dict
        ``classes`` and, if the classes have any, ``names``; what else there is, is kept.
    label : int

    Returns
    -------
    dict
        With the class as number 1, all others as 0.
    """
    name = facts["names"][label] if facts.get("names") else str(label)
    return {**facts, "classes": 2, "names": [f"not {name}", name]}


def first_of_each(indices, labels, count):
    """Return the indices of the first images of each label, as many of each, in their order.

    Parameters
    ----------
    indices : ndarray of int64, shape (B,)
        Positions in the base set.
    labels : ndarray of int64
        Of the whole base set.
    count : int
        All that there are, where there are fewer.

    Returns
    -------
    ndarray of int64
    """
    own = labels[indices]
    kept = [indices[own == label][:count] for label in np.unique(own)]
    return np.sort(np.concatenate(kept))
