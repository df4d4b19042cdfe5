"""What 8-bit storage does to images, and the perturbations that survive it.

A pixel in [0, 1] is stored as one of 256 levels. Rounding to the nearest level moves it by at most
1/510; the usual ``(x * 255).astype(uint8)`` cuts the fraction off, and moves it by up to 1/255 and
always downwards, which destroys most smallest perturbations. What is written here is rounded.
"""

import io
import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from blindspots.attacks.objective import Objective
from blindspots.attacks.projection import dot, moved, projection_multipliers

LEVELS = 255  # the highest of the levels 0 to 255
# By how much a perturbation is stretched; each image takes the first that suffices. Some survive
# as they are and no longer: where a third class gains as they grow.
FACTORS = (1.01, 1.02, 1.05, 1.0)
SIGMAS = 4  # of the change by rounding, covered by the statistical margin
# Statistical margins asked for where no stretch suffices, and of how many competing classes.
ASKED = (1, 2, 4, 8, 16)
COMPETITORS = 6
# Encoders halve the resolution of colour unless told otherwise; grey images have none.
SUBSAMPLING = "4:2:0"
MODES = {1: "L", 3: "RGB"}


def to_levels(images):
    """Return images as bytes, each pixel the nearest of the 256 levels.

    Half-way between two levels the even one is taken, as by IEEE 754.

    Parameters
    ----------
    images : torch.Tensor of a floating-point type, shape (B, C, H, W)
        In [0, 1].

    Returns
    -------
    torch.Tensor of uint8, shape (B, C, H, W)

    Raises
    ------
    ValueError
        If a pixel is outside [0, 1] or no number: as a byte it would be another one altogether.
    """
    _check_box(images)
    return (images * LEVELS).round().to(torch.uint8)


def from_levels(levels):
    """Return bytes as float32 images in [0, 1]."""
    return levels.float() / LEVELS


def rounded(images):
    """Return what an 8-bit file leaves of images: each pixel on the nearest level.

    Bit for bit what `png` returns.

    Parameters
    ----------
    images : torch.Tensor of float32, shape (B, C, H, W)
        In [0, 1].

    Returns
    -------
    torch.Tensor of float32, shape (B, C, H, W)
    """
    return from_levels(to_levels(images))


def truncated(images):
    """Return what is left of images if each pixel is put on the level below.

    For comparison alone: it is the error of writers that cast without rounding.

    Parameters
    ----------
    images : torch.Tensor of float32, shape (B, C, H, W)
        In [0, 1].

    Returns
    -------
    torch.Tensor of float32, shape (B, C, H, W)
    """
    _check_box(images)
    return from_levels((images * LEVELS).to(torch.uint8))


def png(images):
    """Write images as 8-bit PNG in memory and read them back.

    Parameters
    ----------
    images : torch.Tensor of float32, shape (B, C, H, W)
        In [0, 1], with one or three channels.

    Returns
    -------
    torch.Tensor of float32, shape (B, C, H, W)

    Raises
    ------
    ValueError
        If the images cannot be stored, or what is read back is not what was to be stored.
    """
    stored = _through_files(images, format="PNG")
    refuse_truncated(stored, images)
    return stored


def jpeg(images, quality):
    """Write images as JPEG in memory and read them back.

    Colour is stored at half its resolution in both directions (4:2:0), as encoders do by default;
    grey images are stored in one channel. Pixels are rounded to levels first.

    Parameters
    ----------
    images : torch.Tensor of float32, shape (B, C, H, W)
        In [0, 1], with one or three channels.
    quality : int
        1 to 100, as libjpeg counts it.

    Returns
    -------
    torch.Tensor of float32, shape (B, C, H, W)
        It depends on the versions of Pillow and libjpeg, within a level or two.
    """
    return _through_files(images, format="JPEG", quality=quality, subsampling=SUBSAMPLING)


