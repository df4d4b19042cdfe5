"""What every attack shares: input checks, chunks of constant size, targets, results."""

import itertools
import math
import numbers
from dataclasses import replace

import torch

from blindspots.attacks.objective import Objective
from blindspots.attacks.result import AdversarialResult, closer, concatenate, pick
from blindspots.models.admission import admit
from blindspots.models.state import frozen

NEAREST = "nearest"
# Of what the layers return, for the images that are computed together on a CPU: with more, a pass
# waits for memory that is not in the cache, or that the operating system has to clear first.
BATCH_BYTES = 2**25
# What a forward and backward pass take in units of what is kept in between, and an attack's buffers
# in units of an image; of both on a CPU, and on a GPU as a share of its memory: four jobs fit.
KEPT, VECTORS, WORKING_BYTES, GPU_SHARE = 3, 80, 2**31, 1 / 8


def attack_in_chunks(solve, model, images, labels, targets, chunk):
    """Run an attack over chunks of images and assemble the result.

    The model is looked at before (`blindspots.models.admission.admit`), and what the attack takes
    for a success is judged by two passes more, one of them beside other images: what is none there
    is a failure.

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

    Raises
    ------
    ValueError
        If images, labels, targets or chunk are out of range, or the model is refused.
    """
    with frozen(model):
        images, labels, targets = _checked(images, labels, targets, chunk)
        return _in_chunks(solve, model, images, labels, targets, chunk)


def classes_of(model, images, labels, targets, chunk):
    """Return the number of classes of a model, after the checks of `attack_in_chunks`."""
    with frozen(model):
        images, *_ = _checked(images, labels, targets, chunk)
        return admit(model, images).classes


def _plain(part, device):
    """Return a tensor on a device, one that gradients may be taken of."""
    part = part.detach().to(device)
    return part.clone() if part.is_inference() else part


def _in_chunks(solve, model, images, labels, targets, chunk):
    model = admit(model, images, gradients=True)
    _check_classes(model.classes, labels, targets)
    attack = _nearest if isinstance(targets, str) else _solve_chunk
    share, results = _share_of_a_batch(model, images), []
    for start in range(0, len(images), chunk):
        waiting = _slices(start, min(start + chunk, len(images)), share)
        while waiting:
            part, *waiting = waiting
            goal = targets[part] if isinstance(targets, torch.Tensor) else targets
            try:
                results.append(attack(solve, model, images[part], labels[part], goal))
                continue
            except torch.OutOfMemoryError:
                count = part.stop - part.start
                if count == 1:
                    raise
            torch.cuda.empty_cache()  # here, where what the attack held has been let go
            waiting = _slices(part.start, part.stop, 2 / count) + waiting
    return concatenate(results)


