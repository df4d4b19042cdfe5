"""The minimum-distortion attack of Szegedy et al. 2013 (arXiv 1312.6199), section 4.1, batched.

Minimise ``c ||r||^2 + loss(x + r)`` over the box with L-BFGS and search for the largest ``c``
whose minimiser still fools the model. (The paper says "minimum c"; with c on the norm it is the
largest that still succeeds. The square replaces the norm, which has no gradient at r = 0.)
Every image has its own history, step length, stopping test and c; all are computed together.
"""

import math

import torch

from blindspots.attacks.chunks import attack_in_chunks
from blindspots.attacks.objective import SUCCESS_MARGIN
from blindspots.attacks.projection import polish
from blindspots.optim.lbfgs_memory import CurvatureMemory

ARMIJO = 1e-4
RESCUE_INNER_EVALUATIONS = 4  # where the search failed, c is lowered faster
TOLERANCE = 1e-2  # projected gradient, relative to the pull of the norm, at which a c is settled


def lbfgs(
    model,
    images,
    labels,
    *,
    targets=None,
    evaluations=30,
    inner_evaluations=10,
    pairs=6,
    polish_steps=6,
    competitors=9,
    chunk=500,
):
    """Find the smallest perturbation that changes the answer of a model, for each image.

    Parameters
    ----------
    model : torch.nn.Module
        Maps images in [0, 1] to logits, in the shape that it is given.
    images : torch.Tensor of float32, shape (B, ...)
        In [0, 1].
    labels : torch.Tensor of int64, shape (B,)
    targets : torch.Tensor of int64 of shape (B,), "nearest" or None
        The wrong label to reach; ``"nearest"``: every wrong label is tried and the closest kept;
        None: untargeted.
    evaluations : int
        Forward and backward passes of the search on c; an image that has not succeeded by then
        gets as many again with a far lower c, and once more from a mid-grey start.
    inner_evaluations : int
        The most passes before c is changed.
    pairs : int
        Length of the L-BFGS history.
    polish_steps : int
        Exact projections onto the linearised margins at the end.
    competitors : int
        Competing classes that these take into account.
    chunk : int
        Images computed together; bounds the memory.

    Returns
    -------
    AdversarialResult

    Raises
    ------
    ValueError
        If images, labels, targets or an option are out of range.
    """
    options = {
        "evaluations": evaluations,
        "inner_evaluations": inner_evaluations,
        "pairs": pairs,
        "polish_steps": polish_steps,
        "competitors": competitors,
    }
    for name, value in options.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")

    def solve(objective, origin):
        best, distance, used = _search(
            objective, origin, origin, evaluations, inner_evaluations, pairs
        )
        # Where that failed: with c far lower, then from mid-grey too, out of a flat region.
        for start in (origin, torch.full_like(origin, 0.5)):
            missed = torch.isinf(distance).nonzero()[:, 0]
            if not len(missed):
                break
            best[missed], distance[missed], extra = _search(
                objective.select(missed),
                origin[missed],
                start[missed],
                evaluations,
                RESCUE_INNER_EVALUATIONS,
                pairs,
                start_factor=1e-3,
            )
            used[missed] += extra
        best, distance, residual, polishing = polish(
            objective,
            origin,
            best,
            torch.isfinite(distance),
            steps=polish_steps,
            competitors=competitors,
        )
        return best, distance, residual, used + polishing

    return attack_in_chunks(solve, model, images, labels, targets, chunk)