def refuse_truncated(stored, images):
    """Raise ValueError unless stored images are within half a level of what was to be stored.

    Parameters
    ----------
    stored, images : torch.Tensor of float32, shape (B, C, H, W)
        Read back from files, and before they were written.
    """
    # float32 puts pixels a few 1e-8 off
    far = ((stored - images).abs() > 0.5 / LEVELS + 1e-6).flatten(1).any(1)
    if far.any():
        raise ValueError(
            f"{int(far.sum())} of {len(far)} stored images are more than half a level off, as if "
            "pixels had been cut off in place of rounded; write them with to_levels"
        )


def stretched(images, originals, factor):
    """Lengthen each perturbation by a factor, within the box: clip(x + factor r).

    Parameters
    ----------
    images, originals : torch.Tensor of float32, shape (B, C, H, W)
        In [0, 1].
    factor : float

    Returns
    -------
    torch.Tensor of float32, shape (B, C, H, W)
    """
    return (originals + factor * (images - originals)).clamp(0, 1)


@dataclass(frozen=True, repr=False)
class Survivors:
    """Adversarial images on the 8-bit grid.

    Attributes
    ----------
    images : torch.Tensor of float32, shape (B, C, H, W)
        On the grid in any case; where nothing survived, as found and rounded.
    survived : torch.Tensor of bool, shape (B,)
        Whether the network gives this very image the target (untargeted: a wrong label).
    factors : torch.Tensor of float32, shape (B,)
        By which the perturbation was stretched before rounding; NaN where no stretch sufficed.
    """

    images: torch.Tensor
    survived: torch.Tensor
    factors: torch.Tensor

    def __repr__(self):
        count = int(self.survived.sum())
        return f"<{type(self).__name__}: {count} of {len(self.survived)} images survive>"


def stretch_to_survive(model, images, originals, labels, targets, factors=FACTORS):
    """Stretch each perturbation by the first factor with which it survives rounding.

    All images are stretched by the first factor, rounded and shown to the network; those that do
    not fool it any more are stretched by the next one, and so on. What survives, does so by more
    than the rounding of logits.

    No stretch suffices where a third class holds a smallest perturbation back and gains as it
    grows. Such images are projected instead, from the original onto images whose linearised
    margins over all near classes are a statistical margin at least (see `statistical_margin`), and
    more where that is not enough.

    Parameters
    ----------
    model : callable
        Maps images (B, C, H, W) to logits (B, K): the network that was attacked, in evaluation
        mode. All images are shown to it together.
    images, originals : torch.Tensor of float32, shape (B, C, H, W)
        In [0, 1]. Where both are the same the attack has failed, and nothing survives.
    labels : torch.Tensor of int64, shape (B,)
    targets : torch.Tensor of int64, shape (B,), or None
        None: any wrong label will do; -1: the attack has failed.
    factors : sequence of float
        In the order in which they are tried.

    Returns
    -------
    Survivors
    """
    stored = rounded(images)
    used = torch.full((len(images),), torch.nan, device=images.device)
    trying = (images != originals).flatten(1).any(1)
    if targets is not None:
        trying &= targets >= 0
    survived, rest = torch.zeros_like(trying), trying.nonzero()[:, 0]

    def keep(tried, objective):
        """Keep those that survive rounding, and tell which do not."""
        tried = rounded(tried)
        with torch.no_grad():
            fooled = objective.margins(tried.flatten(1))[:, 0] > 0
        stored[rest[fooled]] = tried[fooled]
        survived[rest[fooled]] = True
        return ~fooled

    whole = Objective(model, images.shape[1:], labels, targets)
    for factor in factors:
        if len(rest) == 0:
            break
        left = keep(stretched(images[rest], originals[rest], factor), whole.select(rest))
        used[rest[~left]] = factor
        rest = rest[left]
    points, origin = images.flatten(1)[rest], originals.flatten(1)[rest]
    for asked in ASKED:
        if len(rest) == 0:
            break
        objective = whole.select(rest)
        objective.suit(origin)
        points = _projected(objective, points, origin, asked)
        left = keep(points.view(-1, *images.shape[1:]), objective)
        rest, points, origin = rest[left], points[left], origin[left]
    return Survivors(stored, survived, used)


