"""The minimum-distortion attack of Szegedy et al. 2013 (arXiv 1312.6199), section 4.1, batched.

Minimise ``c ||r||^2 + loss(x + r)`` over the box with L-BFGS and search for the largest ``c``
whose minimiser still fools the model. (The paper says "minimum c"; with c on the norm it is the
largest that still succeeds. The square replaces the norm, which has no gradient at r = 0.)
Every image has its own history, step length, stopping test and c; all are computed together.
"""

import math

import torch

from blindspots.attacks import ddn
from blindspots.attacks.chunks import attack_in_chunks, check_options
from blindspots.attacks.objective import SUCCESS_MARGIN
from blindspots.attacks.polish import polish
from blindspots.optim.lbfgsb import BoxedDescent

TOLERANCE = 1e-2  # projected gradient, relative to the pull of the norm, at which a c is settled
START_STEPS, MANY_START_STEPS = 15, 20  # of the DDN start, for ten classes, and in units of more
START_GAMMA = 0.1  # of the DDN start: coarse, since it is not the end
SMALLEST_C, LARGEST_C = 1e-12, 1e12  # whose products with distances stay in the range
# Where the search has failed: at least so many, and c is lowered faster.
RESCUE_EVALUATIONS, RESCUE_INNER_EVALUATIONS = 6, 4


def lbfgs(
    model,
    images,
    labels,
    *,
    targets=None,
    start_steps=None,
    evaluations=3,
    inner_evaluations=4,
    pairs=3,
    polish_steps=10,
    cut_steps=80,
    competitors=9,
    chunk=1000,
):
    """Find the smallest perturbation that changes the answer of a model, for each image.

    Parameters
    ----------
    model : torch.nn.Module
        Maps images in [0, 1] to logits.
    images : torch.Tensor of float32, shape (B, ...)
        In [0, 1].
    labels : torch.Tensor of int64, shape (B,)
    targets : torch.Tensor of int64 of shape (B,), "nearest" or None
        The wrong label to reach; ``"nearest"``: every wrong label is tried and the closest kept;
        None: untargeted.
    start_steps : int, optional
        Steps of DDN to start from; 0 to start from the image itself; None: 15 for ten classes or
        fewer, of more with the square root of their number (200 for a thousand).
    evaluations : int
        Forward and backward passes of the search on c; an image that has not succeeded by then
        gets as many again, and no fewer than six, with a far lower c, and once more from a mid-grey
        start.
    inner_evaluations : int
        The most passes before c is changed.
    pairs : int
        Length of the L-BFGS history.
    polish_steps : int
        Exact projections onto the linearised margins at the end.
    cut_steps : int
        Cutting planes where these projections do not settle, because the boundary has kinks.
    competitors : int
        Competing classes that these take into account.
    chunk : int
        The most images computed together; bounds the memory. On a CPU, fewer where layers are
        large.

    Returns
    -------
    AdversarialResult

    Raises
    ------
    ValueError
        If images, labels, targets or an option are out of range.
    """
    check_options(
        evaluations=evaluations,
        inner_evaluations=inner_evaluations,
        pairs=pairs,
        polish_steps=polish_steps,
        competitors=competitors,
    )
    check_options(least=0, start_steps=start_steps or 0, cut_steps=cut_steps)

    def solve(objective, origin):
        steps = start_steps_for(objective.classes) if start_steps is None else start_steps
        start, distance = ddn.search(objective, origin, steps, START_GAMMA, None)
        best, distance = _search(
            objective, origin, start, distance, evaluations, inner_evaluations, pairs
        )
        used = torch.full_like(distance, steps + evaluations + 1, dtype=torch.int64)
        rescue = max(evaluations, RESCUE_EVALUATIONS)
        # Where that failed: with c far lower, then from mid-grey too, out of a flat region.
        for start in (origin, torch.full_like(origin, 0.5)):
            missed = torch.isinf(distance).nonzero()[:, 0]
            if not len(missed):
                break
            best[missed], distance[missed] = _search(
                objective.select(missed),
                origin[missed],
                start[missed],
                distance[missed],
                rescue,
                RESCUE_INNER_EVALUATIONS,
                pairs,
                factor=1e-3,
            )
            used[missed] += rescue + 1
        best, distance, residual, polishing = polish(
            objective,
            origin,
            best,
            distance,
            steps=polish_steps,
            cut_steps=cut_steps,
            competitors=competitors,
        )
        return best, distance, residual, used + polishing

    return attack_in_chunks(solve, model, images, labels, targets, chunk)