def _slices(first, last, share):
    """Return slices of even length, so that a batch is not filled by more than 1 / share images."""
    count = last - first
    batches = max(1, min(math.ceil(count * share), count))
    edges = [first + count * number // batches for number in range(batches + 1)]
    return [slice(*pair) for pair in itertools.pairwise(edges)]


def _share_of_a_batch(model, images):
    """Return which share of the images that may be computed together one image is.

    It takes `KEPT` times what the network keeps for its gradient, and `VECTORS` vectors of the
    attack, each as large as the image. On a CPU all that stays within `WORKING_BYTES`, whatever the
    chunk, and what the layers return for a batch within `BATCH_BYTES`. On a GPU the largest batch
    is the fastest, as long as it fits: it takes at most `GPU_SHARE` of all its memory, rounded down
    to a power of two. What other jobs take at the moment counts for nothing: it would change the
    last bits of a result.
    """
    if images.device.type not in ("cpu", "cuda"):
        return 0.0
    kept = max(model.bytes, model.bytes_for_gradient(images[:1]))
    size = KEPT * kept + VECTORS * images[0].nbytes
    if images.device.type == "cpu":
        return max(model.bytes / BATCH_BYTES, size / WORKING_BYTES)
    memory = torch.cuda.get_device_properties(images.device).total_memory
    return size / 2 ** math.floor(math.log2(GPU_SHARE * memory))


def _solve_chunk(solve, model, images, labels, targets):
    objective = Objective(model, images.shape[1:], labels, targets)
    flat = images.flatten(1)
    origin = flat.clone()
    objective.suit(origin)
    found = solve(objective, origin)
    if objective.trouble():
        found = solve(objective, origin)
    best, distance, residual, evaluations = found
    best = torch.where(torch.isfinite(distance)[:, None], best, flat).view_as(images)
    looked = best.clone()
    logits = model(looked)
    if not model.copies and not (torch.equal(origin, flat) and torch.equal(looked, best)):
        model.copies = True  # it writes into its input, though not at first sight
        return _solve_chunk(solve, model, images, labels, targets)
    others = model.beside_others(best)
    reference = (labels if targets is None else targets)[:, None]
    success = torch.isfinite(distance) & model.alike(logits, others)
    for answer in (logits, others):
        ahead = answer.gather(1, reference) - answer.scatter(1, reference, -torch.inf).amax(1, True)
        success &= (ahead < 0 if targets is None else ahead > 0)[:, 0]
    best = torch.where(success[:, None], best.flatten(1), flat)
    rms = (best - flat).norm(dim=1) / flat.shape[1] ** 0.5
    if targets is None:
        targets = torch.where(success, logits.scatter(1, reference, -torch.inf).argmax(1), -1)
    return AdversarialResult(
        images=best.view_as(images),
        success=success,
        rms=torch.where(success, rms, torch.nan),
        evaluations=evaluations,
        kkt_residual=torch.where(success, residual, torch.nan),
        targets=targets,
    )


def _nearest(solve, model, images, labels, _):
    """Attack with every wrong label and keep the closest success of each image."""
    kept, spent = None, 0
    for shift in range(1, model.classes):
        goal = (labels + shift) % model.classes
        result = _solve_chunk(solve, model, images, labels, goal)
        spent = spent + result.evaluations
        kept = result if kept is None else pick(closer(result, kept), result, kept)
    return replace(kept, evaluations=spent)


def check_options(least=1, **options):
    """Raise ValueError if an option is no whole number, or less than it may be."""
    for name, value in options.items():
        if not isinstance(value, numbers.Integral):
            raise ValueError(f"{name} must be a whole number, not {value!r}")
        if value < least:
            raise ValueError(f"{name} must be at least {least}, not {value}")


def _check_classes(classes, labels, targets):
    for name, wrong in (("labels", labels), ("targets", targets)):
        if isinstance(wrong, torch.Tensor) and bool(((wrong < 0) | (wrong >= classes)).any()):
            raise ValueError(f"{name} must lie in 0 to {classes - 1}, the classes of the model")


def _checked(images, labels, targets, chunk):
    """Return images, labels and targets on one device, or raise ValueError."""
    if not isinstance(images, torch.Tensor):
        raise ValueError(
            "images must be a float32 tensor with values in [0, 1], not "
            f"{type(images).__name__}; convert them with torch.as_tensor"
        )
    if images.dtype != torch.float32:
        hint = "images.float()" if images.is_floating_point() else "images.float() / 255"
        raise ValueError(
            f"images must be float32 with values in [0, 1], not {images.dtype}; give {hint}"
        )
    if images.ndim < 2 or images.numel() == 0:
        raise ValueError(
            "images must have shape (B, ...) with at least one image of at least one pixel, not "
            f"{tuple(images.shape)}"
        )
    if not bool(((images >= 0) & (images <= 1)).all()):
        raise ValueError("images must lie in [0, 1], without NaN")
    _check_labels("labels", labels, len(images))
    if isinstance(targets, str):
        if targets != NEAREST:
            raise ValueError(f"targets must be a tensor, {NEAREST!r} or None, not {targets!r}")
    elif targets is not None:
        _check_labels("targets", targets, len(images))
    images, labels = _plain(images, images.device), _plain(labels, images.device)
    if isinstance(targets, torch.Tensor):
        targets = _plain(targets, images.device)
        if bool((targets == labels).any()):
            raise ValueError("every target must differ from the label of its image")
    check_options(chunk=chunk)
    return images, labels, targets


def _check_labels(name, labels, count):
    """Raise ValueError unless these are int64 labels of so many images."""
    if not isinstance(labels, torch.Tensor):
        came = f"{type(labels).__name__}; convert them with torch.as_tensor"
    elif labels.dtype != torch.int64:
        came = f"{labels.dtype}; give {name}.long()"
    elif labels.shape != (count,):
        came = f"one of shape {tuple(labels.shape)}"
    else:
        return
    raise ValueError(f"{name} must be an int64 tensor of shape ({count},), not {came}")
