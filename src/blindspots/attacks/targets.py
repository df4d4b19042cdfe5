"""Which wrong label each image is pushed to."""

import torch

from blindspots.attacks.chunks import NEAREST
from blindspots.randomness import random_wrong_labels

RULES = ("random", "runner_up", NEAREST, "given", "untargeted")


def choose_targets(rule, logits, labels, indices, *, seed, base, given=None):
    """Choose a wrong label for each image.

    Parameters
    ----------
    rule : str
        ``random``: uniform over the wrong labels, drawn per image index (the paper's tables);
        ``runner_up``: the largest wrong logit of the clean image; ``given``: by ``given``;
        ``nearest``: every wrong label is to be tried; ``untargeted``: any will do.
    logits : torch.Tensor, shape (B, C)
        Of the clean images.
    labels : torch.Tensor of int64, shape (B,)
    indices : ndarray of int64, shape (B,)
        Positions of the images in their base set.
    seed : int
    base : str
        Name of the base set.
    given : sequence of int, optional
        The target for each true label, for ``given``.

    Returns
    -------
    torch.Tensor of int64, shape (B,); ``"nearest"``; or None for untargeted
        What an attack takes as ``targets``.

    Raises
    ------
    ValueError
        If the rule is unknown or ``given`` does not name a wrong label for each label.
    """
    if rule == "random":
        classes = logits.shape[1]
        drawn = random_wrong_labels(labels.cpu().numpy(), indices, classes, base, seed)
        return torch.from_numpy(drawn).to(labels.device)
    if rule == "runner_up":
        return logits.scatter(1, labels[:, None], -torch.inf).argmax(1)
    if rule == NEAREST:
        return NEAREST
    if rule == "untargeted":
        return None
    if rule == "given":
        classes = logits.shape[1]
        if given is None or len(given) != classes:
            raise ValueError(f"given targets must list one label for each of the {classes} classes")
        if any(not 0 <= t < classes or t == own for own, t in enumerate(given)):
            raise ValueError("each given target must be another class")
        return torch.tensor(given, device=labels.device)[labels]
    raise ValueError(f"unknown target rule {rule!r}; known: {', '.join(RULES)}")