def start_steps_for(classes):
    """Return the steps of DDN to start from where none are given."""
    return round(MANY_START_STEPS * math.sqrt(classes / 10)) if classes > 10 else START_STEPS


def _search(objective, origin, start, distance, evaluations, inner_evaluations, pairs, factor=1.0):
    """Search on c; return the shortest success of each row, and its length.

    Parameters
    ----------
    objective : blindspots.attacks.objective.Objective
    origin, start : torch.Tensor, shape (B, n)
    distance : torch.Tensor, shape (B,)
        Length of start - origin where the start is a success, infinite elsewhere.
    evaluations, inner_evaluations, pairs
        As for `lbfgs`.
    factor : float
        Of the first c.
    """
    margins = []

    def loss(points):
        value, gradient, margin = objective.loss_and_margin(points)
        margins.append(margin)
        return value, gradient

    descent = BoxedDescent(
        loss, start, 0.0, 1.0, pairs=pairs, anchor=origin, weight=torch.zeros_like(distance)
    )
    margin = margins.pop()
    best, shortest = start.clone(), distance.square()
    steepness, length2 = descent.gradient.norm(dim=1), descent.square
    # A success needs this margin. At the boundary, |margin at x| = ||gradient|| ||r||.
    needed = 4 * SUCCESS_MARGIN * torch.maximum(margin.abs(), steepness * length2.sqrt())
    # The first c is that of the minimiser at the boundary, where the pull of the norm, 2 c r, and
    # the gradient of the loss cancel: a start that has succeeded is near there. From elsewhere, by
    # the linearised distance, where the loss pulls with about half the gradient of the margin.
    pull = -(descent.gradient * (start - origin)).sum(1)
    near = pull / (2 * length2.clamp_min(1e-30))
    far = steepness.square() / (4 * margin.abs().clamp_min(1e-12))
    c = torch.where(torch.isfinite(distance) & (near > 0), near, far)
    log_c = torch.log((factor * c).nan_to_num(1.0).clamp(SMALLEST_C, LARGEST_C))
    low = torch.full_like(log_c, -torch.inf)  # largest log c known to succeed
    high = torch.full_like(log_c, torch.inf)  # smallest log c known to fail
    low_margin, high_margin = torch.zeros_like(log_c), torch.zeros_like(log_c)
    inner = torch.zeros_like(log_c, dtype=torch.int64)
    fresh = torch.ones_like(log_c, dtype=torch.bool)

    for _ in range(evaluations):
        c = log_c.exp().clamp(SMALLEST_C, LARGEST_C)
        descent.weight = c
        descent.aim(fresh)
        settled = descent.reduced_norm <= TOLERANCE * 2 * c * descent.square.sqrt()
        accepted, stuck = descent.trial()
        inner += 1
        tried = margins.pop()
        shorter = (tried > needed) & (descent.tried_square < shortest)
        best.lerp_(descent.tried, shorter.to(best.dtype)[:, None])
        shortest = torch.where(shorter, descent.tried_square, shortest)
        margin = torch.where(accepted, tried, margin)

        change = settled | stuck | (inner >= inner_evaluations)
        worked = margin > needed
        low = torch.where(change & worked, log_c, low)
        low_margin = torch.where(change & worked, margin, low_margin)
        high = torch.where(change & ~worked, log_c, high)
        high_margin = torch.where(change & ~worked, margin, high_margin)
        log_c = torch.where(change, _next_log_c(low, low_margin, high, high_margin), log_c)
        inner = torch.where(change, 0, inner)
        fresh = accepted | change
    return best, shortest.sqrt()


def _next_log_c(low, low_margin, high, high_margin):
    """Return the next log c: inside a bracket by the margin's root, outside by a factor."""
    bracketed = torch.isfinite(low) & torch.isfinite(high)
    share = (low_margin / (low_margin - high_margin).clamp_min(1e-30)).clamp(0.1, 0.9)
    between = low + share * (high - low)
    outside = torch.where(torch.isfinite(low), low + math.log(4), high - math.log(6))
    return torch.where(bracketed, between, outside)
