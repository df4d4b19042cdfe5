"""Rows of the images that some directions respond to most, as in figures 1 to 4.

Szegedy et al. 2013. Units stand on the left and random directions of the same features on the
right; below come the controls.
"""

import textwrap

from matplotlib.figure import Figure

from blindspots.summary.fitting import fitted
from blindspots.summary.images import SHARP, draw_image

SMALL_SIDE, SIDE = 0.34, 0.5  # inches of an image of few pixels, and of others
GAP, BETWEEN, HEAD = 0.02, 0.26, 0.25  # inches: of images, above a block, above all
TEXT = 7.5  # points of what is said of rows
TITLE = 15  # characters for each inch


def grid_figure(blocks, images, title):
    """Show images in rows, one for each direction.

    Parameters
    ----------
    blocks : list of (str, ndarray, str, ndarray)
        What is said of the rows on the left, and the positions of their images, (rows, k); the same
        of those on the right.
    images : ndarray of float, shape (N, C, H, W)
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    count = blocks[0][1].shape[1]
    height, width = images.shape[2:]
    side = SMALL_SIDE if max(height, width) <= SHARP else SIDE
    across, down = (GAP + side * length / max(height, width) for length in (width, height))
    rows = sum(len(left) for _, left, _, _ in blocks)
    inches = (2 * count * across + 0.5, rows * down + BETWEEN * len(blocks) + HEAD)
    figure = Figure(inches)
    figure.suptitle(
        textwrap.fill(title, round(TITLE * inches[0])), y=1 - 0.08 / inches[1], va="top"
    )
    top = inches[1] - HEAD
    for *left, text, places in blocks:
        top -= BETWEEN
        for start, (said, chosen) in ((0.1, left), (0.4 + count * across, (text, places))):
            line = fitted(said, 72 * count * across, TEXT)
            figure.text(start / inches[0], (top + 0.05) / inches[1], line, fontsize=TEXT)
            for row, line in enumerate(chosen):
                for column, place in enumerate(line):
                    corner = start + column * across, top - (row + 1) * down
                    box = (*corner, across - GAP, down - GAP)
                    ax = figure.add_axes(
                        [length / inches[axis % 2] for axis, length in enumerate(box)]
                    )
                    ax.set_axis_off()
                    draw_image(ax, images[place])
        top -= len(places) * down
    return figure
