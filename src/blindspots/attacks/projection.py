"""Exact projection onto linear inequalities in the box, for many images at once."""

import torch

PIVOTS_COLD, PIVOTS_WARM = 6, 2  # of a small problem: hardly any row needs more


def projection_multipliers(origin, gradients, bounds, start, memory=None):
    """Return l >= 0 such that clip(x + sum_j l_j a_j) is the projection onto a_j . r >= b_j.

    Newton's method on the dual: the pixels that the box stops are held, the multipliers of the
    rest solve a small non-negative problem, and so on until the stopped pixels no longer change.
    From a good start, of the last point's multipliers, two rounds do.
    """
    if start is None:
        gram = torch.bmm(gradients, gradients.transpose(1, 2))
        multipliers = nonnegative_solution(gram, bounds, torch.zeros_like(bounds), PIVOTS_COLD)
        rounds, pivots = 3, PIVOTS_COLD
    else:
        multipliers, rounds, pivots = start, 2, PIVOTS_WARM
    reduced = empty_like(gradients, memory)
    for _ in range(rounds):
        target = origin + torch.bmm(multipliers[:, None], gradients)[:, 0]
        where_inside(gradients, unless_still(target, multipliers), out=reduced)
        gram = torch.bmm(reduced, reduced.transpose(1, 2))
        missing = bounds - dot(target.clamp_(0, 1) - origin, gradients)
        right = missing + torch.bmm(gram, multipliers[:, :, None])[:, :, 0]
        multipliers = nonnegative_solution(gram, right, multipliers, pivots)
    return multipliers


def empty_like(gradients, memory):
    """Return an empty tensor like gradients, in a given memory if there is one."""
    if memory is None:
        return torch.empty_like(gradients)
    return memory[: gradients.numel()].view(gradients.shape)


def unless_still(target, multipliers):
    """Return targets (B, n), and mid-grey in the rows without any positive multiplier.

    There nothing has moved yet: pixels at the bounds are as free as all others.
    """
    return torch.where((multipliers <= 0).all(1, keepdim=True), 0.5, target)


def where_inside(gradients, target, out):
    """Write gradients (B, K, n) where target (B, n) is inside the box, and 0 elsewhere."""
    # The derivative of clamp in one pass; comparing and multiplying takes three.
    inside = target[:, None].expand_as(gradients)
    torch.ops.aten.hardtanh_backward.grad_input(gradients, inside, 0.0, 1.0, grad_input=out)


def dot(vectors, gradients):
    """Return the products (B, K) of vectors (B, n) and gradients (B, K, n)."""
    return torch.bmm(vectors[:, None], gradients.transpose(1, 2))[:, 0]


def moved(origin, gradients, multipliers):
    return torch.bmm(multipliers[:, None], gradients)[:, 0].add_(origin).clamp_(0, 1)


def nonnegative_solution(gram, right, start, pivots=PIVOTS_COLD):
    """Minimise l' G l / 2 - b' l over l >= 0, for each row.

    By principal pivoting of whole blocks (Kostreva 1978): solve for the multipliers that are taken
    for positive, exchange all that have the wrong sign, and keep the best point.

    Parameters
    ----------
    gram : torch.Tensor, shape (B, K, K)
    right, start : torch.Tensor, shape (B, K)
    """
    if gram.shape[1] == 1:
        alone = gram[:, 0]  # not its diagonal, whose strides make products slow
        return torch.where(alone > 0, (right / alone).clamp_min(0), 0.0)
    diagonal = gram.diagonal(dim1=1, dim2=2)
    usable = diagonal > 0
    # Equal gradients share their multiplier.
    ridge = 1e-6 * diagonal.amax(1, keepdim=True)
    identity = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    best, lowest = torch.zeros_like(right), torch.zeros_like(right[:, 0])
    positive = (start > 0) & usable
    solution = start
    for _ in range(pivots):
        slope = right - torch.bmm(gram, solution[:, :, None])[:, :, 0]
        positive = torch.where(positive, solution > 0, slope > 0) & usable
        mask = positive.to(gram.dtype)
        shift = torch.where(positive, ridge, 1.0)
        matrix = gram * (mask[:, :, None] * mask[:, None, :]) + shift[:, :, None] * identity
        solution = torch.linalg.solve_ex(matrix, right * mask)[0].contiguous()
        candidate = solution.clamp_min(0)
        value = (candidate * (0.5 * torch.bmm(gram, candidate[:, :, None])[:, :, 0] - right)).sum(1)
        lower = value < lowest
        best = torch.where(lower[:, None], candidate, best)
        lowest = torch.where(lower, value, lowest)
    return best
