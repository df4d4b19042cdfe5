"""One model attacked."""

import torch

from blindspots.attacks.chunks import NEAREST, check_options
from blindspots.attacks.methods import method as method_of
from blindspots.attacks.pool import attacked, right_answers
from blindspots.attacks.result import concatenate
from blindspots.attacks.targets import choose_targets
from blindspots.chunk import chunk_for
from blindspots.notebook.inputs import as_images, as_labels, device_of, refuse_other_classes

DRAWN = ("random", "runner_up", NEAREST)
BASE = "test"  # the base set whose images a workflow would draw the same targets and noise for


def attack(model, images, labels, *, method="lbfgs", targets=None, seed=0, chunk=None, **options):
    """Find a small perturbation of each image that changes the answer of a model.

    Parameters
    ----------
    model : torch.nn.Module or callable
        Maps images in [0, 1], (N, C, H, W), to logits (N, C). It may have any device; images go
        there. What is not normalised inside goes through `blindspots.normalized`.
    images : array-like, shape (N, C, H, W) or (N, H, W)
        Floating-point numbers in [0, 1], or uint8, which is divided by 255; (N, H, W) becomes
        (N, 1, H, W).
    labels : array-like of int, shape (N,)
        The true classes.
    method : str or callable
        ``"lbfgs"``, ``"ddn"``, ``"best_of"``; an attack of another library, as
        ``"adv-lib:<function>"`` or ``"foolbox:<class>"``; or a function
        ``(model, images, labels, targets, **options)`` of your own that returns images, which are
        judged by the model's answers.
    targets : array-like of int of shape (N,), str or None
        The wrong label to reach; ``"random"``: drawn for each image; ``"runner_up"``: the second
        answer to the clean image; ``"nearest"``: each is tried, and the closest kept; None: any.
    seed : int
        Of random targets. A workflow draws the same for the first N images of its test set.
    chunk : int, optional
        The most images computed together; bounds the memory. Unless given it is a workflow's: 1000
        on a CPU, 64000 on a GPU, and fewer of large images.
    **options
        Of the method, such as ``steps=50`` of ``"ddn"``: see `blindspots.attacks`.

    Returns
    -------
    blindspots.attacks.result.AdversarialResult
        ``images``, ``success``, ``rms``, ``targets`` and more, a row for each image. An image that
        the model gets wrong already is attacked like all others.

    Raises
    ------
    ValueError
        If an argument or the model is not what it should be, in one sentence.

    Examples
    --------
    >>> result = bs.attack(model, images, labels, method="ddn", targets="random", steps=300)
    >>> result.images[result.success]
    """
    engine = method_of(method)
    images = as_images(images, device_of(model))
    labels = as_labels("labels", labels, len(images), images.device)
    targets = checked_targets(targets, images)
    chunk = chunk_for(images.shape[1:], images.device.type) if chunk is None else chunk
    check_options(chunk=chunk)
    check_options(least=0, seed=seed)
    if isinstance(targets, str) and targets != NEAREST:
        logits, _ = right_answers(model, images, labels, chunk)
        refuse_other_classes("labels", labels, logits.shape[1])
        targets = chosen_targets(targets, logits, labels, range(len(images)), seed)
    results = attacked(engine, model, images, labels, targets, chunk, options)
    return concatenate([result for _, result in results])


def checked_targets(targets, images):
    """Return what a person gives as targets: None, a tensor on the device of images, or a word.

    Raises
    ------
    ValueError
        If it is something else.
    """
    if isinstance(targets, str):
        if targets not in DRAWN:
            known = ", ".join(map(repr, DRAWN))
            raise ValueError(f"targets must be labels, None or one of {known}, not {targets!r}")
        return targets
    if targets is None:
        return None
    return as_labels("targets", targets, len(images), images.device)


def chosen_targets(targets, logits, labels, indices, seed):
    """Return what an attack takes as targets for the images at some positions.

    Parameters
    ----------
    targets
        As `checked_targets` returns it; a tensor is of these images alone.
    logits : torch.Tensor, shape (B, C)
    labels : torch.Tensor of int64, shape (B,)
    indices : sequence of int, shape (B,)
    seed : int
    """
    if targets is None or isinstance(targets, torch.Tensor):
        return targets
    return choose_targets(targets, logits, labels, indices, seed=seed, base=BASE)
