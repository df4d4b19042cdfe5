"""Exact projection onto linearised margins in the box, and the first-order certificate."""

import torch

from blindspots.attacks.objective import SUCCESS_MARGIN, has_margin

# Margins up to this share of (gradient norm x perturbation length) count as binding.
BINDING = 1e-3


def polish(objective, origin, start, start_success, *, steps, competitors):
    """Walk along the decision boundary to a point where the first-order conditions hold.

    At each point the margins are linearised and the origin is projected, exactly, onto the
    images in the box that satisfy them. A fixed point satisfies the KKT conditions of the smallest
    perturbation. The shortest success seen is kept.

    Parameters
    ----------
    objective : Objective
    origin, start : torch.Tensor, shape (B, n)
        The images, and where to start from; in [0, 1].
    start_success : torch.Tensor of bool, shape (B,)
        Whether the start may be returned, if it has its margin.
    steps : int
        Number of projections.
    competitors : int
        Number of competing classes that are taken into account.

    Returns
    -------
    best : torch.Tensor, shape (B, n)
        The origin where no point had its margin.
    distance : torch.Tensor, shape (B,)
        Euclidean length of the perturbation; infinite where no point had its margin.
    residual : torch.Tensor, shape (B,)
        KKT residual of ``best``; NaN where no point had its margin.
    evaluations : int
    """
    best = origin.clone()
    distance = origin.new_full((len(origin),), torch.inf)
    multipliers = origin.new_zeros(len(origin), objective.logits(start[:1]).shape[1])
    point, evaluations = start, 0
    for step in range(steps + 1):
        margins, gradients, classes = objective.margins_and_gradients(point, competitors)
        evaluations += margins.shape[1]
        perturbation = point - origin
        length = perturbation.norm(dim=1)
        better = has_margin(margins, gradients, length) & (length < distance)
        if step == 0:
            better &= start_success
        best = torch.where(better[:, None], point, best)
        distance = torch.where(better, length, distance)
        if step < steps:
            # Twice the margin of a success, so that rounding does not eat it up.
            slack = 2 * SUCCESS_MARGIN * gradients.norm(dim=2) * length[:, None]
            along = torch.bmm(perturbation[:, None], gradients.transpose(1, 2))[:, 0]
            # The multipliers of the step before hold almost the right pixels already.
            found = _projection_multipliers(
                origin,
                gradients,
                slack - margins + along,
                multipliers.gather(1, classes),
                rounds=6 if step == 0 else 2,
            )
            multipliers = torch.zeros_like(multipliers).scatter(1, classes, found)
            point = _step(origin, gradients, found)
    margins, gradients, _ = objective.margins_and_gradients(best, competitors)
    residual = kkt_residual(margins, gradients, origin, best)
    residual = torch.where(torch.isfinite(distance), residual, torch.nan)
    return best, distance, residual, evaluations + margins.shape[1]


def kkt_residual(margins, gradients, origin, point):
    """Return how far points are from satisfying the first-order conditions.

    The minimum over multipliers l >= 0 of ||x' - clip(x + sum_j l_j grad m_j(x'))|| / ||x' - x||,
    over the margins j that bind.

    Parameters
    ----------
    margins : torch.Tensor, shape (B, K)
    gradients : torch.Tensor, shape (B, K, n)
    origin, point : torch.Tensor, shape (B, n)

    Returns
    -------
    torch.Tensor, shape (B,)
    """
    perturbation = point - origin
    length = perturbation.norm(dim=1)
    binding = margins <= BINDING * gradients.norm(dim=2) * length[:, None]
    active = gradients * binding[:, :, None]
    multipliers = torch.zeros_like(margins)
    for _ in range(6):
        moved = torch.bmm(multipliers[:, None], active)[:, 0]
        free = _free(origin, moved)
        reduced = active * free[:, None]
        gram = torch.bmm(reduced, reduced.transpose(1, 2))
        along = torch.bmm(perturbation[:, None], reduced.transpose(1, 2))[:, 0]
        multipliers = _nonnegative_solution(gram, along, multipliers)
    gap = point - _step(origin, active, multipliers)
    return gap.norm(dim=1) / length.clamp_min(1e-30)


def _projection_multipliers(origin, gradients, bounds, start, rounds):
    """Return l >= 0 such that clip(x + sum_j l_j a_j) is the projection onto a_j . r >= b_j.

    Newton's method on the dual: the pixels that the box stops are held, the multipliers of the
    rest solve a small non-negative problem, and so on until the stopped pixels no longer change.
    """
    multipliers = start
    for _ in range(rounds):
        moved = torch.bmm(multipliers[:, None], gradients)[:, 0]
        free = _free(origin, moved)
        held = torch.where(free, 0.0, (origin + moved).clamp(0, 1) - origin)
        reduced = gradients * free[:, None]
        gram = torch.bmm(reduced, reduced.transpose(1, 2))
        missing = bounds - torch.bmm(held[:, None], gradients.transpose(1, 2))[:, 0]
        multipliers = _nonnegative_solution(gram, missing, multipliers)
    return multipliers


def _free(origin, moved):
    """Tell which pixels the box does not stop; one that has not moved is free."""
    target = origin + moved
    return ((target > 0) & (target < 1)) | (moved == 0)


def _step(origin, gradients, multipliers):
    return (origin + torch.bmm(multipliers[:, None], gradients)[:, 0]).clamp(0, 1)


def _nonnegative_solution(gram, right, start, sweeps=6):
    """Minimise l' G l / 2 - b' l over l >= 0 by coordinate descent, for each row.

    Parameters
    ----------
    gram : torch.Tensor, shape (B, K, K)
    right, start : torch.Tensor, shape (B, K)
    """
    solution = start.clone()
    diagonal = gram.diagonal(dim1=1, dim2=2)
    usable = diagonal > 0
    inverse = torch.where(usable, 1 / diagonal.where(usable, torch.ones_like(diagonal)), 0.0)
    classes = range(gram.shape[1])
    for _ in range(1 if len(classes) == 1 else sweeps):
        for k in classes:
            slope = right[:, k] - (gram[:, k] * solution).sum(1)
            solution[:, k] = (solution[:, k] + slope * inverse[:, k]).clamp_min(0)
    return solution
