"""Cutting planes: smallest perturbations where the decision boundary has kinks."""

import math
from functools import partial

import torch

from blindspots.attacks.objective import has_margin
from blindspots.attacks.projection import dot, moved, projection_multipliers
from blindspots.optim.replay import repeat

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
    noisy = min(steps, math.ceil(NOISY * steps))  # steps that have noise
    slacks, loudness, noise = _schedules(steps, noisy, origin)
    memory = origin.new_empty(rows * CUTS * size)

    def cut(point, best, distance, gradients, bounds, norms, multipliers, step, noisy=False):
        margin, gradient, _ = objective.margins_and_gradients(point, 1)
        perturbation = point - origin
        length = perturbation.norm(dim=1)
        able = has_margin(margin, gradient, length)[:, 0]
        shorter = able & (length < distance * (1 - 0.1 * LAST_SLACK))
        best = torch.where(shorter[:, None], point, best)
        distance = torch.where(shorter, length, distance)
        norm, bound = gradient.norm(dim=2), dot(perturbation, gradient) - margin
        void = ~(norm + bound).isfinite()
        if objective.in_trouble(void):  # a gradient that is not a number cuts nothing off
            gradient = gradient.masked_fill(void[:, :, None], 0)
            norm, bound = norm.masked_fill(void, 0), bound.masked_fill(void, 0)
        slot = step % CUTS
        for kept, new in ((gradients, gradient), (norms, norm), (bounds, bound)):
            kept.index_copy_(1, slot, new)
        scale = torch.where(distance.isfinite(), distance, length.nan_to_num(1.0))[:, None]
        aims = bounds + slacks.index_select(0, step) * norms * scale
        if multipliers is not None:
            multipliers = multipliers.index_fill(1, slot, 0)
        multipliers = projection_multipliers(origin, gradients, aims, multipliers, memory)
        point = moved(origin, gradients, multipliers)
        if noisy:
            scale = scale * loudness.index_select(0, step)
            point = point.addcmul_(scale, noise.index_select(0, step)).clamp_(0, 1)
        return point, best, distance, gradients, bounds, norms, multipliers, step + 1

    gradients, bounds = origin.new_zeros(rows, CUTS, size), origin.new_zeros(rows, CUTS)
    step = torch.zeros(1, dtype=torch.int64, device=origin.device)
    state = start, start, distance, gradients, bounds, torch.zeros_like(bounds), None, step
    state = cut(*state, noisy=noisy > 0)
    state = repeat(partial(cut, noisy=True), state, noisy - 1)
    _, best, distance, *_ = repeat(cut, state, steps - max(noisy, 1))
    return best, distance


def _schedules(steps, noisy, like):
    """Return the slack (steps,), loudness (noisy,) and noise (noisy, n) of steps."""
    shares = [step / max(steps - 1, 1) for step in range(steps)]
    slacks = [FIRST_SLACK * (LAST_SLACK / FIRST_SLACK) ** share for share in shares]
    loudness = [FIRST_NOISE * (1 - step / (NOISY * steps)) for step in range(noisy)]
    generator, size = torch.Generator().manual_seed(0), like.shape[1]
    noise = torch.stack([torch.randn(size, generator=generator) for _ in range(noisy)])
    noise = noise.to(like) / math.sqrt(size)
    return like.new_tensor(slacks), like.new_tensor(loudness), noise