def _projected(objective, points, origin, asked):
    """Return the images nearest to the origin that have so many statistical margins, (B, n)."""
    count = 1 if objective.targets is None else COMPETITORS  # untargeted, one class will do
    margins, gradients, _ = objective.margins_and_gradients(points, count)  # (B, K), (B, K, n)
    needed = asked * statistical_margin(gradients)
    bounds = dot(points - origin, gradients) - margins + needed  # on gradient . r
    images = moved(origin, gradients, projection_multipliers(origin, gradients, bounds, None))
    return torch.where(images.isfinite().all(1, keepdim=True), images, points)


def guaranteed_margin(gradients):
    """Return the margin that no rounding can undo, to first order: ||grad m||_1 / 510.

    Of a linear function w.x it is exact: |w.(round(x) - x)| <= ||w||_1 / 510.

    Parameters
    ----------
    gradients : torch.Tensor, shape (..., n)
        Of the margin with respect to pixels in [0, 1].

    Returns
    -------
    torch.Tensor, shape (...)
        In units of the margin.
    """
    return gradients.abs().sum(-1) * (0.5 / LEVELS)


def rounding_deviation(gradients):
    """Return the standard deviation of what rounding does to a margin, to first order.

    ||grad m||_2 / (255 sqrt 12): errors of pixels are independent and uniform over a level. Pixels
    that are on a level already, such as those at 0 and 1, have no error; with them it is less.

    Parameters
    ----------
    gradients : torch.Tensor, shape (..., n)

    Returns
    -------
    torch.Tensor, shape (...)
    """
    return gradients.norm(dim=-1) / (LEVELS * math.sqrt(12))


def statistical_margin(gradients):
    """Return the margin that rounding hardly ever undoes: four standard deviations.

    4 ||grad m||_2 / (255 sqrt 12), see `rounding_deviation`.

    Parameters
    ----------
    gradients : torch.Tensor, shape (..., n)

    Returns
    -------
    torch.Tensor, shape (...)
    """
    return SIGMAS * rounding_deviation(gradients)


def storage_margins(model, images, originals, labels, targets):
    """Return the margins that adversarial images have, and those that they need to be stored.

    To first order, over the strongest competitor of each image alone; exact for a linear network
    in which no other competitor is near.

    Parameters
    ----------
    model, images, originals, labels, targets
        As for `stretch_to_survive`; successes only.

    Returns
    -------
    dict of str to torch.Tensor, shape (B,)
        ``margin``, ``guaranteed`` and ``statistical`` in logits; ``guaranteed_share`` and
        ``statistical_share``, relative to ||grad m|| ||r||, by about which the perturbation has to
        be longer.
    """
    objective = Objective(model, images.shape[1:], labels, targets)
    margins, gradients, _ = objective.margins_and_gradients(images.flatten(1), 1)
    gradient = gradients[:, 0]  # (B, n)
    size = gradient.norm(dim=1) * (images - originals).flatten(1).norm(dim=1)
    guaranteed, statistical = guaranteed_margin(gradient), statistical_margin(gradient)
    return {
        "margin": margins[:, 0],
        "guaranteed": guaranteed,
        "guaranteed_share": guaranteed / size,
        "statistical": statistical,
        "statistical_share": statistical / size,
    }


def _check_box(images):
    if not bool(((images >= 0) & (images <= 1)).all()):
        raise ValueError("images to be stored must lie in [0, 1], without NaN; clip them first")


def _through_files(images, **options):
    """Write images in memory and read them back; encoders take one image at a time."""
    levels = to_levels(images).cpu().numpy()
    if images.shape[1] not in MODES:
        raise ValueError(f"images to be stored have one or three channels, not {images.shape[1]}")
    mode, stored = MODES[images.shape[1]], np.empty_like(levels)
    for image, place in zip(levels, stored, strict=True):
        file = io.BytesIO()
        pixels = np.ascontiguousarray(image.transpose(1, 2, 0))  # (H, W, C)
        Image.fromarray(pixels[..., 0] if mode == "L" else pixels).save(file, **options)
        with Image.open(file) as read:
            if read.mode != mode:
                raise ValueError(f"a file of mode {mode} is read back as {read.mode}")
            place[:] = np.asarray(read).reshape(pixels.shape).transpose(2, 0, 1)
    return from_levels(torch.from_numpy(stored).to(images.device))
