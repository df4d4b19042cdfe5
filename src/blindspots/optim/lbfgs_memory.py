"""Curvature memory of many L-BFGS runs at once, each with its own history."""

import torch


class CurvatureMemory:
    """Limited-memory inverse Hessians of B independent functions, ``g(x) + sum_i q_b x_i^2``.

    Only the curvature of the general part ``g`` is remembered. The weight ``q`` of the quadratic
    part may change at any time: its curvature, ``2 q``, is known and is added exactly to every
    pair, so that what has been learned about ``g`` survives.

    The direction is computed from inner products with the stored vectors alone (the two-loop
    recursion in coefficients, Chen et al. 2014, "Large-scale L-BFGS using MapReduce"), so that the
    long vectors are passed over once for the products and once for the combination.

    Parameters
    ----------
    rows, size : int
        B functions of n variables each.
    pairs : int
        Pairs of differences kept for each row, m.
    like : torch.Tensor
        Its dtype and device are used.
    """

    def __init__(self, rows, size, pairs, like):
        self.pairs = pairs
        # Rows 0..m-1 hold the steps s, rows m..2m-1 the differences y of the gradient of g.
        self.basis = like.new_zeros(rows, 2 * pairs, size)  # (B, 2m, n)
        self.gram = like.new_zeros(rows, 2 * pairs, 2 * pairs)  # basis @ basis^T
        self.count = torch.zeros(rows, dtype=torch.int64, device=like.device)

    def select(self, keep):
        """Keep the rows of an index tensor only."""
        self.basis = self.basis[keep]
        self.gram = self.gram[keep]
        self.count = self.count[keep]

    def update(self, accept, step, difference):
        """Append a pair to the history of some rows, over the oldest one.

        Parameters
        ----------
        accept : torch.Tensor of bool, shape (B,)
            The rows.
        step, difference : torch.Tensor, shape (B, n)
            Change of x, and of the gradient of g.
        """
        rows = accept.nonzero()[:, 0]
        slot = self.count[rows] % self.pairs
        self.basis[rows, slot] = step[rows]
        self.basis[rows, self.pairs + slot] = difference[rows]
        pair = torch.stack([step, difference], dim=1)  # (B, 2, n)
        products = torch.bmm(pair, self.basis.transpose(1, 2))[rows]  # (R, 2, 2m)
        for offset, line in ((0, products[:, 0]), (self.pairs, products[:, 1])):
            self.gram[rows, offset + slot] = line
            self.gram[rows, :, offset + slot] = line
        self.count[rows] += 1

    def direction(self, gradient, weight):
        """Return ``-H gradient`` for every row.

        Parameters
        ----------
        gradient : torch.Tensor, shape (B, n)
        weight : torch.Tensor, shape (B,)
            The weight q of the quadratic part.

        Returns
        -------
        torch.Tensor, shape (B, n)
        """
        m, twice = self.pairs, 2 * weight  # the quadratic part adds 2 q s to every y
        age = (
            self.count[:, None] - 1 - torch.arange(m, device=gradient.device)
        ) % m  # newest first
        valid = torch.arange(m, device=gradient.device) < self.count[:, None]
        order = torch.cat([age, age + m], dim=1)  # (B, 2m)
        gram = self.gram.gather(1, order[:, :, None].expand_as(self.gram))
        gram = gram.gather(2, order[:, None, :].expand_as(gram))
        along = torch.bmm(gradient[:, None], self.basis.transpose(1, 2))[:, 0].gather(1, order)
        ss, sy = gram[:, :m, :m], gram[:, :m, m:]
        yy, ys = gram[:, m:, m:], gram[:, m:, :m]
        t = twice[:, None, None]
        step_diff = sy + t * ss  # s_i . y_j with the full y, (B, m, m)
        diff_diff = yy + t * (sy + ys) + t * t * ss
        curvature = step_diff.diagonal(dim1=1, dim2=2)
        square = diff_diff.diagonal(dim1=1, dim2=2)
        # A pair whose curvature is not safely positive is passed over, for this weight.
        usable = valid & (curvature > 1e-10 * square.clamp_min(1e-30))
        inverse = torch.where(usable, 1 / curvature.where(usable, torch.ones_like(curvature)), 0.0)
        along_s = along[:, :m]
        along_y = along[:, m:] + twice[:, None] * along_s

        # First loop, newest pair to oldest: coefficients alpha of the differences.
        alpha = torch.zeros_like(along_s)
        for i in range(m):
            value = along_s[:, i] - (alpha * step_diff[:, i]).sum(1)
            alpha[:, i] = value * inverse[:, i]
        newest = usable.to(torch.int8).argmax(1, keepdim=True)  # the newest usable pair
        scale = torch.where(
            usable.any(1), (curvature / square).gather(1, newest)[:, 0], 1 / twice.clamp_min(1e-12)
        )
        # Second loop, oldest to newest: coefficients beta of the steps.
        beta = torch.zeros_like(along_s)
        base = scale[:, None] * (along_y - torch.bmm(diff_diff, alpha[:, :, None])[:, :, 0])
        for i in reversed(range(m)):
            value = (base[:, i] + (beta * step_diff[:, :, i]).sum(1)) * inverse[:, i]
            beta[:, i] = torch.where(usable[:, i], alpha[:, i] - value, 0.0)
        on_y = -scale[:, None] * alpha
        on_s = beta + twice[:, None] * on_y
        coefficients = torch.zeros_like(along).scatter(1, order, torch.cat([on_s, on_y], dim=1))
        combined = torch.bmm(coefficients[:, None], self.basis)[:, 0]
        return -(scale[:, None] * gradient + combined)
