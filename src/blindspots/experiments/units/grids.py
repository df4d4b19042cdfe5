"""Rows of the images that some directions respond to most, as in figures 1 to 4.

Szegedy et al. 2013. Units stand on the left and random directions of the same features on the
right; below come the controls.
"""

import textwrap

import numpy as np
from matplotlib.figure import Figure

from blindspots.summary.fitting import fitted
from blindspots.summary.pictures import SMALL, draw_image

SMALL_SIDE, SIDE = 0.34, 0.5  # inches of an image of few pixels, and of others
GAP = 0.05  # between images, of their side
ABOVE, HEAD, MARGIN = 0.24, 0.3, 0.1  # inches: above a block, above all, around and between
TEXT = 7.5  # points of what is said of rows
TITLE = 13  # characters for each inch


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
    longest = max(images.shape[2:])
    sharp = longest <= SMALL
    inch = (SMALL_SIDE if sharp else SIDE) / longest  # of a pixel
    pictures = [[mosaic(images[left]), mosaic(images[right])] for _, left, _, right in blocks]
    scale = inch * images.shape[3] * blocks[0][1].shape[1] * (1 + GAP) / pictures[0][0].shape[2]
    across = pictures[0][0].shape[2] * scale
    heights = [picture.shape[1] * scale for picture, _ in pictures]
    width = 2 * across + 3 * MARGIN
    height = sum(heights) + ABOVE * len(blocks) + HEAD + MARGIN
    figure = Figure((width, height))
    title = textwrap.fill(title, round(TITLE * width))
    figure.suptitle(title, y=1 - MARGIN / height, va="top")
    top = height - HEAD
    for (left, _, right, _), pair, tall in zip(blocks, pictures, heights, strict=True):
        top -= ABOVE + tall
        for number, (said, picture) in enumerate(zip((left, right), pair, strict=True)):
            start = MARGIN + number * (across + MARGIN)
            line = fitted(said, 72 * across, TEXT)
            figure.text(start / width, (top + tall + 0.05) / height, line, fontsize=TEXT)
            ax = figure.add_axes(
                (start / width, top / height, across / width, tall / height), frameon=False
            )
            ax.set(xticks=[], yticks=[])
            draw_image(ax, picture, sharp)
    return figure


def mosaic(images):
    """Return images side by side as one, white between them.

    Parameters
    ----------
    images : ndarray of float, shape (rows, columns, C, H, W)
        In [0, 1]; those of few pixels are enlarged.

    Returns
    -------
    ndarray of float, shape (C, H', W')
    """
    times = max(1, SMALL // max(images.shape[3:]))
    images = images.repeat(times, 3).repeat(times, 4)
    gap = max(1, round(GAP * max(images.shape[3:])))
    padding = [(0, 0)] * 3 + [(0, gap)] * 2
    tiles = np.pad(images, padding, constant_values=1.0).transpose(2, 0, 3, 1, 4)
    channels, rows, height, columns, width = tiles.shape
    return tiles.reshape(channels, rows * height, columns * width)[:, :-gap, :-gap]
