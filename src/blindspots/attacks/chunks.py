"""What every attack shares: input checks, chunks of constant size, targets, results."""

import itertools
import math
from contextlib import contextmanager
from dataclasses import replace

import torch

from blindspots.attacks.objective import Objective
from blindspots.attacks.result import AdversarialResult, closer, concatenate, pick

NEAREST = "nearest"
# Of what the layers return, for the images that are computed together on a CPU: with more, a pass
# waits for memory that is not in the cache, or that the operating system has to clear first.
BATCH_BYTES = 2**25
TF32_UNITS = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)


def attack_in_chunks(solve, model, images, labels, targets, chunk):
    """Run an attack over chunks of images and assemble the result.

    Parameters
    ----------
    solve : callable
        ``solve(objective, origin)`` with flat images (b, n) returns ``(best, distance, residual,
        evaluations)``: images (b, n), Euclidean distance (b,), infinite where it failed, KKT
        residual (b,) and passes (b,).
    model, images, labels, targets
        As for `blindspots.attacks.lbfgs.lbfgs`.
    chunk : int

    Returns
    -------
    AdversarialResult
    """
    with torch.inference_mode(False), torch.autocast(images.device.type, enabled=False):
        images, labels, targets = (
            _plain(part, images.device) for part in (images, labels, targets)
        )
        _check_inputs(images, labels, targets, chunk)
        return _in_chunks(solve, model, images, labels, targets, chunk)


def _plain(part, device):
    """Return a tensor on a device, one that gradients may be taken of; others as they are."""
    if not isinstance(part, torch.Tensor):
        return part
    part = part.detach().to(device)
    return part.clone() if part.is_inference() else part


def _in_chunks(solve, model, images, labels, targets, chunk):
    results = []
    with frozen(model):
        classes, size = _classes_and_bytes(model, images[:1].clone())
        _check_classes(classes, labels, targets)
        for start in range(0, len(images), chunk):
            for part in _batches(start, min(start + chunk, len(images)), size, images.device):
                if isinstance(targets, str):
                    results.append(_nearest(solve, model, images[part], labels[part]))
                else:
                    goal = None if targets is None else targets[part]
                    results.append(_solve_chunk(solve, model, images[part], labels[part], goal))
    return concatenate(results)


def _batches(first, last, size, device):
    """Return slices of even length, of so many images that a batch stays within `BATCH_BYTES`.

    On a CPU only: elsewhere the largest batch is the fastest.
    """
    count = last - first
    batches = math.ceil(count * size / BATCH_BYTES) if device.type == "cpu" else 1
    batches = max(1, min(batches, count))
    edges = [first + count * number // batches for number in range(batches + 1)]
    return [slice(*pair) for pair in itertools.pairwise(edges)]


def _classes_and_bytes(model, image):
    """Return the number of classes, and how many bytes all layers return for one image."""
    size = 0

    def count(module, inputs, output):
        nonlocal size
        if isinstance(output, torch.Tensor):
            size += output.nbytes

    layers = [module for module in model.modules() if not list(module.children())]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        classes = model(image).shape[1]
    finally:
        for hook in hooks:
            hook.remove()
    return classes, size


@contextmanager
def frozen(model):
    """Put a model into evaluation mode without gradients of its weights, and restore it after."""
    training = [module for module in model.modules() if module.training]
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    model.eval().requires_grad_(False)
    try:
        with torch.no_grad(), _precise():
            yield model
    finally:
        for module in training:
            module.training = True
        for parameter, want in zip(model.parameters(), wanted, strict=True):
            parameter.requires_grad_(want)


@contextmanager
def _precise():
    """Switch TF32 off, by which logits would move by more than the margins that successes keep."""
    before = [unit.fp32_precision for unit in TF32_UNITS]
    try:
        allowed = torch.backends.cudnn.allow_tf32
    except RuntimeError:  # someone has used the newer names alone
        allowed = None
    if allowed:  # both say the same, or torch refuses to read the older one
        torch.backends.cudnn.allow_tf32 = False
    for unit in TF32_UNITS:
        unit.fp32_precision = "ieee"
    try:
        yield
    finally:
        if allowed:
            torch.backends.cudnn.allow_tf32 = True
        for unit, precision in zip(TF32_UNITS, before, strict=True):
            unit.fp32_precision = precision


def _solve_chunk(solve, model, images, labels, targets):
    objective = Objective(model, images.shape[1:], labels, targets)
    origin = images.flatten(1)
    objective.suit(origin)
    best, distance, residual, evaluations = solve(objective, origin)
    success = torch.isfinite(distance)
    best = torch.where(success[:, None], best, origin)
    if targets is None:
        reached = objective.logits(best).scatter(1, labels[:, None], -torch.inf).argmax(1)
        targets = torch.where(success, reached, -1)
    rms = torch.where(success, distance / origin.shape[1] ** 0.5, torch.nan)
    return AdversarialResult(
        images=best.view_as(images),
        success=success,
        rms=rms,
        evaluations=evaluations,
        kkt_residual=torch.where(success, residual, torch.nan),
        targets=targets,
    )


def _nearest(solve, model, images, labels):
    """Attack with every wrong label and keep the closest success of each image."""
    classes = model(images[:1].clone()).shape[1]
    kept, spent = None, 0
    for shift in range(1, classes):
        result = _solve_chunk(solve, model, images, labels, (labels + shift) % classes)
        spent = spent + result.evaluations
        kept = result if kept is None else pick(closer(result, kept), result, kept)
    return replace(kept, evaluations=spent)


def check_options(least=1, **options):
    """Raise ValueError if an option is less than it may be."""
    for name, value in options.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, not {value}")


def _check_classes(classes, labels, targets):
    if classes < 2:
        raise ValueError("the model must have at least two classes")
    for name, wrong in (("labels", labels), ("targets", targets)):
        if isinstance(wrong, torch.Tensor) and bool(((wrong < 0) | (wrong >= classes)).any()):
            raise ValueError(f"{name} must lie in 0 to {classes - 1}, the classes of the model")


def _check_inputs(images, labels, targets, chunk):
    if not images.is_floating_point() or images.dtype != torch.float32:
        raise ValueError(f"images must be float32, not {images.dtype}")
    if images.ndim < 2 or len(images) == 0:
        raise ValueError(f"images must have shape (B, ...) with B >= 1, not {tuple(images.shape)}")
    if not bool(((images >= 0) & (images <= 1)).all()):
        raise ValueError("images must lie in [0, 1], without NaN")
    if labels.shape != (len(images),) or labels.dtype != torch.int64:
        raise ValueError("labels must be int64 of shape (B,)")
    if isinstance(targets, str):
        if targets != NEAREST:
            raise ValueError(f"targets must be a tensor, {NEAREST!r} or None, not {targets!r}")
    elif targets is not None:
        if targets.shape != labels.shape or targets.dtype != torch.int64:
            raise ValueError("targets must be int64 of shape (B,)")
        if bool((targets == labels).any()):
            raise ValueError("every target must differ from the label of its image")
    check_options(chunk=chunk)
