"""Curvature memory of many L-BFGS runs at once, each with its own history."""

import torch

SAFE = 1e-10  # of s.y, relative to |y| and the smaller of |s| and |y|: rounding is below


class CurvatureMemory:
    """Limited-memory inverse Hessians of B independent functions, ``g(x) + sum_i q_b x_i^2``.

    Only the curvature of the general part ``g`` is remembered. The weight ``q`` of the quadratic
    part may change at any time: its curvature, ``2 q``, is known and is added exactly to every
    pair, so that what has been learned about ``g`` survives.

    Directions are those of the free variables alone: the pairs are restricted to them before they
    are used (Ni and Yuan 1997, "A subspace limited memory quasi-Newton algorithm"). They are
    computed from inner products with the stored vectors (the two-loop recursion in coefficients,
    Chen et al. 2014, "Large-scale L-BFGS using MapReduce"). All rows write to the same slot, so
    nothing is gathered or scattered and nothing waits for the device.

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
        # Lines 0..m-1 hold the steps s, lines m..2m-1 the differences y of the gradient of g.
        self.basis = like.new_zeros(rows, 2 * pairs, size)  # (B, 2m, n)
        self.masked = torch.empty_like(
            self.basis
        )  # a buffer: fresh memory costs more than it holds
        self.newest = like.new_zeros(rows, pairs, 4)  # s.s, s.y, y.s and y.y of every pair
        self.count = 0

    def select(self, keep):
        """Keep the rows of an index tensor only."""
        self.basis = self.basis[keep]
        self.masked = torch.empty_like(self.basis)
        self.newest = self.newest[keep]

    def update(self, step, difference):
        """Append a pair to the history of every row, over the oldest one.

        Parameters
        ----------
        step, difference : torch.Tensor, shape (B, n)
            Change of x, and of the gradient of g, finite. A zero step leaves a pair that is
            passed over.
        """
        slot = self.count % self.pairs
        self.basis[:, slot] = step
        self.basis[:, self.pairs + slot] = difference
        pair = self.basis[:, slot :: self.pairs]  # (B, 2, n)
        self.newest[:, slot] = torch.bmm(pair, pair.transpose(1, 2)).flatten(1)
        self.count += 1

    def scale(self, weight, fallback):
        """Return the inverse curvature along the newest usable step of every row.

        Parameters
        ----------
        weight : torch.Tensor, shape (B,)
            The weight q of the quadratic part.
        fallback : torch.Tensor, shape (B,)
            For rows without a usable pair.
        """
        ss, sy, _, yy = self.newest.unbind(2)
        twice = 2 * weight[:, None]
        curvature = sy + twice * ss
        square = yy + twice * (2 * sy + twice * ss)
        usable = _usable(curvature, ss, square)
        scale = fallback
        for i in reversed(self._newest_first()):
            scale = torch.where(usable[:, i], curvature[:, i] / square[:, i], scale)
        return scale

    def direction(self, gradient, weight, scale, free):
        """Return ``-H gradient`` for every row, in the space of its free variables.

        Parameters
        ----------
        gradient : torch.Tensor, shape (B, n)
            Zero in the held variables.
        weight : torch.Tensor, shape (B,)
            The weight q of the quadratic part.
        scale : torch.Tensor, shape (B,)
            H without any pair is this multiple of the identity.
        free : torch.Tensor, shape (B, n)
            1 for free variables, 0 for those that are held: there the direction is 0.

        Returns
        -------
        torch.Tensor, shape (B, n)
        """
        m, twice = self.pairs, 2 * weight  # the quadratic part adds 2 q s to every y
        masked = torch.mul(self.basis, free[:, None], out=self.masked)
        gram = torch.bmm(masked, self.basis.transpose(1, 2))
        ss, sy = gram[:, :m, :m], gram[:, :m, m:]
        yy, ys = gram[:, m:, m:], gram[:, m:, :m]
        t = twice[:, None, None]
        step_diff = torch.addcmul(sy, t, ss)  # s_i . y_j with the full y, (B, m, m)
        diff_diff = yy + t * (sy + ys + t * ss)
        curvature = step_diff.diagonal(dim1=1, dim2=2)
        lengths = (part.diagonal(dim1=1, dim2=2) for part in (ss, diff_diff))
        usable = _usable(curvature, *lengths)
        inverse = torch.where(usable, 1 / curvature, 0.0)
        along = torch.bmm(gradient[:, None], masked.transpose(1, 2))[:, 0]
        along_s = along[:, :m]
        along_y = torch.addcmul(along[:, m:], twice[:, None], along_s)
        # First loop, newest pair to oldest: coefficients alpha of the differences.
        alpha = torch.zeros_like(along_s)
        for i in self._newest_first():
            value = along_s[:, i] - (alpha * step_diff[:, i]).sum(1)
            alpha[:, i] = value * inverse[:, i]
        # Second loop, oldest to newest: coefficients beta of the steps.
        beta = torch.zeros_like(along_s)
        base = scale[:, None] * (along_y - torch.bmm(diff_diff, alpha[:, :, None])[:, :, 0])
        for i in reversed(self._newest_first()):
            value = (base[:, i] + (beta * step_diff[:, :, i]).sum(1)) * inverse[:, i]
            beta[:, i] = alpha[:, i] - value
        on_y = -scale[:, None] * alpha
        coefficients = torch.cat([torch.addcmul(beta, twice[:, None], on_y), on_y], dim=1)
        combined = torch.bmm(coefficients[:, None], masked)[:, 0]
        # Where coefficients overflow, the scaled gradient is left.
        combined.nan_to_num_(0.0, 0.0, 0.0)
        return combined.addcmul_(scale[:, None], gradient).neg_()

    def _newest_first(self):
        """Return the slots that are filled."""
        return [(self.count - 1 - age) % self.pairs for age in range(min(self.count, self.pairs))]


def _usable(curvature, step, difference):
    """Tell which pairs have safely positive curvature; the others are passed over.

    Parameters
    ----------
    curvature, step, difference : torch.Tensor, shape (B, m)
        The products s.y, s.s and y.y.
    """
    inverse_is_finite = curvature > 10 * torch.finfo(curvature.dtype).tiny
    shorter = torch.minimum(step, difference)
    return inverse_is_finite & (curvature > SAFE * shorter.sqrt() * difference.sqrt())
