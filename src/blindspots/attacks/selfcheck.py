"""Check of an engine where the exact answer is known: a linear softmax in the box."""

import logging

import torch
from torch import nn

from blindspots.attacks.closed_form import closed_form_distances

LOG = logging.getLogger(__name__)
IMAGES, SIDE, CLASSES = 100, 8, 10
ALLOWED_EXCESS = 0.01  # mean distance above the optimum
CERTIFIED = 1e-3  # KKT residual
CERTIFIED_SHARE = 0.99  # of the successes
EXACT = "exact"
NOT_CERTIFIED = "within 1 % of the optimum, without certificate"
ABOVE = "above the optimum"
OUTSIDE = "left the box"
FAILED = "failed"


def linear_problem():
    """Return a linear softmax, images with saturated pixels, their labels, and exact distances.

    Returns
    -------
    model : torch.nn.Module
    images : torch.Tensor of float32, shape (B, 1, 8, 8)
    labels : torch.Tensor of int64, shape (B,)
    distances : torch.Tensor of float64, shape (B,)
        Smallest RMS distortion that changes the answer.
    """
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, CLASSES)).requires_grad_(False)
    model[1].weight.normal_(generator=generator)
    model[1].bias.zero_()
    images = (1.6 * torch.rand(IMAGES, 1, SIDE, SIDE, generator=generator) - 0.3).clamp(0, 1)
    labels = model(images).argmax(1)
    weight, bias = model[1].weight.double(), model[1].bias.double()
    distances = closed_form_distances(weight, bias, images.flatten(1).double(), labels)
    return model, images, labels, distances.amin(1)


def check(attack, options, device):
    """Compare an engine with the closed form, with all targets tried and untargeted.

    Parameters
    ----------
    attack : callable
        As `blindspots.attacks.engines.engine` returns it.
    options : dict
    device : torch.device

    Returns
    -------
    list of dict
        For each kind of targets: ``targets``, ``images``, ``failed``, ``mean_excess`` and
        ``worst_excess`` (distance / optimum - 1 over the successes), ``certified`` (share of the
        successes with a KKT residual below 1e-3) and ``verdict``. Where the engine raised, only
        ``targets`` and ``verdict``.
    """
    model, images, labels, exact = linear_problem()
    model, images, labels = (part.to(device) for part in (model, images, labels))
    lines = []
    for name, targets in (("nearest", "nearest"), ("untargeted", None)):
        try:
            result = attack(model, images, labels, targets=targets, **options)
        except (MemoryError, OSError, torch.OutOfMemoryError):
            raise  # the machine's failure, not the engine's: the next run tries again
        except Exception as error:  # of code of others, too: the table says it, the log where
            LOG.exception("%s targets", name)
            lines.append({"targets": name, "verdict": f"{FAILED}: {error}".splitlines()[0]})
            continue
        success = result.success.cpu()
        found = result.rms.cpu().double()[success]
        excess = found / exact[success] - 1
        inside = bool(((result.images >= 0) & (result.images <= 1)).all())
        certified = (result.kkt_residual.cpu()[success] < CERTIFIED).double().mean().item()
        mean = (found.mean() / exact[success].mean() - 1).item()
        lines.append(
            {
                "targets": name,
                "images": len(success),
                "failed": int((~success).sum()),
                "mean_excess": mean,
                "worst_excess": excess.max().item() if len(excess) else float("nan"),
                "certified": certified,
                "verdict": _verdict(bool(success.all()), inside, mean, certified),
            }
        )
    return lines


def _verdict(success, inside, excess, certified):
    if not inside:
        return OUTSIDE
    if not success:
        return FAILED
    if excess > ALLOWED_EXCESS:
        return ABOVE
    return EXACT if certified >= CERTIFIED_SHARE else NOT_CERTIFIED
