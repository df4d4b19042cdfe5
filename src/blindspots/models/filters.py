"""Filters that nobody has labelled images for: learned by RICA, or drawn.

RICA (Le et al. 2011, "ICA with reconstruction cost for efficient overcomplete feature learning")
looks for few large answers to whitened patches that still tell what the patches are.
"""

from dataclasses import dataclass

import torch

from blindspots.optim.lbfgs import LBFGS

LEARNED, WHITENED, RANDOM = KINDS = ("rica", "whitened", "random")
IMAGES, PATCHES = 2500, 10000  # from which, and how many, filters are learned
KEPT, RIDGE = 1e-4, 1e-2  # of eigenvalues: share of the largest, and of their mean that is added
SMOOTH = 1e-3  # under the root that stands for the absolute value
ITERATIONS, PAIRS = 80, 20  # of L-BFGS
BLOCK = 2000  # patches that pass together: what filters answer to them stays in the cache


@dataclass(frozen=True)
class Whitening:
    """A map of patches (N, n) to (N, K) uncorrelated numbers of mean 0 and variance about 1.

    Attributes
    ----------
    mean : torch.Tensor, shape (n,)
    matrix : torch.Tensor, shape (K, n)
    """

    mean: torch.Tensor
    matrix: torch.Tensor

    def __call__(self, patches):
        return (patches - self.mean) @ self.matrix.T


def draw_patches(maps, size, count, generator):
    """Cut patches out of maps, at places that are drawn.

    Parameters
    ----------
    maps : torch.Tensor, shape (N, C, H, W)
    size : int
        Side of a patch.
    count : int
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    torch.Tensor, shape (count, C size size)
    """
    places = [
        torch.randint(bound, (count, 1, 1, 1), generator=generator).to(maps.device)
        for bound in (len(maps), maps.shape[2] - size + 1, maps.shape[3] - size + 1)
    ]
    image, row, column = places
    within = torch.arange(size, device=maps.device)
    channel = torch.arange(maps.shape[1], device=maps.device).view(-1, 1, 1)
    return maps[image, channel, row + within.view(-1, 1), column + within].flatten(1)


def whitening(patches):
    """Return the principal components of patches, scaled to variance 1.

    Components whose variance is at most `KEPT` of the largest are left out; `RIDGE` of the mean
    variance is added to each, so that weak ones stay a little weaker.

    Parameters
    ----------
    patches : torch.Tensor, shape (N, n)

    Returns
    -------
    Whitening
    """
    mean = patches.mean(0)
    centred = (patches - mean).double()
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(patches))
    kept = values > KEPT * values[-1]
    scales = (values[kept] + RIDGE * values.mean()).rsqrt()
    return Whitening(mean, (vectors[:, kept] * scales).T.to(patches.dtype))


def rica_cost(weights, patches, sparsity):
    """Return the cost of filters: sparsity sum |W y| + ||W' W y - y||^2, a mean over patches.

    Parameters
    ----------
    weights : torch.Tensor, shape (F, K)
    patches : torch.Tensor, shape (N, K)
    sparsity : float

    Returns
    -------
    torch.Tensor, scalar
        The absolute value is smoothed: sqrt(a^2 + 1e-3).
    """
    answers = patches @ weights.T  # (N, F)
    lost = (answers @ weights - patches).square().sum(1)
    return (sparsity * (answers.square() + SMOOTH).sqrt().sum(1) + lost).mean()


def rica(patches, filters, sparsity, generator):
    """Learn filters of whitened patches, by L-BFGS.

    Parameters
    ----------
    patches : torch.Tensor, shape (N, K)
    filters : int
    sparsity : float
        Weight of the sum of absolute answers, at least 0.
    generator : torch.Generator
        On the CPU; draws the first filters.

    Returns
    -------
    torch.Tensor, shape (filters, K)
    """
    shape = filters, patches.shape[1]
    start = torch.randn(shape, generator=generator).to(patches)
    start /= start.norm(dim=1, keepdim=True)

    def cost(point):
        value, gradient = point.new_zeros(()), torch.zeros_like(point)
        for part in patches.split(BLOCK):
            with torch.enable_grad():
                weights = point.detach().requires_grad_()
                own = rica_cost(weights.view(shape), part, sparsity) * (len(part) / len(patches))
                gradient += torch.autograd.grad(own, weights)[0]
            value += own.detach()
        return value, gradient

    descent = LBFGS(cost, start.flatten(), PAIRS)
    descent.begin()
    for _ in range(ITERATIONS):
        if not descent.iterate():
            break
    return descent.point.view(shape)


def make_filters(kind, patches, filters, sparsity, generator):
    """Return filters of patches, and what they answer to the mean patch, with the sign changed.

    Parameters
    ----------
    kind : str
        ``rica``: learned from whitened patches; ``whitened``: drawn in the space of whitened
        patches; ``random``: drawn in the space of patches.
    patches : torch.Tensor, shape (N, n)
    filters : int
    sparsity : float
        For ``rica``.
    generator : torch.Generator

    Returns
    -------
    weight : torch.Tensor, shape (filters, n)
    bias : torch.Tensor, shape (filters,)
        Of each filter the mean square of weight @ patch + bias over the patches is 1.
    """
    if kind == RANDOM:
        mean = patches.mean(0)
        weight = torch.randn(filters, patches.shape[1], generator=generator).to(patches)
    else:
        white = whitening(patches)
        mean, size = white.mean, len(white.matrix)
        if kind == LEARNED:
            weight = rica(white(patches), filters, sparsity, generator)
        else:
            weight = torch.randn(filters, size, generator=generator).to(patches)
        weight = weight @ white.matrix
    spread = ((patches - mean) @ weight.T).square().mean(0).sqrt()
    weight = weight / spread.clamp_min(torch.finfo(weight.dtype).tiny)[:, None]
    return weight, -weight @ mean
