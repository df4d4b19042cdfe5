"""A pool of images attacked: those that the model gets right, chunk by chunk."""

import torch

from blindspots.models.inference import answers_of, logits_of
from blindspots.seeding import seeded


def right_answers(model, images, labels, chunk, name="the model"):
    """Return the logits of all images, and which of them the model gets right.

    Parameters
    ----------
    model : torch.nn.Module or callable
    images : torch.Tensor of float32, shape (B, ...)
    labels : torch.Tensor of int64, shape (B,)
    chunk : int
    name : str
        What sentences call the model.

    Returns
    -------
    logits : torch.Tensor of float32, shape (B, C)
    right : torch.Tensor of bool, shape (B,)

    Raises
    ------
    blindspots.models.admission.ModelError
        If the model is refused (`blindspots.models.admission.admit`).
    """
    with seeded(0, images.device):  # the same in every part of a set
        logits = logits_of(model, images, chunk, name=name)
    return logits, answers_of(logits) == labels


def attacked(attack, model, images, labels, targets, chunk, options, start=0):
    """Attack a pool chunk by chunk, and yield the end and the result of each.

    Parameters
    ----------
    attack : callable
        One of `blindspots.attacks.methods.method`.
    model, images, labels, targets, chunk
        As for `blindspots.attacks.lbfgs.lbfgs`.
    options : dict
        Further keyword arguments of the attack.
    start : int
        The first image.

    Yields
    ------
    stop : int
        How many images have been attacked.
    result : blindspots.attacks.result.AdversarialResult
    """
    for first in range(start, len(images), chunk):
        part = slice(first, first + chunk)
        goal = targets[part] if isinstance(targets, torch.Tensor) else targets
        with seeded(0, images.device):  # the same in every part, and after an interruption
            result = attack(model, images[part], labels[part], targets=goal, chunk=chunk, **options)
        yield min(first + chunk, len(images)), result
