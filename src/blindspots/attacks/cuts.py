"""Cutting planes: smallest perturbations where the decision boundary has kinks."""

import math

import torch

from blindspots.attacks.objective import has_margin
from blindspots.attacks.projection import dot, moved, projection_multipliers

CUTS = 10  # linearisations that are kept
FIRST_SLACK, LAST_SLACK = 0.3, 1e-3  # aimed beyond each cut, relative to ||gradient|| ||r||
FIRST_NOISE = 1.5  # length of the noise, relative to ||r||; it falls to 0 along a line
NOISY = 0.5  # share of the steps that have noise


def cutting_planes(objective, origin, start, distance, steps):
    """Shorten perturbations by projecting onto the linearisations met on the way.

    One linearisation says little where the margin is piecewise linear (networks of ReLUs, max
    pooling). The last few together bound the region of success from several sides: the origin is
    projected onto all of them at once, a bundle method (Kelley 1960, "The cutting-plane method for
    solving convex programs", with the distance as a strictly convex objective). It aims beyond the
    cuts by a slack that shrinks, so that successes are met on the way.

    At first the linearisations are taken at points with noise, which fades: together they tell
    what the region is like around a point, and the pieces of a single kink do not hold the walk up
    (gradient sampling: Burke, Lewis & Overton 2005, SIAM J. Optim. 15:751; randomized smoothing:
    Duchi, Bartlett & Wainwright 2012, arXiv 1103.4296). All rows share the noise, so that what is
    found for an image does not depend on which others are attacked with it.

    Parameters
    ----------
    objective : blindspots.attacks.objective.Objective
    origin, start : torch.Tensor, shape (B, n)
    distance : torch.Tensor, shape (B,)
        Length of start - origin where the start is a success, infinite elsewhere.
    steps : int
        Gradients computed.

    Returns
    -------
    best : torch.Tensor, shape (B, n)
    distance : torch.Tensor, shape (B,)
    """
    rows, size = origin.shape
    gradients = origin.new_zeros(rows, CUTS, size)
    bounds = origin.new_zeros(rows, CUTS)
    multipliers = origin.new_zeros(rows, CUTS)
    norms = origin.new_zeros(rows, CUTS)
    memory = torch.empty_like(gradients).view(-1)
    best, point = start, start
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        margin, gradient, _ = objective.margins_and_gradients(point, 1)
        perturbation = point - origin
        length = perturbation.norm(dim=1)
        able = has_margin(margin, gradient, length)[:, 0]
        shorter = able & (length < distance * (1 - 0.1 * LAST_SLACK))
        best = torch.where(shorter[:, None], point, best)
        distance = torch.where(shorter, length, distance)
        slot = step % CUTS
        gradients[:, slot] = gradient[:, 0]
        norms[:, slot] = gradient[:, 0].norm(dim=1)
        bounds[:, slot] = (dot(perturbation, gradient) - margin)[:, 0]
        multipliers[:, slot] = 0
        void = ~(norms[:, slot] + bounds[:, slot]).isfinite()
        if bool(void.any()):  # a gradient that is not a number cuts nothing off
            objective.careful = True
            for part in (gradients, norms, bounds):
                part[void, slot] = 0
        share = step / max(steps - 1, 1)
        slack = FIRST_SLACK * (LAST_SLACK / FIRST_SLACK) ** share
        scale = torch.where(distance.isfinite(), distance, length.nan_to_num(1.0))[:, None]
        aims = bounds + slack * norms * scale
        multipliers = projection_multipliers(
            origin, gradients, aims, multipliers if step else None, memory
        )
        point = moved(origin, gradients, multipliers)
        loudness = FIRST_NOISE * (1 - step / (NOISY * steps))
        if loudness > 0:
            noise = torch.randn(size, generator=generator).to(origin) / math.sqrt(size)
            point = point.addcmul_(scale, noise, value=loudness).clamp_(0, 1)
    return best, distance
