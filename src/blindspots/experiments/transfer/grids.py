"""Grids of images beside their distorted counterparts, as in figure 7 of Szegedy et al. 2013.

Each class has a row, as long as the rows fit a page. Of more classes the first are shown that have
an image, as many as fit, beside one another; their names stand below their originals.
"""

import textwrap
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from blindspots.summary.fitting import fitted, text_width
from blindspots.summary.numbers import distortion
from blindspots.summary.pictures import SMALL, draw_image
from blindspots.summary.style import FRAME

HIGHEST = 10.5  # inches of a figure: what a page of paper takes
HEAD = 0.6  # inches above the rows
# Inches of the longer side of an image and pairs in a row, of images up to `SMALL` pixels; larger
# ones are photographs, of which more is to be seen.
SMALL_SIDE, SMALL_PAIRS = 0.75, 4
SIDE, PAIRS = 1.5, 2
GAP, LINE, NEXT_LINE = 0.01, 0.12, 0.1  # inches below an image: always, of one line, of more
NOTE, NAME = 6, 8  # points of what stands below images, and of the names of rows
NAME_WIDTH, NAME_LINES, FREE = 60, 3, 8  # points of the names of rows; those that take no room
ARROW, LOST = "→", "lost: "


@dataclass(frozen=True)
class Pair:
    """An image and its distorted counterpart.

    Attributes
    ----------
    original, distorted : ndarray of float, shape (C, H, W)
        Pixels outside [0, 1] are drawn as 0 or 1.
    label : int
        The true class.
    answer : int, optional
        The class that the model answers for the distorted image.
    rms : float, optional
        Of the distortion; with an answer.
    lost : bool
        Whether the distorted image no longer fools the model: it has a frame.
    """

    original: np.ndarray
    distorted: np.ndarray
    label: int
    answer: int | None = None
    rms: float | None = None
    lost: bool = False


@dataclass(frozen=True)
class Page:
    """How the images of a data set are laid out.

    Attributes
    ----------
    names : list of str or None
        Of the classes, where they are no numbers.
    by_class : bool
        Whether each class has a row.
    rows, pairs : int
        The most rows, and pairs in a row.
    side, height : float
        Inches of the longer side of an image, and of a row.
    lines : int
        Most lines below an image.
    """

    names: list | None
    by_class: bool
    rows: int
    pairs: int
    side: float
    height: float
    lines: int

    def name(self, label):
        """Return the name of a class."""
        return str(label) if self.names is None else self.names[label]

    def below_original(self, pair):
        """Return what stands below an original: its class, where rows have none."""
        return "" if self.by_class else self._fitted(self.name(pair.label), self.lines)

    def below_distorted(self, pair):
        """Return what stands below a distorted image: the answer and the size."""
        if pair.answer is None:
            return ""
        answer, size = f"{LOST if pair.lost else ARROW}", f"RMS {distortion(pair.rms)}"
        if self.names is None:
            return f"{answer}{pair.answer}, {size}"
        return f"{self._fitted(answer + self.name(pair.answer), 1)}\n{size}"

    def name_of_row(self, label):
        """Return the name of the row of a class."""
        return fitted(self.name(label), NAME_WIDTH, NAME, NAME_LINES)

    def _fitted(self, text, lines):
        return fitted(text, 72 * self.side, NOTE, lines)


def page_of(facts, answers):
    """Return how to lay out images of a data set.

    Parameters
    ----------
    facts : dict
        ``shape`` and ``classes`` of the data set, and ``names``, if its classes have any.
    answers : bool
        Whether pairs have an answer, which stands below the distorted image.

    Returns
    -------
    Page
    """
    _, height, width = facts["shape"]
    names, classes = facts.get("names"), facts["classes"]
    longest = max(height, width)
    side, pairs = (SMALL_SIDE, SMALL_PAIRS) if longest <= SMALL else (SIDE, PAIRS)
    lines = (2 if names else 1) if answers else 0

    def row(lines):
        text = LINE + NEXT_LINE * (lines - 1) if lines else 0
        return round(side * height / longest + GAP + text, 4)

    def most(lines):
        return int(round((HIGHEST - HEAD) / row(lines), 4))

    by_class = classes <= most(lines)
    if not by_class:
        lines = max(lines, 2 if names else 1)  # below each original stands its class
    return Page(names, by_class, most(lines), pairs, side, row(lines), lines)


def chosen(page, labels, classes, eligible=None):
    """Return the positions of the images that are shown, in rows.

    Parameters
    ----------
    page : Page
    labels : ndarray of int, shape (B,)
    classes : int
    eligible : ndarray of bool, shape (B,), optional
        Images that may be chosen.

    Returns
    -------
    list of ndarray of int
        With a row for each class at most ``page.pairs`` of each; else those of the first classes
        that have any, the same number of each as far as they have.
    """
    first = first_of_each_class(labels, classes, page.pairs, eligible)
    if page.by_class:
        return first
    cells = page.rows * page.pairs
    present = [positions for positions in first if len(positions)][:cells]
    each = cells // max(1, len(present))
    places = np.concatenate([np.zeros(0, int), *(positions[:each] for positions in present)])
    starts = range(0, max(1, len(places)), page.pairs)
    return [places[start : start + page.pairs] for start in starts]


def first_of_each_class(labels, classes, count, eligible=None):
    """Return positions of the first images of each class.

    Parameters
    ----------
    labels : ndarray of int, shape (B,)
    classes, count : int
    eligible : ndarray of bool, shape (B,), optional
        Images that may be chosen.

    Returns
    -------
    list of ndarray of int
        At most ``count`` positions for each class.
    """
    eligible = np.ones(len(labels), bool) if eligible is None else eligible
    return [np.flatnonzero((labels == label) & eligible)[:count] for label in range(classes)]


def example_grid(page, rows, title):
    """Show images beside their distorted counterparts: odd columns are originals.

    Parameters
    ----------
    page : Page
    rows : list of list of Pair
        With a row for each class, in the order of the classes.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    pairs = max(1, *(len(row) for row in rows))
    names = [page.name_of_row(label) if page.by_class else "" for label in range(len(rows))]
    widest = max(text_width(line, NAME) for name in names for line in name.split("\n"))
    margin = max(0, widest - FREE) / 72
    width = 2 * page.side * pairs
    figure = Figure((width + 0.4 + margin, page.height * len(rows) + HEAD), layout="constrained")
    figure.get_layout_engine().set(
        w_pad=0.01, h_pad=0.01, wspace=0, hspace=0, rect=(0.01, 0.01, 0.98, 0.98)
    )
    axes = figure.subplots(len(rows), 2 * pairs, squeeze=False)
    for line, name, row in zip(axes, names, rows, strict=True):
        for ax in line:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for column, pair in enumerate(row):
            shown = (
                (pair.original, page.below_original(pair)),
                (pair.distorted, page.below_distorted(pair)),
            )
            for ax, (image, text) in zip(line[2 * column :], shown, strict=False):
                draw_image(ax, image)
                ax.set_xlabel(text, fontsize=NOTE, labelpad=1.5)
            if pair.lost:
                frame = line[2 * column + 1].spines
                frame[:].set(visible=True, color=FRAME, linewidth=1.5)
    for column, ax in enumerate(axes[0]):
        ax.set_title(("original", "distorted")[column % 2], fontsize=7, pad=3)
    figure.suptitle(textwrap.fill(title, round(40 / 3 * width)))
    return figure