def _search(objective, origin, start, evaluations, inner_evaluations, pairs, start_factor=1.0):
    """Search on c; return the shortest success of each row, its length and the passes spent."""
    rows, size = origin.shape
    point = start.clone()
    loss, gradient, margin = objective.loss_and_margin(point)
    # The margin must exceed this to count; at the boundary |margin at x| = ||gradient|| ||r||.
    needed = 4 * SUCCESS_MARGIN * margin.abs()
    best, best_length = origin.clone(), origin.new_full((rows,), torch.inf)
    # c from the linearised distance to the boundary, where the loss pulls with about half the
    # gradient of the margin: 2 c ||r|| = ||g|| / 2 with ||r|| = -margin / ||g||.
    steepness = gradient.norm(dim=1)
    log_c = torch.log(start_factor * steepness**2 / (4 * margin.abs().clamp_min(1e-12)) + 1e-30)
    low = origin.new_full((rows,), -torch.inf)  # largest log c known to succeed
    high = origin.new_full((rows,), torch.inf)  # smallest log c known to fail
    low_margin, high_margin = torch.zeros_like(log_c), torch.zeros_like(log_c)
    memory = CurvatureMemory(rows, size, pairs, origin)
    step_length = torch.ones_like(log_c)
    inner = torch.zeros(rows, dtype=torch.int64, device=origin.device)
    length2 = (point - origin).square().sum(1)
    total = gradient + (2 * log_c.exp())[:, None] * (point - origin)
    direction = -total / (2 * log_c.exp())[:, None]

    for _ in range(evaluations):
        c = log_c.exp()
        trial = (point + step_length[:, None] * direction).clamp(0, 1)
        moved = trial - point
        trial_loss, trial_gradient, trial_margin = objective.loss_and_margin(trial)
        trial_length2 = (trial - origin).square().sum(1)
        shorter = (trial_margin > needed) & (trial_length2 < best_length)
        best = torch.where(shorter[:, None], trial, best)
        best_length = torch.where(shorter, trial_length2, best_length)
        inner += 1

        slope = (total * moved).sum(1)
        value = c * length2 + loss
        trial_value = c * trial_length2 + trial_loss
        accept = trial_value <= value + ARMIJO * slope + 1e-6 * value.abs()
        # Backtrack to the minimum of the parabola through what is known, within bounds.
        parabola = -slope / (2 * (trial_value - value - slope).clamp_min(1e-30))
        stuck = step_length * moved.abs().amax(1) < 1e-7
        step_length = torch.where(accept, 1.0, step_length * parabola.clamp(0.1, 0.5))

        memory.update(accept, moved, trial_gradient - gradient)
        keep = accept[:, None]
        point = torch.where(keep, trial, point)
        gradient = torch.where(keep, trial_gradient, gradient)
        loss = torch.where(accept, trial_loss, loss)
        margin = torch.where(accept, trial_margin, margin)
        length2 = torch.where(accept, trial_length2, length2)

        pull = (2 * c)[:, None] * (point - origin)
        total = gradient + pull
        free = ~(((point <= 0) & (total > 0)) | ((point >= 1) & (total < 0)))
        settled = (total * free).norm(dim=1) <= TOLERANCE * pull.norm(dim=1)
        change = (accept & settled) | (inner >= inner_evaluations) | (stuck & ~accept)
        worked = margin > needed
        low = torch.where(change & worked, log_c, low)
        low_margin = torch.where(change & worked, margin, low_margin)
        high = torch.where(change & ~worked, log_c, high)
        high_margin = torch.where(change & ~worked, margin, high_margin)
        log_c = torch.where(change, _next_log_c(low, low_margin, high, high_margin), log_c)
        inner = torch.where(change, 0, inner)

        c = log_c.exp()
        total = gradient + (2 * c)[:, None] * (point - origin)
        free = ~(((point <= 0) & (total > 0)) | ((point >= 1) & (total < 0)))
        reduced = total * free
        fresh = memory.direction(reduced, c) * free
        descends = (fresh * reduced).sum(1) < 0
        fresh = torch.where(descends[:, None], fresh, -reduced / (2 * c)[:, None])
        new_direction = accept | change
        direction = torch.where(new_direction[:, None], fresh, direction)
        step_length = torch.where(new_direction, 1.0, step_length)

    used = torch.full((rows,), evaluations + 1, dtype=torch.int64, device=origin.device)
    return best, best_length.sqrt(), used


def _next_log_c(low, low_margin, high, high_margin):
    """Return the next log c: inside a bracket by the margin's root, outside by a factor."""
    bracketed = torch.isfinite(low) & torch.isfinite(high)
    share = (low_margin / (low_margin - high_margin).clamp_min(1e-30)).clamp(0.1, 0.9)
    between = low + share * (high - low)
    outside = torch.where(torch.isfinite(low), low + math.log(4), high - math.log(6))
    return torch.where(bracketed, between, outside)
