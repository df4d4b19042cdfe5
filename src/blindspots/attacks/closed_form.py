"""The exact smallest perturbation of a linear softmax in the box."""

import torch


def closed_form_distances(weights, bias, images, labels, rounds=100):
    """Return the exact smallest RMS distortion towards each wrong class alone.

    For a wrong class j, the smallest r in the box with a.(x + r) + b >= 0, a = w_j - w_y and
    b = b_j - b_y, is clip(x + t a, 0, 1) - x at the root in t of a non-decreasing function, found
    by bisection. The smallest over j changes the answer of the model; it is exact.

    Parameters
    ----------
    weights : torch.Tensor of float64, shape (C, n)
    bias : torch.Tensor of float64, shape (C,)
    images : torch.Tensor of float64, shape (B, n)
    labels : torch.Tensor of int64, shape (B,)
    rounds : int
        Bisections.

    Returns
    -------
    torch.Tensor of float64, shape (B, C)
        Infinite for the label itself and for classes that cannot be reached.
    """
    distances = torch.full((len(images), len(bias)), torch.inf, dtype=torch.float64)
    for wrong in range(len(bias)):
        a, b = weights[wrong] - weights[labels], bias[wrong] - bias[labels]

        def margin(t, a=a, b=b):
            return (a * (images + t[:, None] * a).clamp(0, 1)).sum(1) + b

        low, high = torch.zeros_like(b), torch.ones_like(b)
        while bool((short := (margin(high) < 0) & (high < 1e12)).any()):
            high = torch.where(short, 2 * high, high)
        for _ in range(rounds):
            middle = (low + high) / 2
            enough = margin(middle) >= 0
            low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
        r = (images + high[:, None] * a).clamp(0, 1) - images
        reachable = (margin(high) >= -1e-9) & (labels != wrong)
        distances[:, wrong] = torch.where(reachable, r.square().mean(1).sqrt(), torch.inf)
    return distances
