"""Decoupled direction and norm (Rony et al. 2019, arXiv 1811.09600), batched.

Gradient steps on the direction of the perturbation, whose norm is multiplied by 1 - gamma after a
success and by 1 + gamma after a failure. Other than as published, nothing is rounded to grey
levels; the norm starts at the linearised distance, |margin| / ||gradient||, of each image; gamma
falls with the length of the steps; and towards a target the margin is climbed, not its probability.
"""

import math

import torch

from blindspots.attacks.chunks import attack_in_chunks, check_options
from blindspots.attacks.objective import SUCCESS_MARGIN
from blindspots.attacks.polish import certificate, polish
from blindspots.optim.replay import put_rows, repeat

SHORTEST = 1e-12  # of perturbations: shorter ones are lengthened as if they were as long
# Length of the last gradient step; the first is 1, along a cosine between them.
LAST_STEP = 0.01
LONGEST_START = 0.1  # share of the way across the box: flat margins promise too much
UNSETTLED = 1.5  # times gamma, until a row has both succeeded and failed
LAST_GAMMA = 0.05  # share of gamma that is left at the last step, along the same cosine


def ddn(
    model,
    images,
    labels,
    *,
    targets=None,
    steps=100,
    gamma=0.05,
    init_norm=None,
    polish_steps=0,
    cut_steps=0,
    competitors=9,
    chunk=1000,
):
    """Find a small perturbation that changes the answer of a model, for each image.

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
    steps : int
        Gradient steps.
    gamma : float
        Relative change of the norm after the first step, in (0, 1); after the last, a twentieth.
    init_norm : float, optional
        First Euclidean norm, in units of the pixel range; None: the linearised distance of each
        image.
    polish_steps : int
        Exact projections onto the linearised margins at the end. Without any, the result is only
        pulled back along its own direction.
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
    check_options(steps=steps, competitors=competitors)
    check_options(least=0, polish_steps=polish_steps, cut_steps=cut_steps)
    if not 0 < gamma < 1:
        raise ValueError(f"gamma must lie between 0 and 1, not {gamma}")
    if init_norm is not None and not 0 < init_norm < math.inf:
        raise ValueError(f"init_norm must be positive and finite, not {init_norm}")

    def solve(objective, origin):
        best, distance = search(objective, origin, steps, gamma, init_norm)
        if polish_steps == 0 and cut_steps == 0:
            best, distance = _pulled_back(objective, origin, best, distance)
            residual, used = certificate(objective, origin, best, competitors)
            return best, distance, residual, steps + 1 + used
        best, distance, residual, used = polish(
            objective,
            origin,
            best,
            distance,
            steps=polish_steps,
            cut_steps=cut_steps,
            competitors=competitors,
        )
        return best, distance, residual, steps + used

    return attack_in_chunks(solve, model, images, labels, targets, chunk)


def search(objective, origin, steps, gamma, init_norm):
    """Return the shortest success of each row, and its length, infinite where there is none.

    Parameters
    ----------
    objective : blindspots.attacks.objective.Objective
    origin : torch.Tensor, shape (B, n)
    steps, gamma, init_norm
        As for `ddn`.

    Returns
    -------
    best : torch.Tensor, shape (B, n)
    distance : torch.Tensor, shape (B,)
    """
    farthest = torch.maximum(origin, 1 - origin).norm(dim=1)
    grey = 0.5 - origin  # where there is no gradient, the way out
    sizes, changes = _schedules(steps, origin)

    def go_on(gradient, margin, perturbation, best, distance, norm, missed, step):
        # In place from here: a pass over the pixels takes a tenth of what the network does.
        steepness, length = gradient.norm(dim=1), perturbation.norm(dim=1)
        # Near the boundary the margin is up to four times as steep as the loss. A gradient that is
        # no number says nothing about a margin that is one.
        success = margin > ((4 * SUCCESS_MARGIN) * (steepness * length)).nan_to_num_(0.0)
        shorter = success & (length < distance)
        put_rows(best, shorter, perturbation)
        distance = torch.where(shorter, length, distance)
        lost = ~((steepness > 0) & steepness.isfinite())
        if norm is None:
            norm = _first_norm(init_norm, margin, steepness, farthest)
            missed = torch.zeros_like(lost)
        else:
            missed = missed | ~success
        if objective.in_trouble(lost):
            # Before a success towards mid-grey; after one along the perturbation itself.
            away = torch.where(success[:, None], perturbation, grey)
            gradient = torch.where(lost[:, None], -away, gradient)
            steepness = torch.where(lost, away.norm(dim=1).clamp_min(SHORTEST), steepness)
        length = steepness.reciprocal() * -sizes.index_select(0, step)
        perturbation.addcmul_(gradient, length[:, None])
        # Larger until a row has succeeded and failed: until then little is known of its distance.
        settled = (missed & distance.isfinite()).to(norm.dtype)
        change = gamma * (UNSETTLED + changes.index_select(0, step) * settled)
        factor = 1 + torch.where(success, -change, change)
        norm = torch.minimum(factor.mul_(norm), farthest)
        scale = norm / perturbation.norm(dim=1).clamp_min_(SHORTEST)
        point = torch.addcmul(origin, perturbation, scale[:, None], out=perturbation).clamp_(0, 1)
        return point, best, distance, norm, missed, step + 1

    def next_step(point, *state):
        gradient, margin = objective.gradient_and_margin(point)
        return go_on(gradient, margin, point.sub_(origin), *state)

    best, distance = torch.zeros_like(origin), torch.full_like(farthest, torch.inf)
    if not steps:
        return origin.clone(), distance
    step = torch.zeros(1, dtype=torch.int64, device=origin.device)
    gradient, margin = objective.clean or objective.gradient_and_margin(origin)
    state = go_on(gradient, margin, torch.zeros_like(origin), best, distance, None, None, step)
    _, best, distance, *_ = repeat(next_step, state, steps - 1)
    return best.add_(origin).clamp_(0, 1), distance


def _schedules(steps, like):
    """Return for each step the length of the gradient step, and by how much gamma has changed.

    The latter is the share of gamma where a row is settled, less `UNSETTLED`.
    """
    cosines = [(1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps)]
    sizes = [LAST_STEP + (1 - LAST_STEP) * cosine for cosine in cosines]
    changes = [LAST_GAMMA + (1 - LAST_GAMMA) * cosine - UNSETTLED for cosine in cosines]
    return like.new_tensor(sizes), like.new_tensor(changes)


def _first_norm(init_norm, margin, steepness, farthest):
    """Return the first norm of each row: the linearised distance, where none is given."""
    if init_norm is not None:
        return torch.full_like(margin, init_norm)
    linearised = (margin.abs() / steepness).nan_to_num(torch.inf)
    return torch.minimum(linearised, LONGEST_START * farthest)


def _pulled_back(objective, origin, best, distance):
    """Shorten successes along their own direction to where the margin is almost used up.

    The norm of DDN moves by factors of 1 - gamma, so that its successes lie a little inside.
    """
    margin, gradient, _ = objective.margins_and_gradients(best, 1)
    margin, gradient = margin[:, 0], gradient[:, 0]
    perturbation = best - origin
    slope = (gradient * perturbation).sum(1)
    needed = 4 * SUCCESS_MARGIN * gradient.norm(dim=1) * distance
    found = distance.isfinite()
    # Where along the perturbation the margin would be what is needed: tangent, then secant.
    share = 1 - (margin - needed) / slope.clamp_min(1e-30)
    for _ in range(2):
        share = torch.where(found & (share > 0) & (share < 1), share, 1.0)
        point = torch.addcmul(origin, perturbation, share[:, None]).clamp_(0, 1)
        reached = objective.margins(point)[:, 0]
        shorter = (reached >= needed) & (share < 1)
        best = torch.where(shorter[:, None], point, best)
        distance = torch.where(shorter, (point - origin).norm(dim=1), distance)
        steps = (margin - needed) / (margin - reached).clamp_min(1e-30)
        share = 1 - (1 - share) * (0.98 * steps)
    return best, distance
