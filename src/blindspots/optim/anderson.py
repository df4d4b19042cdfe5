"""Anderson acceleration of many fixed-point iterations at once, each with its own history."""

import torch

REGULARISATION = 1e-6  # of the least-squares problem, relative to the sizes of the differences
LARGEST_SHARE = 1e12  # of a difference in the next point: beyond, only rounding is left


class AndersonMixing:
    """Extrapolate B fixed-point iterations ``x <- G_b(x)`` from their last few images.

    The next point is the affine combination of the last images of G whose residuals ``G(x) - x``
    cancel best (Walker and Ni 2011, "Anderson acceleration for fixed-point iterations"). For a
    nearly linear G it converges like GMRES, also where the plain iteration oscillates or creeps.

    Parameters
    ----------
    rows, size : int
        B iterations of n variables each.
    window : int
        Differences kept for each row, p.
    like : torch.Tensor
        Its dtype and device are used.
    """

    def __init__(self, rows, size, window, like):
        self.window, self.count = window, 0
        self.residuals = like.new_zeros(rows, window, size)  # differences of residuals, (B, p, n)
        self.images = like.new_zeros(rows, window, size)  # differences of images of G
        self.gram = like.new_zeros(rows, window, window)
        self.last = None

    def select(self, keep):
        """Keep the rows of an index tensor only."""
        self.residuals, self.images = self.residuals[keep], self.images[keep]
        self.gram = self.gram[keep]
        if self.last is not None:
            self.last = tuple(part[keep] for part in self.last)

    def extrapolate(self, point, image):
        """Return the next points.

        Parameters
        ----------
        point, image : torch.Tensor, shape (B, n)
            x and G(x), finite.

        Returns
        -------
        torch.Tensor, shape (B, n)
            Finite, too.
        """
        residual = image - point
        if self.last is not None:
            slot = self.count % self.window
            difference = residual - self.last[0]
            self.residuals[:, slot] = difference
            torch.sub(image, self.last[1], out=self.images[:, slot])
            products = torch.bmm(difference[:, None], self.residuals.transpose(1, 2))[:, 0]
            self.gram[:, slot] = products
            self.gram[:, :, slot] = products
            self.count += 1
        self.last = residual, image
        if self.count == 0:
            return image
        used = min(self.count, self.window)
        gram = self.gram[:, :used, :used].clone()
        diagonal = gram.diagonal(dim1=1, dim2=2)
        diagonal += REGULARISATION * diagonal.sum(1, keepdim=True) + 1e-30
        along = torch.bmm(residual[:, None], self.residuals[:, :used].transpose(1, 2))[:, 0]
        share = torch.linalg.solve_ex(gram, along)[0].nan_to_num(0.0, 0.0, 0.0)
        share.clamp_(-LARGEST_SHARE, LARGEST_SHARE)
        return image - torch.bmm(share[:, None], self.images[:, :used])[:, 0]
