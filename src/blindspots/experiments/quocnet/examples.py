"""Figure 6 of Szegedy et al. 2013: what deceives a detector, and the difference, magnified."""

import textwrap
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from blindspots.summary.numbers import digits, distortion
from blindspots.summary.pictures import draw_image

EACH = 5  # images of each direction
SIDE, BELOW, HEAD = 0.95, 0.13, 0.75  # inches of an image, of the line below it, above all rows
NOTE = 6.5  # points


@dataclass(frozen=True)
class Triple:
    """An image that is answered rightly, one beside it that is not, and how far they are apart.

    Attributes
    ----------
    original, adversarial : ndarray of float, shape (C, H, W)
    rms : float
    """

    original: np.ndarray
    adversarial: np.ndarray
    rms: float


def factor_for(triples):
    """Return by what the differences of some images are magnified: until the largest is 1.

    It is rounded down to two digits, and at least 1.

    Parameters
    ----------
    triples : sequence of Triple

    Returns
    -------
    float
    """
    largest = max((float(np.abs(t.adversarial - t.original).max()) for t in triples), default=0.0)
    if not 0 < largest < 1:
        return 1.0
    unit = 10.0 ** (np.floor(-np.log10(largest)) - 1)
    return max(1.0, float(digits(np.floor(1 / largest / unit) * unit, 2)))


def example_figure(columns, title):
    """Show triples: original, adversarial, |difference| times a factor that is the same for all.

    Parameters
    ----------
    columns : dict of str to list of Triple
        By what they are examples of; each a block of three columns.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    factor = factor_for([triple for triples in columns.values() for triple in triples])
    count = max(1, *(len(triples) for triples in columns.values()))
    width = 3 * SIDE * len(columns) + 0.5
    figure = Figure((width, (SIDE + BELOW) * count + HEAD), layout="constrained")
    heads = "original", "adversarial", f"|difference| x {factor:g}"
    blocks = figure.subfigures(1, len(columns), squeeze=False)[0]
    for block, (direction, triples) in zip(blocks, columns.items(), strict=True):
        axes = block.subplots(count, 3, squeeze=False)
        block.suptitle(direction.replace("->", "→"), fontsize=9)
        for ax in axes.flat:
            ax.set_axis_off()
        for ax, head in zip(axes[0], heads, strict=True):
            ax.set_title(head, fontsize=7, pad=3)
        for line, triple in zip(axes, triples, strict=False):
            difference = np.abs(triple.adversarial - triple.original)
            shown = triple.original, triple.adversarial, factor * difference
            for ax, image in zip(line, shown, strict=True):
                ax.set_axis_on()
                ax.set(xticks=[], yticks=[])
                ax.spines[:].set_visible(False)
                draw_image(ax, image)
            line[1].set_xlabel(f"RMS {distortion(triple.rms)}", fontsize=NOTE, labelpad=1.5)
        if not triples:
            axes[0, 1].text(0.5, 0.5, "no attack\nsucceeded", ha="center", va="center")
    figure.suptitle(textwrap.fill(title, round(13 * width)))
    return figure
