"""Figure 5 of Szegedy et al. 2013: photographs, magnified distortions, adversarial images."""

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from blindspots.summary.fitting import fitted
from blindspots.summary.numbers import digits, distortion
from blindspots.summary.pictures import SMALL, draw_image
from blindspots.summary.style import SETTINGS

AS_PRINTED = 10  # the factor of the printed figure
# Inches of an image, of a small one, of what stands below it, and of the title.
SIDE, SMALL_SIDE, BELOW, HEAD = 1.5, 0.9, 0.18, 0.75
NOTE, TITLE = 6, SETTINGS["figure.titlesize"]  # points of what stands below an image, and above


@dataclass(frozen=True)
class Example:
    """An image and what became of it.

    Attributes
    ----------
    original, adversarial : ndarray of float, shape (C, H, W)
        In [0, 1].
    name, answer : str
        The true class, and that which the network answers for the adversarial image.
    rms : float
        Of the distortion.
    """

    original: np.ndarray
    adversarial: np.ndarray
    name: str
    answer: str
    rms: float


def visible_factor(rms, printed):
    """Return by what a distortion must be multiplied to be as visible as print's at ten times.

    Parameters
    ----------
    rms : float
        Above 0.
    printed : float
        The printed distortion.

    Returns
    -------
    float
        With two significant digits.
    """
    return float(digits(AS_PRINTED * printed / rms, 2))


def magnified(example, factor):
    """Return the distortion times a factor, around mid-grey, cut off at black and white."""
    change = example.adversarial - example.original
    return (128 / 255 + factor * change).clip(0, 1)


def minimum_figure(examples, factor, title):
    """Show images as print does, and their distortions once more where print's factor shows none.

    Columns: the original, the distortion ten times, the distortion ``factor`` times, the
    adversarial image.

    Parameters
    ----------
    examples : list of Example
        Without any, the figure is its title.
    factor : float
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    shape = examples[0].original.shape if examples else (1, 1, 1)
    side = SMALL_SIDE if max(shape) <= SMALL else SIDE
    wide, tall = 4 * side + 0.3, side * shape[1] / shape[2] + BELOW
    figure = Figure((wide, tall * len(examples) + HEAD), layout="constrained")
    figure.suptitle(fitted(title, 72 * (wide - 0.3), TITLE, 3))
    if not examples:
        return figure
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.01, wspace=0, hspace=0)
    axes = figure.subplots(len(examples), 4, squeeze=False)
    heads = ["original", f"difference x {AS_PRINTED}", f"difference x {factor:g}", "adversarial"]
    for ax, head in zip(axes[0], heads, strict=True):
        ax.set_title(head, fontsize=NOTE, pad=3)
    for line, example in zip(axes, examples, strict=True):
        images = (
            example.original,
            magnified(example, AS_PRINTED),
            magnified(example, factor),
            example.adversarial,
        )
        texts = (example.name, "", f"RMS {distortion(example.rms, 4)}", example.answer)
        for ax, image, text in zip(line, images, texts, strict=True):
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            draw_image(ax, image)
            ax.set_xlabel(fitted(text, 72 * side, NOTE, 2), fontsize=NOTE, labelpad=1.5)
    return figure
